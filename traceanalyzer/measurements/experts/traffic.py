"""Who sends how much to whom: the rank → rank matrix of every all-to-all, in global ranks.

A split list names members of the process group by position; members are global ranks here. The sender's list is used
where the sender was captured, else the receiver's, so that one side is enough; where both are there and differ, the row
says so. A list that is shorter or longer than the group (profilers cut long lists) is not data: such an exchange is
counted, never guessed.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import TRAFFIC, conform

EXCHANGE = ["step", "group", "sequence", "layer", "direction"]
"""What identifies one all-to-all; sequences count per kind, group and step."""


def aligned_sequences(splits: pl.DataFrame) -> pl.DataFrame:
    """`COLLECTIVES` or `COLLECTIVE_SPLITS` whose `sequence` is the same on all members of one matched collective.

    Captures that lost their head count differently: the largest number, of the member that saw most, holds for all. A
    collective that could not be matched gets a number of its own below zero, so that nothing joins it.
    """
    alone = -1 - pl.int_range(pl.len(), dtype=pl.Int32)
    together = pl.col("sequence").max().over("match")
    return splits.with_columns(pl.when(pl.col("match").is_null()).then(alone).otherwise(together).alias("sequence"))


def traffic(collectives: pl.DataFrame) -> pl.DataFrame:
    """`TRAFFIC` of the all-to-alls in `COLLECTIVES`: one row per exchange, source and target with known splits."""
    exchanges = collectives.filter((pl.col("kind") == "all_to_all") & pl.col("group").is_not_null())
    sent = _by_peer(exchanges, "send").rename({"rank": "source", "peer": "target"})
    received = _by_peer(exchanges, "receive").rename({"rank": "target", "peer": "source"})
    keys = [*EXCHANGE, "source", "target"]
    both = sent.join(received, on=keys, how="full", coalesce=True, nulls_equal=True, suffix="_received")
    agrees = (pl.col("tokens") == pl.col("tokens_received")) & (pl.col("bytes") == pl.col("bytes_received"))
    rows = both.with_columns(
        agrees.alias("agrees"),
        pl.coalesce("tokens", "tokens_received").alias("tokens"),
        pl.coalesce("bytes", "bytes_received").alias("bytes"),
    )
    return conform(rows, TRAFFIC).sort("step", "group", "sequence", "source", "target")


def unreadable_splits(collectives: pl.DataFrame) -> int:
    """All-to-all records whose split list is missing or was cut: its length is neither 0 (even) nor that of the group."""
    size = pl.col("group").str.split(",").list.len()
    cut = pl.any_horizontal(
        pl.col(name).is_null() | ((pl.col(name).list.len() > 0) & (pl.col(name).list.len() != size))
        for name in ("send_splits", "receive_splits")
    )
    return collectives.filter((pl.col("kind") == "all_to_all") & pl.col("group").is_not_null() & cut).height


def byte_loads(matrix: pl.DataFrame) -> pl.DataFrame:
    """Bytes that cross a link, per exchange and rank: `EXCHANGE`, `rank`, `sent_bytes`, `received_bytes`.

    What a rank keeps for itself crosses none. The time of an all-to-all follows the larger of the two.
    """
    crossing = matrix.filter(pl.col("source") != pl.col("target"))
    sent = crossing.group_by(*EXCHANGE, pl.col("source").alias("rank")).agg(pl.col("bytes").sum().alias("sent_bytes"))
    received = crossing.group_by(*EXCHANGE, pl.col("target").alias("rank")).agg(
        pl.col("bytes").sum().alias("received_bytes")
    )
    joined = sent.join(received, on=[*EXCHANGE, "rank"], how="full", coalesce=True, nulls_equal=True)
    return joined.with_columns(pl.col("sent_bytes", "received_bytes").fill_null(0)).sort(*EXCHANGE, "rank")


def between_hosts(matrix: pl.DataFrame, hosts: pl.DataFrame) -> pl.DataFrame:
    """`TRAFFIC` without what stays on a host, of the exchanges that reach over hosts; all of the others.

    Links between hosts are so much slower that an exchange over both lasts as long as they need. `hosts` has `rank` and `host`;
    exchanges of ranks whose host is not known stay as they are.
    """
    places = hosts.select(pl.col("rank").cast(pl.Int32), "host").unique("rank", keep="first")
    placed = matrix.join(places.rename({"rank": "source"}), on="source", how="left", maintain_order="left").join(
        places.rename({"rank": "target", "host": "_target_host"}), on="target", how="left", maintain_order="left"
    )
    known = pl.all_horizontal(pl.col("host", "_target_host").is_not_null()).all().over(EXCHANGE)
    crosses = (pl.col("host") != pl.col("_target_host")).fill_null(value=False)
    reaches = known & (crosses & (pl.col("bytes") > 0)).any().over(EXCHANGE)
    return placed.filter(~reaches | crosses).select(matrix.columns)


def _by_peer(exchanges: pl.DataFrame, side: str) -> pl.DataFrame:
    """`EXCHANGE`, `rank`, `peer`, `tokens`, `bytes` of one side. Even splits give bytes alone: rows are not recorded."""
    splits, size = pl.col(f"{side}_splits"), pl.col("members").list.len().cast(pl.Int64)
    total = pl.col(f"{side}_bytes")
    even = (splits.list.len() == 0) & (total % size == 0)
    rows = (
        exchanges.lazy()
        .with_columns(pl.col("group").str.split(",").cast(pl.List(pl.Int32)).alias("members"))
        .filter((splits.list.len() == pl.col("members").list.len()) | even)
        .with_columns(
            pl.when(even).then(pl.lit(None, pl.Int64).repeat_by(size)).otherwise(splits).alias("tokens"),
            pl.when(even).then(total // size).alias("even_bytes"),
            splits.list.sum().alias("all_rows"),
        )
        .explode("members", "tokens")
        .select(
            *EXCHANGE,
            "rank",
            pl.col("members").alias("peer"),
            "tokens",
            pl.when(pl.col("even_bytes").is_not_null())
            .then("even_bytes")
            .when(pl.col("all_rows") == 0)
            .then(0)
            .otherwise(pl.col("tokens") * total // pl.col("all_rows"))
            .alias("bytes"),
        )
    )
    return rows.collect()
