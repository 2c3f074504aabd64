"""What one pipeline rank's own trace says about the pipeline it is part of.

Nothing here needs another rank or a common clock: chunk spans, the gaps between them, and the pace at which they follow
each other. Who is slow elsewhere cannot be said; on which *side* of this rank the slowest stage lies can, for 1F1B: in
its steady part forwards and backwards take turns, the slowest stage sets the pace of all, and a rank that is faster waits
for forwards if that stage lies before it and for backwards if it lies behind it. The first rank's gaps can lie before backwards
alone and the last one's before forwards, with equal stages too, so the side rests on the pace: it must exceed what messages
and the spread of the rank's own times explain. On CPU ranks these do not explain it, and no side is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.review.vocabulary import StageSide

SIDE_SHARE = 0.9
"""Share of the steady gaps before forwards (backwards) from which the slowest stage is said to lie up- (down-)stream."""
PACE_TOLERANCE = 0.02
"""A pace within 2% of the rank's own time per microbatch, beyond its spread and a message each way: this rank sets it."""
MIN_STEADY = 4
"""Actions of the steady part that a pace needs: two forwards and two backwards."""

NOT_1F1B = "the rank's forwards and backwards do not take turns as in 1F1B"
CPU_MESSAGES = "on CPU ranks the time to hand messages over is a part of the pace, and this part is not recorded"
MIXED = "the rank waits before forwards and before backwards alike: messages, or stages on both sides"


@dataclass(frozen=True, slots=True)
class OneRank:
    """Figures of one rank; medians over its complete steps, nanoseconds."""

    rank: int
    num_microbatches: int
    window_ns: float
    """First action's start to last action's end: the rank's own pipeline window."""
    between_chunks_share: float
    """Share of that window outside chunk spans."""
    own_ns: float
    """Time of all chunks of one microbatch on this rank: forward and backward."""
    pace_ns: float | None
    """Start to start of equal chunks in the steady part: the slowest stage plus the latency of messages."""
    side: StageSide | None
    """Where the slowest stage lies: `upstream`, `downstream`, `this`; None if it is unknown."""
    side_reason: str | None
    """Why it cannot."""

    @property
    def others_cost_ns(self) -> float | None:
        """M·(pace - own): what slower stages and messages cost this rank in a step."""
        return None if self.pace_ns is None else self.num_microbatches * (self.pace_ns - self.own_ns)


def one_rank(actions: pl.DataFrame, rank: int, message_ns: int | None = 0) -> OneRank | None:
    """Figures of `rank` from its `ACTIONS`; None if no step holds forward and backward of every microbatch.

    `message_ns` is the time of a pipeline message (`fastest_message`): a forward one way and a backward the other belong
    to every pace, so they say nothing of a slower stage. It is None on a CPU rank, where it is not known.
    """
    own = _complete_steps(actions.filter(pl.col("rank") == rank)).sort("step", "start_ns", "end_ns")
    if own.is_empty():
        return None
    steps = own.group_by("step").agg(
        (pl.col("end_ns").max() - pl.col("start_ns").min()).alias("window"),
        (pl.col("end_ns") - pl.col("start_ns")).sum().alias("chunks"),
        pl.col("microbatch").n_unique().alias("num_microbatches"),
    )
    own_ns = _median(steps["chunks"] / steps["num_microbatches"])
    pace_ns = _pace(own)
    explained_ns = own_ns * (1 + PACE_TOLERANCE) + 2 * (message_ns or 0) + (0 if message_ns is None else _spread(own))
    side = _side(own, explained_ns, pace_ns)
    reason = NOT_1F1B if pace_ns is None else MIXED
    if message_ns is None and side != "this" and pace_ns is not None:
        side, reason = None, CPU_MESSAGES
    return OneRank(
        rank=rank,
        num_microbatches=int(_median(steps["num_microbatches"])),
        window_ns=_median(steps["window"]),
        between_chunks_share=_median(1 - steps["chunks"] / steps["window"]),
        own_ns=own_ns,
        pace_ns=pace_ns,
        side=side,
        side_reason=None if side else reason,
    )


