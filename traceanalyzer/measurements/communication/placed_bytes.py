"""How many bytes every rank sends within its host and to other hosts, by mesh dimension.

Bytes are those that the algorithm has to send, whatever a library does: of a collective of n members with a tensor of S bytes
on each rank, an all-reduce sends 2(n − 1)/n · S, an all-gather (n − 1) · S, a reduce-scatter (n − 1)/n · S and a broadcast S,
to the next member of the group: a ring in the order of its ranks. An all-to-all sends to every other member what its split
sizes say, or S/n; a message goes to its other end.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from traceanalyzer.schema import PLACED_BYTES, conform

_SENT = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "role": pl.String,
        "group": pl.String,
        "peer": pl.Int32,
        "bytes": pl.Float64,
    }
)
_RINGS = ("all_reduce", "all_gather", "reduce_scatter", "broadcast")


def placed_bytes(collectives: pl.DataFrame, messages: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """`PLACED_BYTES` from `COLLECTIVES`, `P2P` and `RANKS`: what lies in steps, sorted by dimension and rank."""
    sent = pl.concat([_rings(collectives), _exchanges(collectives), _messages(messages)])
    if sent.is_empty():
        return pl.DataFrame(schema=PLACED_BYTES)
    hosts = ranks.select(pl.col("rank").cast(pl.Int32), "host").unique("rank", keep="first")
    known = pl.col("host").is_not_null() & pl.col("peer_host").is_not_null()
    size, other = pl.col("bytes"), pl.col("host") != pl.col("peer_host")
    steps = sent["step"].n_unique()
    rows = (
        sent.join(hosts, on="rank", how="left")
        .join(hosts.rename({"rank": "peer", "host": "peer_host"}), on="peer", how="left")
        .group_by("rank", "role", "host")
        .agg(
            pl.col("group").drop_nulls().n_unique().cast(pl.Int64).alias("num_groups"),
            pl.len().cast(pl.Int64).alias("num_parts"),
            size.is_null().sum().cast(pl.Int64).alias("num_unknown"),
            (size.filter(known & ~other).sum() / steps).alias("within_bytes"),
            (size.filter(known & other).sum() / steps).alias("between_bytes"),
            (size.filter(~known.fill_null(value=False)).sum() / steps).alias("unplaced_bytes"),
        )
        .join(_crossing(sent, hosts), on=["rank", "role"], how="left", nulls_equal=True)
    )
    return conform(rows, PLACED_BYTES).sort("role", "rank", nulls_last=True)


def hosts_of_groups(groups: pl.Series, hosts: Mapping[int, str | None]) -> dict[str, set[str | None]]:
    """Hosts of the members of every group as text; None among them if that of a member is not known."""
    return {
        group: {hosts.get(int(member)) for member in group.split(",")}
        for group in groups.drop_nulls().unique(maintain_order=True)
    }


def members_of(groups: pl.Series) -> pl.DataFrame:
    """`group`, `rank`, `position`, `size` and `next`, the member after it, of groups as text.

    Rows of a group share its text, which may be long.
    """
    members = pl.col("rank")
    return (
        groups.drop_nulls().unique(maintain_order=True).cast(pl.String).to_frame("group")
        .with_columns(pl.col("group").str.split(",").cast(pl.List(pl.Int32)).alias("rank"))
        .with_columns(
            pl.int_ranges(members.list.len()).alias("position"),
            members.list.len().cast(pl.Int64).alias("size"),
            pl.concat_list(members.list.slice(1), members.list.head(1)).alias("next"),
        )
        .explode("rank", "position", "next")
        .select("group", "rank", "position", "size", "next")
    )  # fmt: skip


def _rings(collectives: pl.DataFrame) -> pl.DataFrame:
    """What goes to the next member of the group."""
    kind, n = pl.col("kind"), pl.col("size").cast(pl.Float64)
    factors = {
        "all_reduce": 2 * (n - 1) / n,
        "all_gather": n - 1,
        "reduce_scatter": (n - 1) / n,
        "broadcast": pl.lit(1.0),
    }
    factor = pl.coalesce(pl.when(kind == name).then(value) for name, value in factors.items())
    used = collectives.filter(kind.is_in(_RINGS) & pl.col("step").is_not_null())
    members = members_of(used["group"]).filter(
        pl.col("rank").is_in(used["rank"].unique().implode())
    )  # keys of two columns are copied
    placed = used.join(members, on=["group", "rank"], how="left")
    return _as_sent(placed.with_columns(pl.col("next").alias("peer"), (pl.col("send_bytes") * factor).alias("bytes")))


def _exchanges(collectives: pl.DataFrame) -> pl.DataFrame:
    """What goes to every other member in all-to-alls."""
    used = collectives.filter((pl.col("kind") == "all_to_all") & pl.col("step").is_not_null())
    members = members_of(used["group"]).select("group", pl.col("rank").alias("peer"), "position", "size")
    splits, size = pl.col("send_splits"), pl.col("size")
    total = splits.list.sum()
    part = (
        pl.when(splits.list.len() == size)
        .then(pl.when(total > 0).then(splits.list.get(pl.col("position"), null_on_oob=True) / total).otherwise(0.0))
        .when(splits.list.len().fill_null(0) == 0)
        .then(1 / size)
    )
    each = used.join(members, on="group", how="left").filter(
        (pl.col("peer") != pl.col("rank")) | pl.col("peer").is_null()
    )
    return _as_sent(each.with_columns((pl.col("send_bytes") * part).alias("bytes")))


def _messages(messages: pl.DataFrame) -> pl.DataFrame:
    sends = messages.filter((pl.col("direction") == "send") & pl.col("step").is_not_null())
    return _as_sent(sends)


def _as_sent(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(dtype) for name, dtype in _SENT.items())


def _crosses(hosts: set[str | None]) -> bool | None:
    """Whether a group has members on several hosts; None if that is not known."""
    if len(hosts - {None}) > 1:
        return True
    return None if None in hosts else False


def _crossing(sent: pl.DataFrame, hosts: pl.DataFrame) -> pl.DataFrame:
    """`rank`, `role`, `num_crossing`: groups with members on several hosts; null if that is not known of one."""
    placed = hosts_of_groups(sent["group"], dict(hosts.iter_rows()))
    crossing = pl.DataFrame(
        {"group": list(placed), "crosses": list(map(_crosses, placed.values()))},
        schema={"group": pl.String, "crosses": pl.Boolean},
    )
    used = sent.select("rank", "role", "group").unique().join(crossing, on="group", how="left")
    known = pl.col("crosses").is_not_null().all()
    return used.group_by("rank", "role").agg(
        pl.when(known).then(pl.col("crosses").sum().cast(pl.Int64)).alias("num_crossing")
    )
