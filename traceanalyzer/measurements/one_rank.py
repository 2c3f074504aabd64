"""What one pipeline rank's own trace says about the pipeline it is part of.

Nothing here needs another rank or a common clock: chunk spans, the gaps between them, and the pace at which they follow
each other. Who is slow elsewhere cannot be said; on which *side* of this rank the slowest stage lies can, for 1F1B.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

SIDE_SHARE = 0.9
"""Share of the steady gaps before forwards (backwards) from which the slowest stage is said to lie up- (down-)stream."""
PACE_TOLERANCE = 0.02
"""A pace within 2% of the rank's own time per microbatch means that this rank sets it."""


@dataclass(frozen=True, slots=True)
class OneRank:
    """Figures of one rank; medians over steps. None where the rank's order has no such part."""

    rank: int
    window_ms: float
    """First action's start to last action's end."""
    between_chunks_share: float
    """Share of that window outside chunk spans."""
    own_ms: float
    """Median time of all chunks of one microbatch on this rank: forward and backward."""
    pace_ms: float | None
    """Median start-to-start of equal chunks in the steady part: the slowest stage plus the latency of messages."""
    others_cost_ms: float | None
    """M·(pace - own): what slower stages cost this rank in a step."""
    side: str | None
    """`upstream`, `downstream`, `this` or None where it cannot be told."""


def one_rank(actions: pl.DataFrame, rank: int) -> OneRank | None:
    """Figures of `rank` from its `ACTIONS`; None if it ran no forward and backward."""
    own = actions.filter(pl.col("rank") == rank).sort("step", "start_ns")
    if own.filter(pl.col("phase") == "F").is_empty() or own.filter(pl.col("phase") != "F").is_empty():
        return None
    steps = own.group_by("step").agg(
        (pl.col("end_ns").max() - pl.col("start_ns").min()).alias("window"),
        (pl.col("end_ns") - pl.col("start_ns")).sum().alias("chunks"),
        pl.col("microbatch").n_unique().alias("num_microbatches"),
    )
    own_ns = _median(steps["chunks"] / steps["num_microbatches"])
    pace_ns = _pace(own)
    window_ns = _median(steps["window"])
    num_microbatches = int(_median(steps["num_microbatches"]))
    return OneRank(
        rank=rank,
        window_ms=window_ns / 1e6,
        between_chunks_share=_median(1 - steps["chunks"] / steps["window"]),
        own_ms=own_ns / 1e6,
        pace_ms=pace_ns / 1e6 if pace_ns is not None else None,
        others_cost_ms=num_microbatches * (pace_ns - own_ns) / 1e6 if pace_ns is not None else None,
        side=_side(own, own_ns, pace_ns),
    )


def steady_part(own: pl.DataFrame) -> pl.DataFrame:
    """Actions from the first backward to the last forward of each step, where the two take turns (1F1B)."""
    position = pl.int_range(pl.len()).over("step")
    forward = pl.col("phase") == "F"
    return (
        own.with_columns(position.alias("_at"))
        .with_columns(
            pl.col("_at").filter(~forward).min().over("step").alias("_first"),
            pl.col("_at").filter(forward).max().over("step").alias("_last"),
            pl.col("end_ns").shift(1).over("step").alias("previous_ns"),
        )
        .filter((pl.col("_at") >= pl.col("_first")) & (pl.col("_at") <= pl.col("_last")))
        .drop("_at", "_first", "_last")
    )


def takes_turns(own: pl.DataFrame) -> bool:
    """Whether forwards and full backwards of single chunks alternate in the steady part, as in 1F1B."""
    if own["stage"].n_unique() != 1 or not own.filter(pl.col("phase").is_in(["I", "W"])).is_empty():
        return False
    steady = steady_part(own)
    same = (pl.col("phase") == pl.col("phase").shift(1)).over("step")
    return steady.height >= 4 and steady.filter(same).is_empty()


def _pace(own: pl.DataFrame) -> float | None:
    if not takes_turns(own):
        return None
    starts = steady_part(own).sort("step", "phase", "start_ns")
    steps = starts.select(pl.col("start_ns").diff().over("step", "phase").alias("ns")).drop_nulls()
    return _median(steps["ns"]) if steps.height else None


def _side(own: pl.DataFrame, own_ns: float, pace_ns: float | None) -> str | None:
    """Where the slowest stage lies, by which receives the steady part waits for."""
    if pace_ns is None:
        return None
    if pace_ns <= own_ns * (1 + PACE_TOLERANCE):
        return "this"
    gap = (pl.col("start_ns") - pl.col("previous_ns")).clip(lower_bound=0)
    by_phase = steady_part(own).group_by("phase").agg(gap.sum().alias("ns"))
    gaps = {str(phase): ns for phase, ns in by_phase.iter_rows()}
    total = sum(gaps.values())
    if not total:
        return None
    if gaps.get("F", 0) >= SIDE_SHARE * total:
        return "upstream"
    return "downstream" if gaps.get("B", 0) >= SIDE_SHARE * total else None


def _median(values: pl.Series) -> float:
    median = values.median()
    assert isinstance(median, (int, float)), "no values"  # noqa: S101 - callers pass values
    return float(median)
