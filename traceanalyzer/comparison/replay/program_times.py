"""What every rank's program takes, piece by piece, and a replay of the new run with pieces at the old run's times.

A *segment* is what a rank does before one operation of its step's program (a collective or message), and that operation's
transfer. Its level is the median over the typical steps of a run. In a replay a segment is moved by the difference of two
levels, so every step keeps its own chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.comparison.side import Side
from traceanalyzer.comparison.views.waterfalls import kernel_name
from traceanalyzer.gaps.culprits.culprits import MAX_OPERATIONS
from traceanalyzer.gaps.culprits.expert_work import EXPERTS_BETWEEN
from traceanalyzer.gaps.culprits.price import step_weights
from traceanalyzer.gaps.culprits.program_graph import ProgramGraph, program_graph
from traceanalyzer.measurements.communication.programs import COMPUTING, programs

PARTS = ["compute_ns", "host_ns", "other_ns", "fixed_ns"]
"""Computation, late launches, other delays, transfers."""
SEGMENT = ["rank", "place"]
_STEP = ["rank", "step", "operation"]

Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ProgramTimes:
    """The program of one side."""

    graph: ProgramGraph
    nodes: pl.DataFrame
    """`NODES` with `place` of the segment in its step, in the graph's order."""
    operations: pl.DataFrame
    """`rank`, `place`, `kind`, `role`, `direction`, `members`, `ends` (ranks that exchange), `is_experts`, `bytes`, `number`
    (steps that have it): one row per place of a rank's program."""
    segments: pl.DataFrame
    """`rank`, `place` and the median of each of `PARTS`."""
    cells: pl.DataFrame
    """`rank`, `place`, `kernel`, `shape`, `key`, `ns` (median over steps), `number`: computing kernels by segment."""
    measured_ns: tuple[int, ...]
    is_steady: bool
    """Every typical step runs the same operations: only then is a place the same in all of them."""

    def lengths(self, changes: Sequence[Array]) -> Array:
        """Length of every typical step as it is, and with each of `changes` (per node) made: steps × (1 + changes)."""
        own = step_weights(self.graph)
        columns = [own, *(np.maximum(own + change, 0) for change in changes)]
        return self.graph.lengths(np.stack(columns, axis=1))


def program_times(side: Side) -> ProgramTimes | None:
    """The program of a side; None without kernels and communication, or where it cannot be put in order."""
    kernels, splits, messages = (side.table(name) for name in ("kernels", "collectives", "p2p"))
    windows = side.windows
    if kernels.is_empty() or windows.is_empty() or splits.height + messages.height > MAX_OPERATIONS:
        return None
    found = programs(kernels, splits, messages, side.table("actions"))
    graph = program_graph(found)
    if graph is None:
        return None
    typical = sorted(windows["step"].unique())
    graph = replace(graph, judged=frozenset(typical))
    first = found.operations.group_by("rank", "step").agg(pl.col("operation").min().alias("_first"))
    first = first.cast({"rank": pl.Int64, "step": pl.Int64})
    nodes = (
        graph.nodes.join(first, on=["rank", "step"], how="left", maintain_order="left")
        .with_columns((pl.col("operation") - pl.col("_first").fill_null(0)).alias("place"))
        .drop("_first")
    )
    whole = nodes.filter(pl.col("step").is_in(typical)).group_by("rank", "step", "place").agg(pl.col(PARTS).sum())
    return ProgramTimes(
        graph=graph,
        nodes=nodes,
        operations=_places(found.operations, splits, messages, first, typical),
        segments=medians(whole, SEGMENT, PARTS, typical),
        cells=_cells(kernels, found.operations, first, typical),
        measured_ns=tuple(side.step_lengths_ns),
        is_steady=_is_steady(found.operations.filter(pl.col("step").is_in(typical))),
    )


def medians(rows: pl.DataFrame, keys: Sequence[str], columns: Sequence[str], steps: Sequence[int]) -> pl.DataFrame:
    """Median of each column over all steps; a step without a row counts as 0."""
    grid = rows.select(keys).unique().join(pl.DataFrame({"step": steps}, schema={"step": pl.Int64}), how="cross")
    full = grid.join(rows, on=[*keys, "step"], how="left", nulls_equal=True).with_columns(pl.col(columns).fill_null(0))
    return full.group_by(keys).agg(pl.col(columns).median().round().cast(pl.Int64)).sort(keys)


def _cells(kernels: pl.DataFrame, operations: pl.DataFrame, first: pl.DataFrame, typical: list[int]) -> pl.DataFrame:
    """Computing kernels by the segment in which they were launched."""
    launched = pl.coalesce("launch_start_ns", "start_ns").alias("_launched_ns")
    rows = kernels.filter(pl.col("kind").cast(pl.String).is_in(COMPUTING) & pl.col("step").is_in(typical)).select(
        "rank", "step", kernel_name().alias("key"), pl.col("name").cast(pl.String).alias("kernel"),
        pl.col("shape").cast(pl.String), (pl.col("end_ns") - pl.col("start_ns")).alias("ns"), launched,
    )  # fmt: skip
    before = operations.select("rank", "_launched_ns", (pl.col("operation") + 1).alias("operation")).sort(
        "_launched_ns"
    )
    placed = (
        rows.sort("_launched_ns")
        .join_asof(before, on="_launched_ns", by="rank", strategy="backward", check_sortedness=False)
        .with_columns(pl.col("operation").fill_null(0).cast(pl.Int64), pl.col("rank", "step").cast(pl.Int64))
        .join(first, on=["rank", "step"], how="left")
        .with_columns((pl.col("operation") - pl.col("_first").fill_null(0)).alias("place"))
    )
    keys = ["rank", "place", "key", "kernel", "shape"]
    by_step = placed.group_by(*keys, "step").agg(pl.col("ns").sum(), pl.len().cast(pl.Int64).alias("number"))
    numbers = by_step.group_by(keys).agg((pl.col("number").sum() / len(typical)).alias("number"))
    return medians(by_step, keys, ["ns"], typical).join(
        numbers, on=keys, how="left", nulls_equal=True, maintain_order="left"
    )


