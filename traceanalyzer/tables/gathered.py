"""Events → what is taken of each rank's own files, so that events of one group of ranks are in memory at a time.

A run is gone through twice: the first time for its steps, which all ranks must agree on, then for everything that belongs to
a step. What later tables need of the events is little where a device did the work: the ranges of the training loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from traceanalyzer.tables.communication.calls import calls
from traceanalyzer.tables.computation.kernels import DEVICE_CATEGORIES, kernels, with_launch_clocks
from traceanalyzer.tables.computation.missing import missing_kernels, ranks_without_kernels
from traceanalyzer.tables.computation.taxonomy import KernelRule
from traceanalyzer.tables.steps.basis import FoundSteps, find_steps
from traceanalyzer.tables.steps.ends import OPTIMIZER_KERNEL
from traceanalyzer.tables.steps.main_threads import on_main_thread
from traceanalyzer.traces import Recorded, apart
from traceanalyzer.traces.kineto.accelerators import in_common_terms

_OF_MARKS = ["rank", "cycle", "ph", "category", "name", "thread", "start_ns", "duration_ns", "correlation"]
_EVENT = ["rank", "cycle", "index"]
_IN_TIME = ("rank", "cycle", "start_ns", "index")
_ORDERS = (_IN_TIME, ("rank", "cycle", "start_ns", "call"), ("rank", "launch_start_ns"), _IN_TIME)
"""Of kernels, calls, missing kernels and events."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Of all ranks that are measured, on the ranks' own clocks."""

    found: FoundSteps
    unrecorded: pl.DataFrame
    """`rank`, `unread` of ranks whose device recorded nothing; they are not measured."""
    kernels: pl.DataFrame
    """`KERNELS`."""
    calls: pl.DataFrame
    """`CALLS`."""
    missing: pl.DataFrame
    """`MISSING_KERNELS`."""
    rest: pl.DataFrame
    """`EVENTS`: all of ranks without kernels; of others the ranges of their main thread and events without category, or all
    where the job labels its actions in its own way."""


def gathered(
    recorded: Recorded, ranks: pl.DataFrame, pattern: str | None = None, rules: Sequence[KernelRule] = ()
) -> Gathered:
    """Everything that is taken of single events. `ranks` is `RANKS`; `pattern` and `rules` are as `build_tables` has them."""
    whole = None if _is_large(recorded) else [_in_terms(part) for part in recorded.parts()]

    def parts() -> Iterable[tuple[pl.DataFrame, pl.DataFrame]]:
        return whole if whole is not None else map(_in_terms, recorded.parts())

    def taken_of(part: tuple[pl.DataFrame, pl.DataFrame]) -> Sequence[pl.DataFrame]:
        own = _taken(part[0], ranks, found, pattern, rules)
        return own if whole is not None else [apart(frame) for frame in own]

    # `map` holds no part while it reads the next one; a loop's variable would
    marks, unread = zip(*map(_marked, parts()), strict=True)
    found = find_steps(pl.concat(marks), pattern)
    taken = list(map(taken_of, parts()))
    together = [
        _together(frames, keys, recorded) for frames, keys in zip(zip(*taken, strict=True), _ORDERS, strict=True)
    ]
    return Gathered(found, pl.concat(unread), *together)


def _is_large(recorded: Recorded) -> bool:
    """Whether its events are read anew each time that they are gone through."""
    return len(recorded.batches or recorded.groups) > 1


def _in_terms(part: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events of ranks that are measured, in the terms of `KERNELS`, on their hosts' clocks; `rank`, `unread` of the other ranks."""
    events = in_common_terms(part)
    unrecorded = ranks_without_kernels(events)
    return with_launch_clocks(events).join(unrecorded, on="rank", how="anti", maintain_order="left"), unrecorded


def _together(frames: Sequence[pl.DataFrame], keys: Sequence[str], recorded: Recorded) -> pl.DataFrame:
    found = pl.concat(frames)
    is_ordered = all(max(one) < min(following) for one, following in pairwise(recorded.batches or recorded.groups))
    return found if is_ordered else found.sort(*keys, nulls_last=True)


def _marked(part: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    return _marks(part[0]), part[1]


def _marks(events: pl.DataFrame) -> pl.DataFrame:
    """What `find_steps` looks at: no device work but that of optimizers, and at least one row per rank."""
    category, name = pl.col("category").cast(pl.String), pl.col("name").cast(pl.String)
    of_device = category.is_in([*DEVICE_CATEGORIES, "gpu_user_annotation"]).fill_null(value=False)
    kept = (pl.col("ph") == "X") & (~of_device | name.str.contains(OPTIMIZER_KERNEL))
    first = pl.int_range(pl.len()).over("rank") == 0
    return events.filter(kept | first).select(_OF_MARKS)


def _taken(
    events: pl.DataFrame, ranks: pl.DataFrame, found: FoundSteps, pattern: str | None, rules: Sequence[KernelRule]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    on_device = kernels(events, rules, found.ranges)
    rest = events if pattern is not None else _rest(events, on_device)
    return on_device, calls(events, ranks), missing_kernels(events, found.ranges), rest


def _rest(events: pl.DataFrame, on_device: pl.DataFrame) -> pl.DataFrame:
    """All events of ranks without kernels; of others what `user_ranges` reads."""
    mine = events.join(on_device, on="rank", how="anti", maintain_order="left")
    others = events.join(on_device, on="rank", how="semi", maintain_order="left")
    ranges = on_main_thread(others).filter(pl.col("category") == "user_annotation").select(_EVENT)
    plain = others.filter((pl.col("ph") == "X") & pl.col("category").is_null()).select(_EVENT)
    kept = others.join(pl.concat([ranges, plain]), on=_EVENT, how="semi", maintain_order="left")
    return pl.concat([mine, kept])
