"""Times of a run's actions in the form that a prediction takes, and what its step has beyond their simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import UsageError
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
    """Median step less the simulated pipeline phase: late starts, transfer, jitter, optimizer."""
    num_ranks: int
    num_microbatches: int


def measured_times(path: str, review: Review, tables: Mapping[str, pl.DataFrame]) -> MeasuredTimes:
    """Of a pipeline run with tables. Raises `UsageError` if it has none, or its schedule is not known."""
    bubble, median = review.bubble, review.step.duration_ms.median
    phase = bubble.theory.simulated_phase_ms if bubble and bubble.theory else None
    if "actions" not in tables or "bubble" not in tables:
        raise UsageError(
            f"{path}: is a review without tables", "give the folder that analyze --out keeps, or the traces"
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
    )
