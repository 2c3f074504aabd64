"""Device time that each kernel has for itself, so that times of kernels add up to the step.

Computation comes first: what of a copy or a communication runs under it is not counted. Of kernels of one kind that run at
once the earlier one has the time. The rest of a step no kernel has.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.communication.programs import COMPUTING
from traceanalyzer.measurements.ledger.intervals import clip, covered_within

_ORDER = (COMPUTING, ["communication", "barrier"], ["copy"])
"""Kinds of kernels, in the order in which they own time."""


def exclusive_times(kernels: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Kernels in the windows of their rank with `step` (of the window) and `own_ns`, the time they have for themselves.

    `kernels` is `KERNELS`, `windows` is `STEPS`. A kernel that reaches into two windows appears once for each.
    """
    bounds = windows.select("rank", "step", "start_ns", "end_ns")
    inside = clip(kernels.with_columns(pl.col("kind").cast(pl.String)), bounds, ["rank"])
    taken: list[pl.DataFrame] = []
    for kinds in _ORDER:
        rows = _in_turn(inside.filter(pl.col("kind").is_in(kinds)))
        if not taken:
            rows = rows.with_columns((pl.col("end_ns") - pl.col("_from_ns")).alias("own_ns"))
        else:
            covered = covered_within(rows, pl.concat(taken), "_from_ns", "end_ns", "_covered_ns")
            rows = covered.with_columns((pl.col("end_ns") - pl.col("_from_ns") - pl.col("_covered_ns")).alias("own_ns"))
        taken.append(rows.select("rank", "start_ns", "end_ns"))
        inside = pl.concat(
            [inside.filter(~pl.col("kind").is_in(kinds)), rows.drop("_from_ns", "_covered_ns", strict=False)],
            how="diagonal",
        )
    return inside


def _in_turn(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `_from_ns`: the start, or where the kernels before it on the rank have ended."""
    before = pl.col("end_ns").cum_max().shift(1).over("rank").fill_null(0)
    ordered = rows.sort("rank", "start_ns", "end_ns", "index")
    return ordered.with_columns(pl.min_horizontal(pl.max_horizontal("start_ns", before), "end_ns").alias("_from_ns"))
