"""Times of a run in the form that a prediction takes, and what its step has beyond their simulation.

Of a pipeline they are those of its actions; of a run without one, the forward and backward of its step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.gaps.efficiency.measured_passes import held_out_error, passes_ms
from traceanalyzer.gaps.pipeline.ideal import uniform_times
from traceanalyzer.review import Review

_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTimes:
    """Of one microbatch on a rank's share of the model, milliseconds: medians over microbatches, steps and stages."""

    forward_ms: float
    backward_ms: float
    """Both halves."""
    weight_ms: float | None
    """The weight-gradient's half; None if backward is not split."""
    rest_ms: float
    """Median step less the simulated pipeline phase, or less forward and backward: late starts, transfer, jitter, optimizer."""
    num_ranks: int
    num_microbatches: int
    held_out_error: float | None
    """Of the step that these times give, on the second half of the steps; a share."""


def measured_times(path: str, review: Review, tables: Mapping[str, pl.DataFrame]) -> MeasuredTimes:
    """Of a run with tables. Raises `UsageError` where it has none, or its schedule is not known."""
    bubble, median = review.bubble, review.step.duration_ms.median
    phase = bubble.theory.simulated_phase_ms if bubble and bubble.theory else None
    error = held_out_error(review.step.duration_ms.values)
    if "actions" not in tables or "bubble" not in tables:
        raise UsageError(
            f"{path}: is a review without tables", "give the folder that analyze --out keeps, or the traces"
        )
    alone = None if _has_pipeline(review, tables) or median is None else passes_ms(tables["accounting"])
    if alone is not None and median is not None:
        known = review.job.num_microbatches.value if review.job.num_microbatches else None
        count = known or max(1, tables["actions"]["microbatch"].n_unique())
        return MeasuredTimes(
            forward_ms=alone[0] / count,
            backward_ms=alone[1] / count,
            weight_ms=None,
            rest_ms=max(0.0, median - sum(alone)),
            num_ranks=1,
            num_microbatches=count,
            held_out_error=error,
        )
    if phase is None or median is None or tables["actions"].is_empty():
        raise UsageError(
            f"{path}: holds no pipeline whose order is known and whose step is whole",
            "calibrate on a run whose bubble is measured, or give --forward-ms and --backward-ms",
        )
    places = tables["bubble"].select("rank", "step", "pipeline").unique()
    actions = tables["actions"].join(places, on=["rank", "step"], how="inner", maintain_order="left")
    times = uniform_times(actions)
    ranks = actions.filter(pl.col("pipeline") == pl.col("pipeline").first())["rank"].n_unique()
    chunks = actions["stage"].n_unique() / ranks
    weight = times.get("W")
    backward = times["I"] + times.get("W", 0) if "I" in times else times["B"]
    return MeasuredTimes(
        forward_ms=times["F"] * chunks / _NS_PER_MS,
        backward_ms=backward * chunks / _NS_PER_MS,
        weight_ms=None if weight is None else weight * chunks / _NS_PER_MS,
        rest_ms=max(0.0, median - phase),
        num_ranks=ranks,
        num_microbatches=actions["microbatch"].n_unique(),
        held_out_error=error,
    )


def _has_pipeline(review: Review, tables: Mapping[str, pl.DataFrame]) -> bool:
    """Whether it may have one: several stages are declared or found, or messages between ranks."""
    degrees = review.job.layout.value if review.job.layout else None
    several = tables["actions"]["stage"].n_unique() > 1
    return bool(degrees and (degrees.pp or 1) > 1) or several or not tables["p2p"].is_empty()
