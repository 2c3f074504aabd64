"""Events → receives on the main thread of CPU traces.

Gloo's `gloo:recv` range runs from the posting of a receive to the return of its wait. (`gloo:send` says nothing about
the transfer: its end is when somebody waited for it.)
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import RECEIVES, conform
from traceanalyzer.tables.computation.shapes import tensor_bytes
from traceanalyzer.tables.steps.windows import assign_steps, on_main_thread


def receives(events: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Point-to-point receives inside the step windows (`RECEIVES`), sorted by rank and start."""
    found = on_main_thread(events).filter(
        (pl.col("category") == "user_annotation") & (pl.col("name").cast(pl.String) == "gloo:recv")
    )
    rows = found.select(
        "rank",
        "start_ns",
        (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"),
        tensor_bytes(pl.col("args"), 0).alias("bytes"),
    )
    return conform(assign_steps(rows, windows), RECEIVES).sort("rank", "start_ns")
