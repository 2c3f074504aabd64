"""Events → candidates for steps that no range surrounds.

* `Optimizer.step#...` and kernels of optimizers end a step. Several of them are one if no backward runs between them, or if
  they recur in a fixed pattern (two optimizers, each after its own backward).
* In a pipeline the first forward of the first microbatch begins a step, with the receive before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from traceanalyzer.tables.steps.candidates import PLACE, Candidate, conform_ranges

OPTIMIZER_RANGE = r"^Optimizer\.step#"
OPTIMIZER_KERNEL = r"(?i)adam|adagrad|lambstage|sgd|multi_tensor_apply"
_AUTOGRAD = "autograd::engine::evaluate_function"
_LAUNCHES = ["cuda_runtime", "cuda_driver", "runtime"]
_DEVICE = ["kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset"]
_LONGEST_PATTERN = 4
"""Optimizers of one step that are distinguished by their pattern."""
_ALIKE = 0.1
"""Numbers of backward operators that differ by less are the same backward."""
_SHORT_GAP = 0.25
"""Of the longest gap between two optimizers: a shorter one holds no backward, where nothing else shows it."""
_ACTION = r"^(?:compute:|PP:)?(?:(?P<stage>\d+)F(?P<microbatch>\d+)|Forward (?P<number>\d+))$"
_RECEIVE = r"^PP:\d+RECV_F\d+$"


@dataclass(frozen=True, slots=True)
class _Group:
    """Optimizers between two backwards."""

    names: tuple[str, ...]
    num_backward: int
    """Backward operators since the group before."""
    start_ns: int
    end_ns: int


def optimizer_steps(events: pl.DataFrame, notes: pl.DataFrame, bounds: pl.DataFrame) -> Candidate | None:
    """Steps that end with ranges of the optimizer; None without any.

    `notes` are ranges of main threads (`rank`, `cycle`, `thread`, `name`, `start_ns`, `end_ns`), `bounds` is the first and last
    moment of each (`rank`, `cycle`, `start_ns`, `end_ns`).
    """
    found = notes.filter(pl.col("name").str.contains(OPTIMIZER_RANGE)).sort(
        *PLACE, "start_ns", "end_ns", descending=[False, False, False, True]
    )
    outer = pl.col("end_ns") > pl.col("end_ns").cum_max().shift(1).over(PLACE).fill_null(-(1 << 63))
    return _ending("Optimizer.step", found.filter(outer), events, bounds)


def optimizer_kernel_steps(events: pl.DataFrame, notes: pl.DataFrame, bounds: pl.DataFrame) -> Candidate | None:
    """Steps that end with kernels of the optimizer, by the calls that launched them; None without any."""
    del notes
    device = events.filter((pl.col("ph") == "X") & pl.col("category").cast(pl.String).is_in(_DEVICE[:1]))
    names = device.select(pl.col("name").unique().cast(pl.String)).filter(pl.col("name").str.contains(OPTIMIZER_KERNEL))
    if names.is_empty():
        return None
    kernels = device.filter(pl.col("name").cast(pl.String).is_in(names["name"].to_list()))
    launches = _host_calls(events).select(*PLACE, "correlation", "start_ns", "end_ns").drop_nulls("correlation")
    found = (
        launches.join(kernels.select(*PLACE, "correlation"), on=[*PLACE, "correlation"], how="semi")
        .with_columns(pl.lit("").alias("name"))
        .sort(*PLACE, "start_ns")
    )
    return _ending("optimizer kernels", found, events, bounds)


def action_steps(notes: pl.DataFrame, bounds: pl.DataFrame, pattern: str | None) -> Candidate | None:
    """Steps that begin with a rank's first forward of the first microbatch; None if actions are not numbered."""
    forwards = pl.concat([_forwards(notes, text) for text in (_ACTION, pattern) if text is not None])
    if forwards.is_empty():
        return None
    microbatch = pl.col("microbatch")
    of_first = forwards.filter(microbatch == microbatch.min().over(PLACE)).with_columns(pl.col("stage").fill_null(0))
    stage = pl.col("stage")
    anchors = of_first.filter(stage == stage.min().over(PLACE)).sort(*PLACE, "start_ns")
    begun = _with_receives(anchors, notes)
    following = pl.col("start_ns").shift(-1).over(PLACE)
    last = bounds.select(*PLACE, pl.col("end_ns").alias("_last"))
    ranges = begun.join(last, on=PLACE).with_columns(pl.coalesce(following, "_last").alias("end_ns"))
    return Candidate("actions", conform_ranges(ranges), ends_recorded=False)


