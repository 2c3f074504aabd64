"""Groups of context parallelism whose causal attention is uneven because each member holds one contiguous part.

Member i of c then attends to (2i + 1) / c of the mean, and the last one to 2 - 1/c of it (closed form for many tokens).
Cut into 2c parts of which member i holds parts i and 2c - 1 - i (zig-zag), all attend to the same. A group is recognised as
contiguous where attention over other computation follows the closed form on every member; a slow device lengthens both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.gaps.culprits.peers import median_of_others
from traceanalyzer.gaps.culprits.price import spread, step_weights
from traceanalyzer.gaps.culprits.program_graph import ProgramGraph
from traceanalyzer.measurements.communication.programs import COMPUTING, Programs
from traceanalyzer.review import SequenceBalance

MAX_DEVIATION = 0.15
"""Of the closed form, on every member."""
MAX_EXPOSED = 0.5
"""Of the messages round a ring, in number, on the member with most attention."""
_KEY = ["rank", "step", "operation"]


@dataclass(frozen=True, slots=True)
class CausalAttention:
    """Attention of the members of contiguous groups."""

    groups: tuple[tuple[int, ...], ...] = ()
    by_segment: pl.DataFrame | None = None
    """`rank`, `step`, `operation`, `attention_ns`."""
    hidden: pl.DataFrame | None = None
    """`rank`, `operation` of messages round a ring that the fullest member hides behind its attention."""


def context_groups(splits: pl.DataFrame, messages: pl.DataFrame) -> list[list[int]]:
    """Members of the groups that serve context parallelism, from `COLLECTIVE_SPLITS` and `P2P_SPLITS`."""
    rows = pl.concat([each.select("group", pl.col("role").cast(pl.String)) for each in (splits, messages)])
    names = rows.filter((pl.col("role") == "cp") & pl.col("group").is_not_null())["group"].unique().sort()
    return [[int(rank) for rank in name.split(",")] for name in names if "," in name]


def causal_attention(kernels: pl.DataFrame, found: Programs, groups: Sequence[list[int]]) -> CausalAttention:
    """Groups whose attention follows the closed form of contiguous parts; `kernels` is `KERNELS`."""
    members = {rank for group in groups for rank in group}
    own = kernels.filter(
        pl.col("rank").is_in(list(members))
        & pl.col("step").is_not_null()
        & pl.col("kind").cast(pl.String).is_in(COMPUTING)
    ).select(
        "rank",
        "step",
        pl.coalesce("launch_start_ns", "start_ns").alias("_launched_ns"),
        (pl.col("kind").cast(pl.String) == "attention").alias("_attends"),
        (pl.col("end_ns") - pl.col("start_ns")).alias("_ns"),
    )
    totals = own.group_by("rank").agg(
        pl.col("_ns").filter("_attends").sum().alias("attention"),
        pl.col("_ns").filter(~pl.col("_attends")).sum().alias("other"),
    )
    by_rank = {int(rank): (int(attention), int(other)) for rank, attention, other in totals.iter_rows()}
    contiguous = tuple(
        tuple(group) for group in groups if _is_contiguous([by_rank.get(rank, (0, 0)) for rank in group])
    )
    if not contiguous:
        return CausalAttention()
    before = found.operations.select("rank", "_launched_ns", (pl.col("operation") + 1).alias("operation"))
    placed = own.filter("_attends").sort("_launched_ns").join_asof(
        before.sort("_launched_ns"), on="_launched_ns", by="rank", strategy="backward", check_sortedness=False
    )  # fmt: skip
    by_segment = placed.group_by(
        pl.col("rank", "step").cast(pl.Int64), pl.col("operation").fill_null(0).cast(pl.Int64)
    ).agg(pl.col("_ns").sum().cast(pl.Int64).alias("attention_ns"))
    by_segment = by_segment.filter(pl.col("rank").is_in([rank for group in contiguous for rank in group]))
    return CausalAttention(contiguous, by_segment, _hidden(found, contiguous))


def _hidden(found: Programs, groups: Sequence[tuple[int, ...]]) -> pl.DataFrame:
    """Messages of groups on whose last member few of them release a block: it has attention to hide them behind."""
    ring = found.operations.filter((pl.col("kind") == "send_recv") & (pl.col("role") == "cp"))
    released = found.blocks.select("rank", pl.col("released_by").alias("operation")).drop_nulls().unique()
    exposed = ring.join(released, on=["rank", "operation"], how="semi").group_by("rank").len("exposed")
    shares = ring.group_by("rank").len("num").join(exposed, on="rank", how="left")
    few = set(shares.filter(pl.col("exposed").fill_null(0) <= MAX_EXPOSED * pl.col("num"))["rank"])
    members = [rank for group in groups if group[-1] in few for rank in group]
    return ring.filter(pl.col("rank").is_in(members)).select(pl.col("rank", "operation").cast(pl.Int64))


def _is_contiguous(members: Sequence[tuple[int, int]]) -> bool:
    """From attention and other computation of every member, in the order of the group."""
    if not all(attention and other for attention, other in members):
        return False
    shares = np.array([attention / other for attention, other in members])
    expected = closed_form(len(members))
    return bool((np.abs(shares / shares.mean() - expected) <= MAX_DEVIATION * expected).all())


def closed_form(size: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Attention of every member of a contiguous group over the mean."""
    return (2 * np.arange(size, dtype=np.float64) + 1) / size


