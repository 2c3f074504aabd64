"""Whether a bubble that is as large as theory's is the schedule's alone: only if no fault is hidden on any pipeline.

And what most of a larger one comes from.

A pipeline's share of waiting says little about its faults: a slow rank lengthens waiting and phase alike, and a healthy
pipeline says nothing of the others. So every captured pipeline is looked at, and every rank whose replicas were captured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from traceanalyzer.gaps.causes.blame import with_duration_parts
from traceanalyzer.review import Bubble, Fault
from traceanalyzer.review.vocabulary import PipelineCause

FAULTS = ("stage", "straggler", "chunk_comm", "host", "unexplained")
"""Causes that a repair of a rank, a host or a load takes away. Others are the price of free transfer or of no chance."""
MIN_FAULT_SHARE = 0.005
"""Of the step: what a fault must cost."""
MIN_STEPS = 5
ASSUMED_NOISE_SHARE = 0.02
"""Of the step, where fewer than `MIN_STEPS` steps show no noise."""
_RESAMPLES = 2000


def noise_ms(durations: pl.Series) -> float:
    """Half the width of the 95% bootstrap interval of the median step; with few steps a share of it."""
    values = durations.to_numpy()
    if len(values) < MIN_STEPS:
        return ASSUMED_NOISE_SHARE * float(np.median(values)) if len(values) else 0.0
    drawn = np.random.default_rng(0).choice(values, size=(_RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(high - low) / 2


def fault_limit_ms(durations: pl.Series) -> float:
    """What a fault must cost per step to count, from the lengths of the steps in milliseconds."""
    median = durations.median()
    return max(MIN_FAULT_SHARE * float(median), noise_ms(durations)) if isinstance(median, int | float) else 0.0


def largest_fault(attribution: pl.DataFrame, actions: pl.DataFrame) -> Fault | None:
    """The costliest fault of any pipeline, per step.

    Args:
        attribution: `ATTRIBUTION` of every pipeline and step.
        actions: `ACTIONS` of all captured ranks: one that computes longer than its stage's other ranks is a fault too, where
            its pipeline is not whole.
    """
    num_steps = pl.col("step").n_unique().over("pipeline")
    by_culprit = (
        attribution.with_columns(num_steps.alias("_num_steps"))
        .filter(pl.col("cause").cast(pl.String).is_in(FAULTS) & pl.col("culprit").is_not_null())
        .group_by("pipeline", pl.col("cause").cast(pl.String), pl.col("culprit").alias("rank"))
        .agg((pl.col("duration_ns").sum() / 1e6 / pl.col("_num_steps").first()).alias("ms"))
    )
    seen = attribution["culprit"].unique().to_list()
    late = _behind_their_stage(actions).filter(~pl.col("rank").is_in(seen))
    found = pl.concat([by_culprit, late.select(by_culprit.columns)]).filter(pl.col("ms") > 0)
    if found.is_empty():
        return None
    row = found.sort(["ms", "pipeline", "cause", "rank"], descending=[True, False, False, False]).row(0, named=True)
    return Fault(**row)


def _behind_their_stage(actions: pl.DataFrame) -> pl.DataFrame:
    """What each rank computes per step beyond the median of its stage's ranks, where there are three or more of them."""
    parts = with_duration_parts(actions).group_by("rank").agg(
        (pl.col("straggler_ns").sum() / 1e6 / pl.col("step").n_unique()).alias("ms")
    )  # fmt: skip
    return parts.with_columns(pl.lit(None, pl.Int32).alias("pipeline"), pl.lit("straggler").alias("cause"))


def schedule_explains(fault: Fault | None, limit_ms: float) -> bool:
    """Whether no pipeline has a fault that counts, so that a bubble as large as theory's is the schedule's."""
    return fault is None or fault.ms <= limit_ms


_LENGTHENS: dict[PipelineCause, str] = {
    "stage": "stages are unequal",
    "straggler": "a rank falls behind its stage",
    "transfer": "messages take time",
    "chunk_comm": "communication inside chunks is uneven",
    "overlap_dp": "exchanges between replicas slow computation",
    "host": "hosts start actions late",
    "jitter": "equal actions vary in length",
    "outside_sample": "ranks that were not captured are waited for",
    "unexplained": "actions start late, and why is not recorded",
}
"""Parts of the attribution that lengthen the phase, as clauses."""


UNEVEN_SEQUENCE = "mostly because attention is uneven along the sequence"


def lengthened_ms(bubble: Bubble) -> float:
    """By how much a phase is longer than its ideal, per step; infinite where that is not known."""
    lost = bubble.attribution_ms
    return float("inf") if lost is None else sum(max(0.0, getattr(lost, cause)) for cause in _LENGTHENS)


@dataclass(frozen=True, slots=True)
class Most:
    """What more than half of that comes from by which a phase is longer than its ideal."""

    clause: str
    cause: PipelineCause | None = None
    """None if a rank is named in its place."""
    rank: int | None = None


def most_of_it(bubble: Bubble, rank: int | None = None, ms: float = 0.0) -> Most | None:
    """The rank whose repair saves `ms`, where that is more than half of what lengthens the phase; else such a cause, or None.

    A cause alone would mislead: those that wait inside chunks for a slow rank communicate unevenly, and it is not their fault.
    """
    if bubble.attribution_ms is None:
        return None
    lost = bubble.attribution_ms
    parts: dict[PipelineCause, float] = {cause: max(0.0, getattr(lost, cause)) for cause in _LENGTHENS}
    if rank is not None and 2 * ms > sum(parts.values()):
        return Most(f"the others wait for rank {rank}", rank=rank)
    if _stages_explain(bubble):
        return Most(_LENGTHENS["stage"], "stage")
    cause = max(parts, key=lambda each: parts[each])
    return Most(_LENGTHENS[cause], cause) if 2 * parts[cause] > sum(parts.values()) else None


def _stages_explain(bubble: Bubble) -> bool:
    """Whether the same order, with every stage at its own times, has more than half of what the bubble is larger by.

    A stage that computes less than the others waits more and lengthens nothing, so the attribution does not show it.
    """
    theory, measured = bubble.theory, bubble.measured_share
    if theory is None or measured is None or theory.simulated_share is None or theory.own_times_share is None:
        return False
    return 2 * (theory.own_times_share - theory.simulated_share) > measured - theory.simulated_share > 0