def _forwards(notes: pl.DataFrame, pattern: str) -> pl.DataFrame:
    """Forwards whose names show their microbatch: `rank`, `cycle`, `stage`, `microbatch`, `start_ns`."""
    groups = notes["name"].str.extract_groups(pattern).alias("_p").struct.unnest()
    parts = groups.with_columns(
        [
            pl.lit(None, pl.String).alias(name)
            for name in ("stage", "microbatch", "number", "phase")
            if name not in groups.columns
        ]
    )
    rows = pl.concat(
        [notes.select(*PLACE, "start_ns"), parts.select("stage", "microbatch", "number", "phase")], how="horizontal"
    )
    is_forward = pl.col("phase").str.to_lowercase().str.starts_with("f").fill_null(value=True)
    return (
        rows.with_columns(
            pl.col("stage").cast(pl.Int32, strict=False),
            pl.coalesce("microbatch", "number").cast(pl.Int32, strict=False).alias("microbatch"),
        )
        .filter(pl.col("microbatch").is_not_null() & is_forward)
        .select(*PLACE, "stage", "microbatch", "start_ns")
    )


def _with_receives(anchors: pl.DataFrame, notes: pl.DataFrame) -> pl.DataFrame:
    """Anchors that begin with the last receive of forwards before them, if no action lies between."""
    labels = notes.filter(pl.col("name").str.contains(r"^(?:PP:|compute:|Forward |Backward )"))
    runs = labels.sort(*PLACE, "start_ns").with_columns(pl.col("name").str.contains(_RECEIVE).alias("_receives"))
    changed = pl.col("_receives").ne_missing(pl.col("_receives").shift(1)).over(PLACE)
    begin = (
        runs.with_columns(changed.cum_sum().over(PLACE).alias("_run"))
        .with_columns(pl.col("start_ns").min().over(*PLACE, "_run").alias("_from"))
        .select(*PLACE, "start_ns", pl.when("_receives").then("_from").alias("_from"))
        .sort("start_ns")
    )
    placed = anchors.sort("start_ns").join_asof(
        begin, on="start_ns", by=PLACE, strategy="backward", allow_exact_matches=False, check_sortedness=False
    )
    return placed.with_columns(
        pl.col("start_ns").alias("at_ns"), pl.coalesce("_from", "start_ns").alias("start_ns")
    ).sort(*PLACE, "start_ns")


def _ending(basis: str, found: pl.DataFrame, events: pl.DataFrame, bounds: pl.DataFrame) -> Candidate | None:
    """Steps from one group of optimizers to the next; a lone one closes the step that is the whole capture."""
    if found.is_empty():
        return None
    backward = _backward_times(events)
    limits = {(rank, cycle): (start, end) for rank, cycle, start, end in bounds.iter_rows()}
    rows: list[tuple[int, int, int, int, int]] = []
    for (rank, cycle), part in found.group_by(PLACE, maintain_order=True):
        key = (int(str(rank)), int(str(cycle)))
        groups = _patterns(_groups(part, backward.get(key)))
        before, last = limits[key]
        for group in groups:
            rows.append((*key, before, last if len(groups) == 1 else group.end_ns, group.start_ns))
            before = group.end_ns
    frame = pl.DataFrame(rows, schema=[*PLACE, "start_ns", "end_ns", "at_ns"], orient="row")
    return Candidate(basis, conform_ranges(frame), starts_recorded=False)


