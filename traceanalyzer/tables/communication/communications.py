"""One row per communication kernel, whatever it carries: what a device's time was spent on."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import COMMUNICATIONS, conform

_KERNEL = ["rank", "cycle", "index"]


def communications(collectives: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Collectives and messages by kernel (`COMMUNICATIONS`), sorted by rank and start.

    Takes `COLLECTIVES` and `P2P`, or what measuring makes of them (`COLLECTIVE_SPLITS`, `P2P_SPLITS`): without the split,
    wait and transfer are null. A coalesced kernel waits until the last of its other ends has arrived. Rows of CPU traces,
    which have no kernel, are left out.
    """
    whole = conform(collectives.filter(pl.col("index").is_not_null()), COMMUNICATIONS)
    if "wait_ns" not in messages.columns:
        messages = messages.with_columns(
            pl.lit(None, pl.Int64).alias("wait_ns"), pl.lit(None, COMMUNICATIONS["basis"]).alias("basis")
        )
    known = pl.col("wait_ns").is_not_null().all()
    latest = pl.col("peer").sort_by("wait_ns", "peer").last()
    kernels = (
        messages.filter(pl.col("index").is_not_null())
        .group_by(_KERNEL)
        .agg(
            pl.col("step", "stream", "role", "start_ns", "end_ns").first(),
            pl.when(known).then(pl.col("wait_ns").max()).alias("wait_ns"),
            pl.when(known)
            .then(pl.col("basis").first())
            .otherwise(pl.lit("none"))
            .cast(COMMUNICATIONS["basis"])
            .alias("basis"),
            pl.when(known & (pl.col("wait_ns").max() > 0)).then(latest).alias("late_rank"),
        )
        .with_columns(
            pl.lit("p2p").alias("kind"),
            (pl.col("end_ns") - pl.col("start_ns") - pl.col("wait_ns")).alias("transfer_ns"),
        )
    )
    return pl.concat([whole, conform(kernels, COMMUNICATIONS)]).sort("rank", "start_ns", "index")
