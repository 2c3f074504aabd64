"""Whether a device's clock runs ahead of the host's: then kernels start before the calls that launched them.

A profiler converts the device's times to the host's clock; where that fails, both still tick alike, or one drifts away. Kernels
that start when the device was idle show the difference best, for nothing but their launch kept them back.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

ROUNDING_NS = 2_000
"""Kernels may start so much before their launch: times are rounded, and converted from another clock's ticks."""
MIN_KERNELS = 3
MIN_SHARE = 0.01
"""Of the launched kernels: if fewer start early, single times are wrong, not the clock."""
NUM_PARTS = 8
MIN_TOLERANCE_NS = 50_000
MAX_SPREAD_SHARE = 0.2
"""Of the largest difference. One difference fits all parts of a capture if it varies by less, or less than 50 us."""


@dataclass(frozen=True, slots=True)
class LaunchClock:
    """What the launches of one rank say of its device's clock."""

    num_early: int
    num_launched: int
    ahead_ns: int
    """The largest time by which a kernel starts before its launch."""
    constant: bool
    """The clock is ahead by `ahead_ns` all the time, so that device times can be put right."""
    single: bool
    """Single kernels have a wrong time, or a wrong launch."""

    @property
    def defect(self) -> str:
        """Code of `DEFECTS`."""
        if self.single:
            return "device.early_kernels"
        return "device.clock_ahead" if self.constant else "device.clock_drifts"


def launch_clock(launched: pl.DataFrame) -> LaunchClock | None:
    """The clock of one rank's device from `start_ns`, `end_ns`, `launch_start_ns` of its launched kernels; None if it is sound."""
    lead = pl.col("start_ns") - pl.col("launch_start_ns")
    early = launched.select(lead.alias("lead")).filter(pl.col("lead") < -ROUNDING_NS)
    if early.is_empty():
        return None
    single = early.height < max(MIN_KERNELS, MIN_SHARE * launched.height)
    ahead = -int(early["lead"].min())  # type: ignore[arg-type]
    return LaunchClock(early.height, launched.height, ahead, not single and _is_constant(launched, ahead), single)


def _is_constant(launched: pl.DataFrame, ahead_ns: int) -> bool:
    """Whether in every part of the capture that has kernels after idle time one of them shows the same difference."""
    lead = pl.col("start_ns") - pl.col("launch_start_ns")
    ordered = launched.sort("start_ns").with_columns(pl.col("end_ns").cum_max().shift(1).alias("_before_ns"))
    first, last = ordered["start_ns"].min(), ordered["start_ns"].max()
    length = max(1, (int(last) - int(first)) // NUM_PARTS + 1)  # type: ignore[arg-type]
    leads = (
        ordered.filter((pl.col("start_ns") > pl.col("_before_ns")).fill_null(value=True))
        .group_by((pl.col("start_ns") - int(first)) // length)  # type: ignore[arg-type]
        .agg(lead.min().alias("lead"))["lead"]
    )
    spread = int(leads.max()) + ahead_ns  # type: ignore[arg-type]
    return spread <= max(MIN_TOLERANCE_NS, int(MAX_SPREAD_SHARE * ahead_ns))
