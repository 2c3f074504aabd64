"""Model FLOPs utilisation: model FLOPs of a step over what the devices could have done in its time.

`MFU = flops_per_step / (step seconds × peak FLOP/s per device × devices)`. FLOPs and peak are passed in: they are
theory and data, the step time is measured.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl


def step_durations(windows: pl.DataFrame) -> pl.DataFrame:
    """Duration of every step: `step`, `duration_ns`, from `STEPS`.

    It is the longest rank's window. Windows of a rank follow each other without a gap, so this is the pace of the job;
    from the first rank's start to the last rank's end would count the stagger of the ranks in every step anew. Steps
    whose end is open, or of which kernels are missing, on some rank are left out if others are whole.
    """
    missing = pl.col("num_missing_kernels") > 0 if "num_missing_kernels" in windows.columns else pl.lit(value=False)
    steps = windows.group_by("step").agg(
        (pl.col("end_ns") - pl.col("start_ns")).max().alias("duration_ns"),
        (pl.col("open_end") | missing.fill_null(value=False)).any().alias("open_end"),
    )
    closed = steps.filter(~pl.col("open_end"))
    return (steps if closed.is_empty() else closed).select("step", "duration_ns").sort("step")


class MedianStep(NamedTuple):
    """A real step and its length."""

    step: int
    duration_ns: int


def median_step(windows: pl.DataFrame) -> MedianStep:
    """The step of median duration (of an even number the shorter middle one) and its nanoseconds, from `STEPS`.

    One real step, not an average of two, so that what is said of its parts adds up.
    """
    ordered = step_durations(windows).sort("duration_ns", "step")
    row = ordered.row((ordered.height - 1) // 2, named=True)
    return MedianStep(int(row["step"]), int(row["duration_ns"]))


def utilisation(flops_per_step: float, step_ns: float, peak_flops_per_device: float, num_devices: int) -> float:
    """Share of the devices' peak that `flops_per_step` in `step_ns` is."""
    return flops_per_step / (step_ns / 1e9 * peak_flops_per_device * num_devices)


def wall_clock_step_ns(step_records: pl.DataFrame, step: int) -> int | None:
    """Duration of `step` by the training loop's own clock, longest rank, from `STEP_RECORDS`; None if unrecorded."""
    durations = step_records.filter(pl.col("step") == step).select(pl.col("end_ns") - pl.col("start_ns")).to_series()
    longest = durations.max()
    return longest if isinstance(longest, int) else None
