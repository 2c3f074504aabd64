"""What the recorded shapes of a run say: FLOPs by step, number formats, time by operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.efficiency.recompute import Recomputed, recomputed, tell_recomputation
from traceanalyzer.measurements.efficiency.roofline import covered_share, number_formats, operator_times
from traceanalyzer.measurements.efficiency.shape_flops import flops_by_step, in_steps, multiplies, shape_flops
from traceanalyzer.tables import Tables
from traceanalyzer.tables.clocks.alignment import on_one_clock

MIN_COVERED_SHARE = 0.98
"""Recorded shapes speak for all matrix multiplications only if they cover these."""
MAX_DIFFERENCE = 0.01
"""Recorded and declared FLOPs that differ by less are the same job."""


@dataclass(frozen=True, slots=True)
class RecordedOperators:
    """Matrix multiplications and attention with their shapes."""

    timed: pl.DataFrame
    """From `measurements.roofline.operator_times`, on one clock, with `step`."""
    by_step: pl.DataFrame
    """From `measurements.shape_flops.flops_by_step`."""
    formats: pl.DataFrame
    """From `measurements.roofline.number_formats`."""
    covered_share: float | None
    """Of the rank whose matrix time has the fewest shapes; None if no rank has device kernels."""
    recomputed: Recomputed
    """What backward computes again."""


def telling_operators(kernels: pl.DataFrame) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """What `recorded_operators` needs of `EVENTS`: of ranks in `KERNELS` few operators, of others all events."""
    on_device = pl.col("rank").is_in(kernels["rank"].unique().to_list())

    def chosen(events: pl.DataFrame) -> pl.DataFrame:
        name = pl.col("name")
        names = events.select(name.unique().cast(pl.String)).filter(multiplies(name) | tell_recomputation(name))
        return events.filter(~on_device | name.cast(pl.String).is_in(names["name"].to_list()))

    return chosen


def recorded_operators(events: pl.DataFrame, tables: Tables) -> RecordedOperators:
    """Read the shapes in `EVENTS`, of which `telling_operators` are enough."""
    found = shape_flops(events)
    timed = operator_times(on_one_clock(in_steps(found, tables.step_ranges), tables.clocks), tables.kernels)
    covered = covered_share(timed, tables.kernels)["covered_share"].min()
    return RecordedOperators(
        timed,
        flops_by_step(found, tables.step_ranges),
        number_formats(found),
        float(covered) if isinstance(covered, int | float) else None,
        recomputed(events, tables.kernels),
    )


def recorded_flops(operators: RecordedOperators, windows: pl.DataFrame, num_devices: int) -> float | None:
    """FLOPs of one step over the whole job, every key counted, median over steps; `windows` is `STEPS`.

    None unless every device's step is here and every shape was read: a part of a job is never scaled up.
    """
    captured = operators.by_step.join(windows.select("rank", "step").unique(), on=["rank", "step"], how="semi")
    if captured["num_unread"].sum():
        return None
    if operators.covered_share is not None and operators.covered_share < MIN_COVERED_SHARE:
        return None
    steps = (
        captured.group_by("step")
        .agg(pl.col("flops").sum(), pl.col("rank").n_unique().alias("num_ranks"))
        .filter(pl.col("num_ranks") == num_devices)
        .sort("flops", "step")
    )
    return float(steps["flops"][(steps.height - 1) // 2]) if steps.height else None