def _groups(part: pl.DataFrame, backward: np.ndarray | None) -> list[_Group]:
    """Optimizers of one rank and cycle, those without a backward between them as one."""
    starts, ends = part["start_ns"].to_numpy(), part["end_ns"].to_numpy()
    before = np.zeros(len(starts), dtype=np.int64) if backward is None else np.searchsorted(backward, starts)
    if backward is None:
        gaps = starts[1:] - ends[:-1]
        longer = np.maximum(ends[1:] - starts[1:], ends[:-1] - starts[:-1])
        opens = (gaps > _SHORT_GAP * gaps.max(initial=0)) & (gaps > longer)
    else:
        opens = np.diff(before) > 0
    edges = [0, *(np.flatnonzero(opens) + 1).tolist(), len(starts)]
    names, groups, counted = part["name"].to_list(), list[_Group](), 0
    for low, high in pairwise(edges):
        count = int(before[low]) - counted
        groups.append(_Group(tuple(names[low:high]), count, int(starts[low]), int(ends[high - 1])))
        counted = int(before[low])
    return groups


def _patterns(groups: Sequence[_Group]) -> list[_Group]:
    """Groups that recur in a pattern of two or more, joined; one by one where they are all alike or follow none."""
    length = _pattern_length(groups)
    return [_joined(groups[at : at + length]) for at in range(0, len(groups) - length + 1, length)]


def _pattern_length(groups: Sequence[_Group]) -> int:
    """How many groups are one step: as many as have nothing in common, or as alternate in size, until they recur.

    Optimizers none of which recurs are one step, but an optimizer that runs after every backward closes a step each time.
    The backward before the first group may be cut: it is not compared.
    """
    for length in range(1, min(_LONGEST_PATTERN, len(groups)) + 1):
        names = [name for group in groups[:length] for name in group.names]
        is_apart = len(set(names)) == len(names) and length > 1
        is_alike = len({group.names for group in groups[:length]}) == 1
        enough = len(groups) >= length if is_apart else len(groups) > (2 * length if length > 1 else 1)
        if not enough or not (is_apart or is_alike):
            continue
        same_names = all(a.names == b.names for a, b in zip(groups, groups[length:], strict=False))
        if same_names and all(_alike(a, b) for a, b in zip(groups[1:], groups[1 + length :], strict=False)):
            return length
    return 1


def _alike(one: _Group, other: _Group) -> bool:
    most = max(one.num_backward, other.num_backward)
    return abs(one.num_backward - other.num_backward) <= _ALIKE * most


def _joined(groups: Sequence[_Group]) -> _Group:
    names = tuple(name for group in groups for name in group.names)
    return _Group(names, sum(group.num_backward for group in groups), groups[0].start_ns, groups[-1].end_ns)


def _backward_times(events: pl.DataFrame) -> dict[tuple[int, int], np.ndarray]:
    """Sorted starts of backward work by rank and cycle.

    It is what autograd evaluates; where no operators were recorded, what threads launch that did not launch first.
    """
    operators = events.filter((pl.col("ph") == "X") & (pl.col("category") == "cpu_op"))
    names = operators.select(pl.col("name").unique().cast(pl.String)).filter(pl.col("name").str.starts_with(_AUTOGRAD))
    chosen = operators.filter(pl.col("name").cast(pl.String).is_in(names["name"].to_list())).select(*PLACE, "start_ns")
    calls = _host_calls(events).filter(pl.col("name").cast(pl.String).str.contains("Launch"))
    main = pl.col("thread").cast(pl.String).sort_by("start_ns").first().over(PLACE)
    launched = calls.filter(pl.col("thread").cast(pl.String) != main).select(*PLACE, "start_ns")
    rows = pl.concat([chosen, launched.join(chosen, on=PLACE, how="anti")])
    return {
        (int(str(rank)), int(str(cycle))): part["start_ns"].sort().to_numpy()
        for (rank, cycle), part in rows.group_by(PLACE)
    }


def _host_calls(events: pl.DataFrame) -> pl.DataFrame:
    found = events.filter((pl.col("ph") == "X") & pl.col("category").cast(pl.String).is_in(_LAUNCHES))
    return found.with_columns((pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))