def with_causal_base(segments: pl.DataFrame, causal: CausalAttention) -> pl.DataFrame:
    """`segments` whose base grants every member of a contiguous group the attention that its part needs."""
    if causal.by_segment is None:
        return segments
    rows = segments.join(causal.by_segment, on=_KEY, how="left", maintain_order="left").with_columns(
        pl.col("attention_ns").fill_null(0)
    )
    rest = rows.with_columns((pl.col("compute_ns") - pl.col("attention_ns")).clip(lower_bound=0).alias("_rest"))
    factors = _factors(rows, causal)
    base = median_of_others(rest, "_rest", ["peers", "step", "place"]) + pl.col("attention_ns") * pl.col("_factor")
    known = pl.col("_factor").is_not_null() & pl.col("base_compute_ns").is_not_null()
    return (
        rows.join(factors, on="rank", how="left", maintain_order="left")
        .with_columns(
            pl.when(known).then(base.round().cast(pl.Int64)).otherwise("base_compute_ns").alias("base_compute_ns")
        )
        .drop("attention_ns", "_factor")
    )


def _factors(rows: pl.DataFrame, causal: CausalAttention) -> pl.DataFrame:
    """`rank`, `_factor`: what the other members' attention for this part would take over the rank's own."""
    totals = dict(rows.group_by("rank").agg(pl.col("attention_ns").sum()).iter_rows())
    found: list[tuple[int, float]] = []
    for group in causal.groups:
        parts = closed_form(len(group))
        own = np.array([totals.get(rank, 0) for rank in group]) / parts
        found += [
            (rank, float(np.median(np.delete(own, at)) / own[at])) for at, rank in enumerate(group) if own[at] > 0
        ]
    return pl.DataFrame(found, schema={"rank": pl.Int64, "_factor": pl.Float64}, orient="row")


def sequence_balance(
    graph: ProgramGraph, segments: pl.DataFrame, causal: CausalAttention, step_ns: float, *, priced: bool
) -> list[SequenceBalance]:
    """Contiguous groups with what the zig-zag layout of all of them saves; null if the replay is far off."""
    if causal.by_segment is None:
        return []
    saving = _saving(graph, segments, causal, step_ns) if priced else None
    totals = dict(causal.by_segment.group_by("rank").agg(pl.col("attention_ns").sum()).iter_rows())
    found: list[SequenceBalance] = []
    for group in causal.groups:
        own = np.array([totals.get(rank, 0) for rank in group], dtype=np.float64)
        found.append(
            SequenceBalance(
                ranks=list(group),
                max_over_mean=float(own.max() / own.mean()),
                closed_form_max_over_mean=2 - 1 / len(group),
                ms=None if saving is None else saving / 1e6,
                share_of_step=None if saving is None else saving / step_ns,
            )
        )
    return found


def _saving(graph: ProgramGraph, segments: pl.DataFrame, causal: CausalAttention, step_ns: float) -> float:
    """Replayed with every member's attention at the mean of its group, shared over the places as the largest member's is."""
    homes = {rank: at for at, group in enumerate(causal.groups) for rank in group}
    attention = segments.filter(pl.col("rank").is_in(list(homes))).select(*_KEY, "place").join(
        causal.by_segment if causal.by_segment is not None else segments.clear(), on=_KEY, how="left"
    ).with_columns(pl.col("attention_ns").fill_null(0), pl.col("rank").replace_strict(homes).alias("_group"))  # fmt: skip
    sizes = pl.col("rank").n_unique().over("_group")
    largest = pl.col("attention_ns").max().over("_group", "step", "place")
    mean = pl.col("attention_ns").sum().over("_group", "step") / sizes
    whole = largest.sum().over("_group", "step") / sizes
    evened = (mean * largest / whole).fill_nan(0.0).round().cast(pl.Int64)
    change = attention.with_columns((evened - pl.col("attention_ns")).alias("_change")).select(*_KEY, "_change")
    rows = graph.nodes.join(change, on=_KEY, how="left", maintain_order="left")
    computed = pl.col("compute_ns").sum().over(_KEY)
    first = (pl.int_range(pl.len()).over(_KEY) == 0).cast(pl.Float64)
    share = pl.when(computed > 0).then(pl.col("compute_ns") / computed).otherwise(first)
    added = rows.select((pl.col("_change").fill_null(0) * share).round().cast(pl.Int64)).to_series().to_numpy()
    own = step_weights(graph)
    evenly = own + added - _behind_attention(graph, attention.with_columns(evened.alias("_evened")), causal)
    lengths = graph.lengths(np.stack([own, np.maximum(evenly, 0)], axis=1))
    return spread(lengths[:, 0] - lengths[:, 1], step_ns).ns


def _behind_attention(graph: ProgramGraph, evened: pl.DataFrame, causal: CausalAttention) -> npt.NDArray[np.int64]:
    """What of every message round a ring passes while the member computes the attention of the turn after it."""
    if causal.hidden is None:
        return np.zeros(graph.nodes.height, dtype=np.int64)
    following = evened.select("rank", pl.col("operation") - 1, pl.col("_evened")).join(
        causal.hidden, on=["rank", "operation"]
    )
    rows = graph.nodes.join(
        following.unique(["rank", "operation"]), on=["rank", "operation"], how="left", maintain_order="left"
    )
    return rows.select(pl.min_horizontal("fixed_ns", pl.col("_evened").fill_null(0))).to_series().to_numpy()
