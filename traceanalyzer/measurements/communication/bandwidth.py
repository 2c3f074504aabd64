"""Bandwidth of communication, as nccl-tests defines it, and its share of the link's peak.

`algorithm` bandwidth is S ÷ t with S the size of the operation, `bus` bandwidth the bytes that must cross a member's link
in one direction ÷ t, so that it can be set against the link whatever the operation and the number of ranks:

| operation | S | bus bytes |
|---|---|---|
| all_reduce | buffer of a rank | 2(n-1)/n S |
| all_gather, reduce_scatter | the whole array | (n-1)/n S |
| all_to_all, even | buffer of a rank | (n-1)/n S |
| broadcast, reduce | buffer | S |

Source: NVIDIA/nccl-tests, doc/PERFORMANCE.md and src/*.cu. An uneven all-to-all has no bus bandwidth there; here it is the
larger of what a rank sends and receives, less its own chunk, ÷ that rank's transfer. t is the shortest duration among
the members where all exchange equal bytes, else the rank's own transfer. Where kernels reduce inside the switch (NVLS,
SHARP) bus bandwidth can exceed the link.
"""

from __future__ import annotations

import polars as pl

_NO_LINKS = pl.Schema({"rank": pl.Int32, "host": pl.String, "link_bytes_per_second": pl.Float64})


def with_link_time(rows: pl.DataFrame, links: pl.DataFrame | None) -> pl.DataFrame:
    """Add `between_hosts`, `_peak`, `_size`, `_bus_bytes`, `_at_peak_ns` and `_least_ns` to rows of `COLLECTIVES`.

    `links` has `rank`, `host` and `link_bytes_per_second`. The peak is that of links inside a host; between hosts, and
    where hosts are not known, there is none. `_least_ns` is what the transfer takes at least wherever the members are:
    no link leaves a device faster than its links inside a host.
    """
    known = pl.DataFrame(schema=_NO_LINKS) if links is None else links
    inside = pl.when(~pl.col("between_hosts")).then("_peak").alias("_peak")
    return (
        rows.join(spread_of_groups(rows["group"], known), on="group", how="left", maintain_order="left")
        .join(known.select("rank", pl.col("link_bytes_per_second").alias("_peak")), on="rank", how="left")
        .with_columns(size_of_operation().alias("_size"), _bus_bytes().alias("_bus_bytes"))
        .with_columns(least_transfer_ns(_crossing_bytes(), pl.col("_peak")).alias("_least_ns"), inside)
        .with_columns((pl.col("_bus_bytes") / pl.col("_peak") * 1e9).round().cast(pl.Int64).alias("_at_peak_ns"))
    )


def least_transfer_ns(num_bytes: pl.Expr, peak: pl.Expr) -> pl.Expr:
    """Nanoseconds, rounded down, that bytes take at the peak of a device's links; null if either is not known."""
    return (num_bytes / peak * 1e9).floor().cast(pl.Int64)


def with_bandwidth(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the bandwidths and `link_share` from `_size`, `_bus_bytes`, `_peak`, `_equal`, `_shortest` and `transfer_ns`.

    Modelled transfers give no bandwidth: it would be the peak itself.
    """
    measured = pl.when(~pl.col("estimated").fill_null(value=False)).then("transfer_ns")
    complete = pl.col("num_present") == pl.col("num_members")
    time = pl.when(pl.col("_equal") & complete).then("_shortest").otherwise(measured)
    seconds = pl.when(time > 0).then(time / 1e9)
    return rows.with_columns(
        (pl.col("_size") / seconds).alias("algorithm_bytes_per_second"),
        (pl.col("_bus_bytes") / seconds).alias("bus_bytes_per_second"),
    ).with_columns((pl.col("bus_bytes_per_second") / pl.col("_peak")).alias("link_share"))


def spread_of_groups(groups: pl.Series, links: pl.DataFrame) -> pl.DataFrame:
    """Whether groups reach over hosts: `group`, `between_hosts`; null if a member's host is not known."""
    hosts = links.select(pl.col("rank").alias("member"), pl.col("host").alias("member_host"))
    return (
        groups.alias("group")
        .to_frame()
        .unique()
        .drop_nulls()
        .with_columns(pl.col("group").str.split(",").cast(pl.List(pl.Int32)).alias("member"))
        .explode("member")
        .join(hosts, on="member", how="left")
        .group_by("group")
        .agg(
            pl.when(pl.col("member_host").drop_nulls().n_unique() > 1)
            .then(pl.lit(value=True))
            .when(pl.col("member_host").is_not_null().all())
            .then(pl.lit(value=False))
            .alias("between_hosts")
        )
    )


def _kept() -> pl.Expr:
    members = pl.col("num_members").cast(pl.Float64)
    return (members - 1) / members


def size_of_operation() -> pl.Expr:
    """nccl-tests' size of the operation."""
    whole = pl.max_horizontal("send_bytes", "receive_bytes").cast(pl.Float64)
    return pl.when(pl.col("kind").is_in(["all_reduce", "all_to_all"])).then("send_bytes").otherwise(whole)


def _bus_bytes() -> pl.Expr:
    uneven = pl.max_horizontal(_away("send"), _away("receive"))
    even = pl.col("send_bytes") == pl.col(
        "receive_bytes"
    )  # without split sizes unequal or unknown bytes say too little
    return (
        pl.when(pl.col("kind") == "all_reduce")
        .then(2 * _kept() * pl.col("send_bytes"))
        .when(pl.col("kind").is_in(["all_gather", "reduce_scatter"]))
        .then(_kept() * size_of_operation())
        .when(pl.col("kind") == "all_to_all")
        .then(pl.coalesce(uneven, pl.when(even).then(_kept() * pl.col("send_bytes"))))
        .when(pl.col("kind").is_in(["broadcast", "reduce"]))
        .then(size_of_operation())
    )


def _crossing_bytes() -> pl.Expr:
    """Bytes that cross a member's link in one direction at least: an all-reduce in the switch sends the buffer once."""
    return pl.when(pl.col("kind") == "all_reduce").then(pl.col("send_bytes")).otherwise("_bus_bytes")


def _away(side: str) -> pl.Expr:
    """Bytes sent or received less the own chunk; null without split sizes."""
    splits = pl.col(f"{side}_splits")
    total = splits.list.sum()
    others = total - splits.list.get(_position(), null_on_oob=True)
    return pl.when((splits.list.len() > 0) & (total > 0)).then(others / total * pl.col(f"{side}_bytes"))


def _position() -> pl.Expr:
    """Place of the rank in its group: how many members stand before it."""
    padded = pl.concat_str(pl.lit(","), "group", pl.lit(","))
    before = padded.str.split(pl.concat_str(pl.lit(","), pl.col("rank").cast(pl.String), pl.lit(","))).list.first()
    return before.str.count_matches(",", literal=True)