def fastest_message(messages: pl.DataFrame, rank: int) -> int:
    """Shortest pipeline message of `rank` in nanoseconds, from `P2P`; 0 without any. It bounds a transfer from above."""
    own = messages.filter((pl.col("rank") == rank) & (pl.col("role") == "pp") & pl.col("end_ns").is_not_null())
    shortest = (own["end_ns"] - own["start_ns"]).min()
    return shortest if isinstance(shortest, int) else 0


def _complete_steps(own: pl.DataFrame) -> pl.DataFrame:
    """Steps in which each of the rank's stages ran every microbatch forward and backward exactly once."""
    weights = {"F": 1, "B": 1_000_000, "I": 900_000, "W": 100_000}
    done = pl.col("phase").cast(pl.String).replace_strict(weights, return_dtype=pl.Int64).sum()
    whole = (
        own.group_by("step", "stage", "microbatch")
        .agg(done.alias("done"))
        .group_by("step")
        .agg((pl.col("done") == 1_000_001).all().alias("each_once"), pl.len().alias("num_cells"))
        .filter("each_once", pl.col("num_cells") == pl.col("num_cells").max())
    )
    return own.join(whole, on="step", how="semi")


def _steady_part(own: pl.DataFrame) -> pl.DataFrame:
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
        .filter(pl.col("_at").is_between("_first", "_last"))
        .drop("_at", "_first", "_last")
    )


def _takes_turns(own: pl.DataFrame, steady: pl.DataFrame) -> bool:
    """Whether forwards and full backwards of a single chunk alternate in the steady part, as in 1F1B."""
    if own["stage"].n_unique() != 1 or not own.filter(pl.col("phase").is_in(["I", "W"])).is_empty():
        return False
    same = (pl.col("phase") == pl.col("phase").shift(1)).over("step")
    enough = steady.height >= MIN_STEADY * max(steady["step"].n_unique(), 1)
    return enough and steady.filter(same).is_empty()


def _pace(own: pl.DataFrame) -> float | None:
    steady = _steady_part(own)
    if not _takes_turns(own, steady):
        return None
    starts = steady.sort("step", "phase", "start_ns")
    return _median(starts.select(pl.col("start_ns").diff().over("step", "phase").alias("ns")).drop_nulls()["ns"])


def _spread(own: pl.DataFrame) -> float:
    """Ninth decile less median of the rank's forwards and of its backwards, nanoseconds.

    Stages of equal mean whose times spread wait for the slowest of several draws: a pace longer by this needs no slow stage.
    """
    duration = pl.col("end_ns") - pl.col("start_ns")
    spreads = own.group_by("phase").agg(duration.quantile(0.9, "linear") - duration.median())
    return float(spreads["end_ns"].sum())


def _side(own: pl.DataFrame, own_pace_ns: float, pace_ns: float | None) -> StageSide | None:
    """Where the slowest stage lies, by what the steady part waits for; `own_pace_ns` is what this rank can explain."""
    if pace_ns is None:
        return None
    if pace_ns <= own_pace_ns:
        return "this"
    gap = (pl.col("start_ns") - pl.col("previous_ns")).clip(lower_bound=0)
    steady = _steady_part(own)
    taken = steady.filter(pl.int_range(pl.len()).over("step") > 0)  # the wait for the first backward is warm-up
    by_phase = taken.group_by("phase").agg(gap.sum().alias("ns"))
    gaps = {str(phase): ns for phase, ns in by_phase.iter_rows()}
    total = sum(gaps.values())
    if gaps.get("F", 0) >= SIDE_SHARE * total:
        return "upstream"
    return "downstream" if gaps.get("B", 0) >= SIDE_SHARE * total else None


def _median(values: pl.Series) -> float:
    median = values.median()
    assert isinstance(median, (int, float)), "no values"  # noqa: S101 - callers pass values
    return float(median)
