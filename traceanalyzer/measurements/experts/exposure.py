"""How much of the all-to-alls hides behind computation, and how much is exposed."""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import clip, sweep, union
from traceanalyzer.tables.rank_groups import in_rank_groups

_KEYS = ["rank", "step"]


@in_rank_groups
def exposure(windows: pl.DataFrame, exchanging: pl.DataFrame, computing: pl.DataFrame) -> pl.DataFrame:
    """Exchange time of every rank and step: `rank`, `step`, `exchange_ns`, `overlapped_ns`, `exposed_ns`.

    `windows` is `STEPS`; `exchanging` and `computing` are intervals with `rank`, `start_ns`, `end_ns`. Time counts once
    however many exchanges run in it; what computation covers is overlapped, the rest exposed. Integers; the two add up.
    """
    bounds = windows.select(*_KEYS, "start_ns", "end_ns").filter(pl.col("end_ns") > pl.col("start_ns"))
    inside = [
        union(clip(table.select("rank", "start_ns", "end_ns"), bounds, ["rank"]), _KEYS)
        for table in (computing, exchanging)
    ]
    length = pl.col("end_ns") - pl.col("start_ns")
    total = inside[1].group_by(_KEYS).agg(length.sum().alias("exchange_ns"))
    labelled = pl.concat(
        [
            table.with_columns(pl.lit(name).alias("label"))
            for name, table in zip(("computing", "exchanging"), inside, strict=True)
        ]
    )
    exposed = (
        sweep(labelled, bounds, _KEYS, ("computing", "exchanging"))
        .filter(pl.col("label") == "exchanging")
        .group_by(_KEYS)
        .agg(length.sum().alias("exposed_ns"))
    )
    return (
        bounds.select(_KEYS)
        .join(total, on=_KEYS, how="left")
        .join(exposed, on=_KEYS, how="left")
        .with_columns(pl.col("exchange_ns", "exposed_ns").fill_null(0))
        .select(
            *_KEYS, "exchange_ns", (pl.col("exchange_ns") - pl.col("exposed_ns")).alias("overlapped_ns"), "exposed_ns"
        )
        .sort(_KEYS)
    )
