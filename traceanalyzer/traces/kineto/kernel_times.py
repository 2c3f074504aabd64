"""Device time by kernel name, counted while a file is read."""

from __future__ import annotations

import polars as pl

from traceanalyzer.traces.input.source import Frames
from traceanalyzer.traces.kineto.repeated import launch_of, moved

KERNEL_TIMES = pl.Schema({"name": pl.String, "num_kernels": pl.Int64, "duration_ns": pl.Int64})

_MAX_NAMES = 100_000
"""Of those that took longest; what a file with more has beyond is left out."""
_MOST_COMPARED = 4_000_000
"""Kernels of a document that are compared with each other at once."""


class KernelTally(Frames):
    """Keeps of a frame how long kernels of each name took; kernels of one document that repeat count once."""

    def __init__(self) -> None:
        super().__init__()
        self._times = pl.DataFrame(schema=KERNEL_TIMES)
        self._open: list[pl.DataFrame] = []

    @property
    def times(self) -> pl.DataFrame:
        """`KERNEL_TIMES` of all frames so far."""
        self._close()
        return self._times

    def document(self) -> KernelTally:
        """This tally, for the frames of a further document."""
        self._close()
        return self

    def __call__(self, frame: pl.DataFrame) -> None:
        """Take the kernels of a frame."""
        device = frame.filter((pl.col("category").cast(pl.String) == "kernel") & (pl.col("ph").cast(pl.String) == "X"))
        if device.is_empty():
            return
        whole = pl.struct(pl.exclude("index", "position").to_physical()).hash(seed=0).alias("hash")
        self._open.append(
            device.select(
                whole, launch_of(), "stream", "correlation", "start_ns", "duration_ns", pl.col("name").cast(pl.String)
            )
        )
        if sum(rows.height for rows in self._open) > _MOST_COMPARED:
            self._close()

    def _close(self) -> None:
        """Count the kernels taken since, each once."""
        if not self._open:
            return
        rows = pl.concat(self._open).filter(pl.col("hash").is_first_distinct()).with_row_index("index")
        self._open.clear()
        again = moved(rows.drop_nulls(["stream", "correlation"]))
        rows = rows.filter(~pl.col("index").is_in(pl.Series(again, dtype=pl.UInt32).implode()))
        counted = rows.select("name", pl.lit(1, pl.Int64).alias("num_kernels"), "duration_ns").cast(KERNEL_TIMES)  # pyright: ignore[reportArgumentType]
        summed = pl.concat([self._times, counted]).group_by("name").sum()
        self._times = summed.sort(["duration_ns", "name"], descending=[True, False]).head(_MAX_NAMES)
