"""Durations beside starts: derived columns that every question may name."""

from __future__ import annotations

import polars as pl

_NS_PER_MS = 1e6


def with_durations(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with `duration_ns` (integer) and `duration_ms` where it tells a duration, or a start and an end.

    What is added stands behind `start_ns`, or behind a `duration_ns` that is there; nothing that is there changes.
    """
    if "duration_ns" not in frame.columns:
        if not {"start_ns", "end_ns"} <= set(frame.columns):
            return frame
        frame = _behind(frame, "start_ns", (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns"))
    if "duration_ms" in frame.columns:
        return frame
    return _behind(frame, "duration_ns", (pl.col("duration_ns") / _NS_PER_MS).alias("duration_ms"))


def _behind(frame: pl.DataFrame, name: str, added: pl.Expr) -> pl.DataFrame:
    """The frame with one more column, behind the column called `name`."""
    place = frame.get_column_index(name) + 1
    return frame.select(*frame.columns[:place], added, *frame.columns[place:])


def shown_columns(declared: list[str], available: list[str], *, for_people: bool) -> list[str]:
    """Columns that are printed where none are chosen: the table's own and its durations.

    People read milliseconds, programs integer nanoseconds.
    """
    left_out = {"duration_ns"} if for_people else {"duration_ms"}
    return [name for name in available if name in declared or name not in left_out]
