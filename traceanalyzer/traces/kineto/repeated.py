"""Device work that a file holds twice."""

from __future__ import annotations

import polars as pl

ROUNDING_NS = 1_000
"""Writers that round times differ by no more."""


def launch_of() -> pl.Expr:
    """What device work of one launch has in common, as a number: `launch`."""
    return pl.struct(pl.col("name").to_physical(), "device", "stream", "correlation").hash().alias("launch")


def moved(work: pl.DataFrame) -> list[int]:
    """`index` of device work that repeats the one before it of its launch, moved by no more than rounding.

    Two kernels of one stream cannot run at once, so this is proof. `work` has `launch`, `start_ns` and `duration_ns`.
    """
    ordered = work.sort("launch", "start_ns", "index")
    later = pl.col("start_ns") - pl.col("start_ns").shift(1).over("launch")
    longer = (pl.col("duration_ns") - pl.col("duration_ns").shift(1).over("launch")).abs()
    at_once = (later <= ROUNDING_NS) & (longer <= ROUNDING_NS) & (pl.col("duration_ns") > ROUNDING_NS)
    return ordered.filter(at_once & ((later > 0) | (longer > 0)))["index"].to_list()