def _places(
    operations: pl.DataFrame, splits: pl.DataFrame, messages: pl.DataFrame, first: pl.DataFrame, typical: list[int]
) -> pl.DataFrame:
    """One row per place of every rank's program."""
    keyed = ["rank", "index"]
    collective = splits.select(
        *keyed, pl.col("group").alias("members"), pl.max_horizontal("send_bytes", "receive_bytes").alias("_bytes"),
        pl.col("direction").cast(pl.String).alias("_way"), pl.col("receive_bytes").alias("_received"),
    )  # fmt: skip
    ends = messages.group_by(keyed).agg(
        pl.col("peer").unique().sort().alias("_peers"),
        pl.col("bytes").max().alias("_message_bytes"),
    )
    rows = (
        operations.filter(pl.col("step").is_in(typical))
        .join(collective.unique(keyed), on=keyed, how="left", maintain_order="left")
        .join(ends, on=keyed, how="left", maintain_order="left")
        .with_columns(pl.col("rank", "step").cast(pl.Int64), pl.coalesce("_way", "direction").alias("direction"))
        .join(first, on=["rank", "step"], how="left", maintain_order="left")
        .sort("rank", "operation")
        .with_columns((pl.col("operation") - pl.col("_first")).alias("place"))
    )
    pair = pl.concat_str(pl.col("direction").shift(1).over("rank"), pl.lit(">"), "direction")
    peers = pl.col("_peers").cast(pl.List(pl.String)).list.join(",")
    return (
        rows.with_columns(
            pair.is_in(EXPERTS_BETWEEN).fill_null(value=False).alias("is_experts"),
            pl.coalesce("members", pl.concat_str(pl.col("rank").cast(pl.String), pl.lit(","), peers)).alias("members"),
            pl.coalesce("_bytes", "_message_bytes").alias("bytes"),
        )
        .group_by("rank", "place")
        .agg(
            pl.col("kind", "role", "direction", "members", "is_experts").first(),
            pl.col("bytes").median(),
            pl.col("_received").median().alias("received_bytes"),
            pl.len().cast(pl.Int64).alias("number"),
        )
        .sort("rank", "place")
    )


def _is_steady(operations: pl.DataFrame) -> bool:
    what = pl.concat_str("kind", pl.col("role").fill_null(""), separator="/")
    by_step = (
        operations.sort("rank", "operation")
        .group_by("rank", "step", maintain_order=True)
        .agg(what.str.join(";").alias("text"))
    )
    return bool((by_step.group_by("rank").agg(pl.col("text").n_unique())["text"] == 1).all())


def moved(times: ProgramTimes, change: pl.DataFrame) -> Array:
    """Change of every node's weight that moves segments by `change` (`rank`, `place`, `part`, `ns`).

    A segment's change is shared among its nodes in proportion to what they have of the part; where they have none of it,
    the first one takes it.
    """
    nodes = times.nodes
    total = np.zeros(nodes.height, dtype=np.int64)
    key = ["rank", "step", "place"]
    for part in PARTS:
        wanted = change.filter(pl.col("part") == part).group_by(SEGMENT).agg(pl.col("ns").sum().alias("_change"))
        if wanted.is_empty():
            continue
        whole = pl.col(part).sum().over(key)
        num = pl.int_range(pl.len()).over(key)
        takes_all = num == (pl.len().over(key) - 1 if part == "fixed_ns" else 0)
        share = pl.when(whole > 0).then(pl.col(part) / whole).otherwise(takes_all.cast(pl.Int64))
        rows = nodes.with_columns(share.alias("_share")).join(wanted, on=SEGMENT, how="left", maintain_order="left")
        moved_by = rows.select((pl.col("_change").fill_null(0) * pl.col("_share")).round().cast(pl.Int64)).to_series()
        total += moved_by.to_numpy()
    return total


def same_programs(base: ProgramTimes, new: ProgramTimes, ranks: dict[int, int]) -> bool:
    """Whether matched ranks run the same operations in the same order."""
    before, after = _texts(base), _texts(new)
    return all(before.get(old) == after.get(rank) for rank, old in ranks.items())


def _texts(times: ProgramTimes) -> dict[int, str]:
    what = pl.concat_str("kind", pl.col("role").fill_null(""), pl.col("direction").fill_null(""), separator="/")
    usual = times.operations.filter(pl.col("number") * 2 > pl.col("number").max().over("rank"))
    return dict(usual.group_by("rank").agg(what.str.join(";")).iter_rows())
