"""One side of a comparison: a result, the names of its ranks' places, and its typical steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.capture.validity import disturbance
from traceanalyzer.measurements.efficiency.mfu import step_durations
from traceanalyzer.review import Review
from traceanalyzer.schema import TABLES, empty


@dataclass(frozen=True, slots=True)
class Side:
    """A result; `tables` lacks those that are not there (of a `review.json` alone: all)."""

    path: str
    review: Review
    tables: Mapping[str, pl.DataFrame]

    def table(self, name: str) -> pl.DataFrame:
        """The table called `name`; an empty one if it is missing."""
        return self.tables[name] if name in self.tables else empty(TABLES[name].schema)

    @property
    def has_tables(self) -> bool:
        """Whether anything but the review is here."""
        return bool(self.tables)

    @property
    def disturbance(self) -> str:
        """What shows that the host changed the times of a run without device, of which the host is the device; else empty."""
        return disturbance(self.review)

    @property
    def windows(self) -> pl.DataFrame:
        """`STEPS` of the typical steps."""
        return self.table("steps").filter("is_typical")

    @property
    def ranks(self) -> list[int]:
        """Captured ranks."""
        return sorted({file.rank for file in self.review.files})

    @property
    def step_lengths_ns(self) -> list[int]:
        """Length of every typical step; of a review alone to the nanosecond that its milliseconds give."""
        if self.has_tables and not self.windows.is_empty():
            return step_durations(self.windows)["duration_ns"].to_list()
        return [round(ms * 1e6) for ms in self.review.step.duration_ms.values]

    @property
    def step_ns(self) -> int | None:
        """The median typical step (of an even number the shorter middle one); None without any."""
        return lower_median(self.step_lengths_ns)


def lower_median(values: list[int]) -> int | None:
    """The median of integers, of an even number the smaller middle one; None of nothing."""
    return sorted(values)[(len(values) - 1) // 2] if values else None
