"""Wait and transfer of point-to-point messages.

A receive waits until its send has started: `wait = max(0, min(end, send start) - start)`, the rest is transfer. Its wait
is a *dependency* until the producer's last computation before the send ended, and a *late send* from there on. A send
waits for its receiver likewise, unless it was over before: then the message was buffered and nothing waited.

All that needs one clock. Without, both ends of a message that is not a part of a coalesced kernel are set against each
other: `wait = duration - shorter duration`, which takes buffered sends for the transfer.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.communication.bandwidth import spread_of_groups
from traceanalyzer.schema import BASIS, P2P_SPLITS, conform, empty

_COMPUTE = ["gemm", "attention", "other", "fused"]


def split_messages(
    messages: pl.DataFrame,
    kernels: pl.DataFrame,
    *,
    one_clock: bool,
    links: pl.DataFrame | None = None,
    clocks: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Add the other end, wait, transfer and bandwidth to `P2P`, giving `P2P_SPLITS`, sorted by rank and start.

    Args:
        messages: matched `P2P`.
        kernels: `KERNELS`, for when producers ended; empty for CPU traces, where that is not known.
        one_clock: the ranks' clocks agree.
        links: `rank`, `host`, `link_bytes_per_second`.
        clocks: `CLOCKS`, whose residuals are carried along.
    """
    if messages.is_empty():
        return empty(P2P_SPLITS)
    rows = _with_other_end(messages)
    duration = pl.col("end_ns") - pl.col("start_ns")
    until_peer = (pl.min_horizontal("end_ns", "peer_start_ns") - pl.col("start_ns")).clip(lower_bound=0)
    buffered = (pl.col("direction") == "send") & (pl.col("end_ns") <= pl.col("peer_start_ns"))
    timed = pl.col("end_ns").is_not_null() & pl.col("peer_start_ns").is_not_null()
    by_clock = pl.when(timed & pl.lit(one_clock)).then(pl.when(buffered).then(0).otherwise(until_peer))
    by_duration = pl.when(timed & pl.col("peer_end_ns").is_not_null() & ~pl.col("coalesced")).then(
        duration - pl.min_horizontal(duration, pl.col("peer_end_ns") - pl.col("peer_start_ns"))
    )
    basis = (
        pl.when(by_clock.is_not_null())
        .then(pl.lit("clock"))
        .when(by_duration.is_not_null())
        .then(pl.lit("durations"))
        .otherwise(pl.lit("none"))
    )
    split = rows.with_columns(pl.coalesce(by_clock, by_duration).alias("wait_ns"), basis.cast(BASIS).alias("basis"))
    timed_rows = split.with_columns((duration - pl.col("wait_ns")).alias("transfer_ns"))
    full = _with_bandwidth(_with_cause(timed_rows, kernels, one_clock=one_clock), links)
    return conform(_with_residual(full, clocks), P2P_SPLITS).sort("rank", "start_ns", "index")


def _with_other_end(messages: pl.DataFrame) -> pl.DataFrame:
    other = messages.filter(pl.col("match").is_not_null()).select(
        "match",
        "direction",
        pl.col("start_ns").alias("peer_start_ns"),
        pl.col("end_ns").alias("peer_end_ns"),
        pl.col("index").alias("_peer_index"),
    )
    turned = pl.when(pl.col("direction") == "send").then(pl.lit("receive")).otherwise(pl.lit("send"))
    return messages.join(
        other.with_columns(turned.cast(messages.schema["direction"]).alias("direction")),
        on=["match", "direction"],
        how="left",
        maintain_order="left",
    )


def _with_cause(rows: pl.DataFrame, kernels: pl.DataFrame, *, one_clock: bool) -> pl.DataFrame:
    """Add `wait_dependency_ns` and `wait_late_send_ns` of receives from the producer's last kernel before its send."""
    computed = kernels.filter(pl.col("kind").is_in(_COMPUTE)).select(
        pl.col("rank").alias("peer"), pl.col("end_ns").alias("producer_end_ns")
    )
    found = rows.sort("peer_start_ns").join_asof(
        computed.sort("producer_end_ns"),
        left_on="peer_start_ns",
        right_on="producer_end_ns",
        by="peer",
        strategy="backward",
        check_sortedness=False,
    )
    known = (pl.col("direction") == "receive") & pl.col("producer_end_ns").is_not_null() & pl.lit(one_clock)
    until = (pl.col("producer_end_ns") - pl.col("start_ns")).clip(lower_bound=0)
    dependency = pl.when(known).then(pl.min_horizontal(until, "wait_ns"))
    return found.with_columns(dependency.alias("wait_dependency_ns")).with_columns(
        (pl.col("wait_ns") - pl.col("wait_dependency_ns")).alias("wait_late_send_ns")
    )


def _with_bandwidth(rows: pl.DataFrame, links: pl.DataFrame | None) -> pl.DataFrame:
    if links is None:
        return rows
    pair = pl.concat_str(pl.col("rank").cast(pl.String), pl.lit(","), pl.col("peer").cast(pl.String)).alias("group")
    paired = rows.rename({"group": "_group"}).with_columns(pair)
    rate = pl.when(pl.col("transfer_ns") > 0).then(pl.col("bytes") / pl.col("transfer_ns") * 1e9)
    return (
        paired.join(spread_of_groups(paired["group"], links), on="group", how="left", maintain_order="left")
        .join(links.select("rank", pl.col("link_bytes_per_second").alias("_peak")), on="rank", how="left")
        .with_columns(pl.when(~pl.col("coalesced")).then(rate).alias("payload_bytes_per_second"))
        .with_columns(
            pl.when(~pl.col("between_hosts"))
            .then(pl.col("payload_bytes_per_second") / pl.col("_peak"))
            .alias("link_share")
        )
        .drop("group")
        .rename({"_group": "group"})
    )


def _with_residual(rows: pl.DataFrame, clocks: pl.DataFrame | None) -> pl.DataFrame:
    if clocks is None:
        return rows
    own = clocks.select("rank", pl.col("residual_ns").alias("_own"))
    other = clocks.select(pl.col("rank").alias("peer"), pl.col("residual_ns").alias("_other"))
    return (
        rows.join(own, on="rank", how="left", maintain_order="left")
        .join(other, on="peer", how="left", maintain_order="left")
        .with_columns((pl.col("_own") + pl.col("_other")).alias("clock_residual_ns"))
    )
