"""What order of a stream says about the ends of its kernels."""

from __future__ import annotations

import polars as pl

MAX_OVERLAP_NS = 50_000
"""Kernels of one stream may overlap by what a programmatic dependent launch does: some microseconds."""


def cut_at_next_start(rows: pl.DataFrame) -> pl.DataFrame:
    """Device work with `end_ns` at the next later start of its stream where it would overlap by over 50 us; adds `cut`.

    `rows` has `rank`, `cycle`, `device`, `stream`, `start_ns`, `end_ns` and `in_graph`, in any order, which is kept.
    """
    keys = ["rank", "cycle", "device", "stream"]
    ordered = pl.col("stream").is_not_null() & ~pl.col("in_graph")
    starts = rows.filter(ordered).select(*keys, "start_ns").unique().sort(*keys, "start_ns")
    following = starts.with_columns(pl.col("start_ns").shift(-1).over(keys).alias("_next_ns"))
    late = ordered & (pl.col("end_ns") - pl.col("_next_ns") > MAX_OVERLAP_NS)
    return (
        rows.join(following, on=[*keys, "start_ns"], how="left", nulls_equal=True, maintain_order="left")
        .with_columns(late.fill_null(value=False).alias("cut"))
        .with_columns(pl.when("cut").then("_next_ns").otherwise("end_ns").alias("end_ns"))
        .drop("_next_ns")
    )
