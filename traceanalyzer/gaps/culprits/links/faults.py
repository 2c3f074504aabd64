"""What the repair of a slow link saves, by replay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from traceanalyzer.gaps.culprits.links.slow import SlowPlace
from traceanalyzer.gaps.culprits.price import MAX_REPLAY_ERROR, MIN_SHARE, Saving, spread, step_weights
from traceanalyzer.gaps.culprits.program_graph import ProgramGraph
from traceanalyzer.review import RankFault
from traceanalyzer.review.words import milliseconds, times


def link_faults(
    graph: ProgramGraph, operations: pl.DataFrame, places: Sequence[SlowPlace], step_ns: float, error: float
) -> list[RankFault]:
    """Links whose repair alone saves more than `MIN_SHARE` of the step in every step; nobody where the replay is far off."""
    if error > MAX_REPLAY_ERROR:
        return []
    found = [_fault(graph, operations, place, step_ns) for place in places]
    return [fault for fault in found if fault is not None]


def _fault(graph: ProgramGraph, operations: pl.DataFrame, place: SlowPlace, step_ns: float) -> RankFault | None:
    saving = _saving(graph, operations, place.transfers, step_ns)
    least = MIN_SHARE * step_ns
    if not saving.recurs or saving.ns <= least or not (saving.ns > saving.noise or saving.low > least):
        return None
    whose = (
        f"the link of rank {place.rank}"
        if place.peer is None
        else f"the link from rank {place.rank} to rank {place.peer}"
    )
    what = f"what it {place.side}"
    if place.peer is not None:
        what = "what passes either way" if "receives" in place.side else "what passes"
    moment = _moment(operations, place)
    left_out = place.not_counted_ms * 1e6 > least
    return RankFault(
        rank=place.rank,
        peer=place.peer,
        cause="link",
        ms=saving.ns / 1e6,
        share_of_step=saving.ns / step_ns,
        low=max(saving.low, 0.0) / 1e6,
        high=saving.high / 1e6,
        evidence=(
            f"{whose} is slow: {what} takes {times(place.ratio)} as long as the run's other links need for these bytes, "
            f"{milliseconds(place.excess_ms)} per step longer"
            + (
                f"; {milliseconds(place.not_counted_ms)} of other collectives are not counted, for no group without it shows "
                f"what they should take; slowed alike, they cost {milliseconds(place.not_counted_ms * (1 - 1 / place.ratio))} more"
                if left_out
                else ""
            )
        ),
        not_all_counted=left_out,
        basis="replay",
        slowdown=place.ratio,
        num_steps=len(graph.judged_steps),
        start_ns=moment[0],
        end_ns=moment[1],
    )


def _moment(operations: pl.DataFrame, place: SlowPlace) -> tuple[int, int]:
    """The rank's operation that lost most."""
    own = operations.join(place.transfers, on=["rank", "index"]).filter(pl.col("rank") == place.rank)
    lost = pl.col("transfer_ns") - pl.col("repaired_ns")
    row = own.sort(lost, "start_ns", descending=[True, False]).row(0, named=True)
    return int(row["start_ns"]), int(row["end_ns"])


def _saving(graph: ProgramGraph, operations: pl.DataFrame, transfers: pl.DataFrame, step_ns: float) -> Saving:
    """Of transfers at `repaired_ns`."""
    timed = operations.join(transfers, on=["rank", "index"]).select(
        pl.col("rank", "operation").cast(pl.Int64), pl.col("repaired_ns").cast(pl.Int64)
    )
    rows = graph.nodes.join(timed, on=["rank", "operation"], how="left", maintain_order="left")
    repaired = pl.min_horizontal("fixed_ns", pl.col("repaired_ns").fill_null(pl.col("fixed_ns")))
    own = step_weights(graph)
    less = rows.select(pl.col("fixed_ns") - repaired).to_series().to_numpy()
    lengths = graph.lengths(np.stack([own, own - less], axis=1))
    return spread(lengths[:, 0] - lengths[:, 1], step_ns)
