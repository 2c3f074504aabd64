"""Device time by kernel name, counted while a file is read."""

from __future__ import annotations

import polars as pl

from traceanalyzer.traces.input.source import Frames

KERNEL_TIMES = pl.Schema({"name": pl.String, "num_kernels": pl.Int64, "duration_ns": pl.Int64})

_MAX_NAMES = 100_000
"""Of those that took longest; what a file with more has beyond is left out."""


class KernelTally(Frames):
    """Keeps nothing of a frame but how long kernels of each name took."""

    def __init__(self) -> None:
        super().__init__()
        self.times = pl.DataFrame(schema=KERNEL_TIMES)
        """`KERNEL_TIMES` of all frames so far."""

    def __call__(self, frame: pl.DataFrame) -> None:
        """Count the kernels of a frame."""
        device = frame.filter((pl.col("category").cast(pl.String) == "kernel") & (pl.col("ph").cast(pl.String) == "X"))
        if device.is_empty():
            return
        rows = device.select(
            pl.col("name").cast(pl.String), pl.lit(1, pl.Int64).alias("num_kernels"), pl.col("duration_ns")
        )
        summed = pl.concat([self.times, rows.cast(KERNEL_TIMES)]).group_by("name").sum()
        self.times = summed.sort(["duration_ns", "name"], descending=[True, False]).head(_MAX_NAMES)
