"""Several writers of one rank in a run folder: two launchers at once, or processes that all took themselves for rank 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from traceanalyzer.traces.defects import defect_row


def several_writers(records: pl.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """Rows of `DEFECTS` for ranks of which `records` (`STEP_RECORDS`) hold a step more than once.

    Where records of a rank overlap in time, processes ran at once; else one run came after the other.
    """
    spans = (
        records.select("rank", "step", "start_ns", "end_ns")
        .sort("rank", "start_ns")
        .with_columns(
            pl.len().over("rank", "step").alias("copies"),
            (pl.col("start_ns") < pl.col("end_ns").cum_max().shift().over("rank")).alias("at_once"),
        )
    )
    rows = (
        spans.group_by("rank", maintain_order=True)
        .agg(
            pl.col("copies").max(),
            pl.col("step").filter(pl.col("copies") > 1).n_unique().alias("steps"),
            pl.col("at_once").any(),
        )
        .filter(pl.col("copies") > 1)
    )
    found: list[dict[str, Any]] = []
    for rank, copies, steps, at_once in rows.iter_rows():
        code = "run.several_writers" if at_once else "run.earlier_run"
        detail = f"{steps} step{'s' if steps > 1 else ''} up to {copies} times"
        found.append(defect_row(code, f"{folder}/steps", rank=rank, events=0, detail=detail))
    return found
