"""What the recorded shapes of a run say: FLOPs by step, number formats, time by operator."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.roofline import covered_share, number_formats, operator_times
from traceanalyzer.measurements.shape_flops import flops_by_step, in_steps, shape_flops
from traceanalyzer.tables import Tables
from traceanalyzer.tables.clocks import on_one_clock


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
    """Of the rank whose matrix time has the fewest shapes; None where no rank has device kernels."""


def recorded_operators(events: pl.DataFrame, tables: Tables) -> RecordedOperators:
    """Read the shapes in `EVENTS`."""
    found = shape_flops(events)
    timed = operator_times(on_one_clock(in_steps(found, events), tables.clocks), tables.kernels)
    covered = covered_share(timed, tables.kernels)["covered_share"].min()
    return RecordedOperators(
        timed,
        flops_by_step(found, events),
        number_formats(found),
        float(covered) if isinstance(covered, int | float) else None,
    )
