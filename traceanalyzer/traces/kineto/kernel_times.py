"""Device time by kernel name, counted while a file is read."""

from __future__ import annotations

import polars as pl

from traceanalyzer.traces.input.source import Frames

KERNEL_TIMES = pl.Schema({"name": pl.String, "num_kernels": pl.Int64, "duration_ns": pl.Int64})

_MAX_NAMES = 100_000
"""Of those that took longest; what a file with more has beyond is left out."""
_MOST_COMPARED = 4_000_000
"""Kernels of a document that later ones are compared with."""


class KernelTally(Frames):
    """Keeps nothing of a frame but how long kernels of each name took."""

    def __init__(self) -> None:
        super().__init__()
        self.times = pl.DataFrame(schema=KERNEL_TIMES)
        """`KERNEL_TIMES` of all frames so far."""
        self._counted: list[pl.Series] = []

    def document(self) -> KernelTally:
        """This tally, for the frames of a further document: events that repeat count once within each."""
        self._counted.clear()
        return self

    def __call__(self, frame: pl.DataFrame) -> None:
        """Count the kernels of a frame."""
        device = frame.filter((pl.col("category").cast(pl.String) == "kernel") & (pl.col("ph").cast(pl.String) == "X"))
        if device.is_empty():
            return
        device = self._new(device)
        rows = device.select(
            pl.col("name").cast(pl.String), pl.lit(1, pl.Int64).alias("num_kernels"), pl.col("duration_ns")
        )
        summed = pl.concat([self.times, rows.cast(KERNEL_TIMES)]).group_by("name").sum()
        self.times = summed.sort(["duration_ns", "name"], descending=[True, False]).head(_MAX_NAMES)

    def _new(self, device: pl.DataFrame) -> pl.DataFrame:
        """Kernels of the document that were not counted before, alike in everything but their place."""
        keys = device.select(pl.struct(pl.exclude("index", "position").to_physical()).hash(seed=0).alias("hash"))[
            "hash"
        ]
        first = keys.is_first_distinct()
        for before in self._counted:
            first &= ~keys.is_in(before.implode())
        if sum(map(len, self._counted)) + len(keys) <= _MOST_COMPARED:
            self._counted.append(keys.filter(first))
        return device.filter(first)
