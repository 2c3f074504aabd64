"""Links that take longer than the run's other links for the same bytes.

Of exchanges between all members of a group the run's own line tells what bytes should take, and `repaired_links` what
they would take without a slow port. Of messages the links of a run are each other's measure: a link is slow if its median
transfer of one size takes `MIN_RATIO` as long as that of the fastest quarter. Links inside a host and between hosts are
apart. A culprit is named only where all slow links have one rank, or one pair of ranks, in common.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import polars as pl

from traceanalyzer.measurements.communication.slow_exchange import slow_patterns, slow_ports

MIN_RATIO = 1.25
MIN_MESSAGES = 3
"""Per link and size."""
_LINK = ["source", "target"]


@dataclass(frozen=True, slots=True)
class SlowPlace:
    """A slow port of a rank, or one slow link."""

    rank: int
    peer: int | None
    """Who receives what `rank` sends slowly; None: all links of the rank."""
    side: str
    """`sends`, `receives`, or `sends and receives`."""
    ratio: float
    """Its own transfers over what they should take."""
    excess_ms: float
    """Likewise, the difference per step."""
    transfers: pl.DataFrame
    """`rank`, `index`, `repaired_ns`: what every transfer that it lengthens would take."""
    not_counted_ms: float = 0.0
    """Per step: other collectives of a slow rank, which no group without it shows to be long."""


def slow_places(expected: pl.DataFrame, messages: pl.DataFrame, collectives: pl.DataFrame) -> list[SlowPlace]:
    """Slow links, those of one rank taken together.

    Args:
        expected: `slow_exchange.expected_transfers` with `repaired_ns`.
        messages: `P2P_SPLITS`.
        collectives: `COLLECTIVE_SPLITS`, whose other kinds a slow rank lengthens, too.
    """
    found = _of_exchanges(expected)
    for other in _of_messages(messages):
        same = next((each for each in found if each.peer is None and each.rank in (other.rank, other.peer)), None)
        found = [_together(place, other) if place is same else place for place in found]
        found += [other] if same is None else []
    return [_with_collectives(place, collectives) if place.peer is None else place for place in found]


def _together(port: SlowPlace, messages: SlowPlace) -> SlowPlace:
    """The port of a rank with its messages."""
    transfers = pl.concat([each.transfers.select("rank", "index", "repaired_ns") for each in (port, messages)])
    return replace(port, excess_ms=port.excess_ms + messages.excess_ms, transfers=transfers)


def _with_collectives(port: SlowPlace, collectives: pl.DataFrame) -> SlowPlace:
    """The port of a rank with the collectives it lengthens, where groups without it show what they should take."""
    known = collectives.filter(
        pl.all_horizontal(pl.col("transfer_ns", "index", "group", "match", "send_bytes").is_not_null())
        & (pl.col("kind").cast(pl.String) != "all_to_all")
    )
    holds = pl.col("group").str.split(",").list.contains(str(port.rank))
    alike = ["kind", "num_members", "send_bytes", "receive_bytes", "between_hosts"]
    usual = known.filter(~holds).group_by(alike).agg(pl.col("transfer_ns").median().alias("_usual"))
    own = known.filter(holds).join(usual, on=alike, how="left", nulls_equal=True)
    alone = own.filter((pl.col("rank") == port.rank) & pl.col("_usual").is_null())
    port = replace(port, not_counted_ms=int(alone["transfer_ns"].sum()) / 1e6 / max(known["step"].n_unique(), 1))
    slow = own.filter(pl.col("transfer_ns").median().over(alike) > MIN_RATIO * pl.col("_usual"))
    repaired = pl.min_horizontal("transfer_ns", pl.col("_usual").round().cast(pl.Int64)).alias("repaired_ns")
    slow = slow.with_columns(repaired).join(port.transfers, on=["rank", "index"], how="anti")
    if slow.is_empty():
        return port
    mine = slow.filter(pl.col("rank") == port.rank)
    beyond = int((mine["transfer_ns"] - mine["repaired_ns"]).sum()) / 1e6 / max(slow["step"].n_unique(), 1)
    transfers = pl.concat([port.transfers, slow.select("rank", "index", "repaired_ns")])
    return replace(port, excess_ms=port.excess_ms + beyond, transfers=transfers)


def _of_exchanges(expected: pl.DataFrame) -> list[SlowPlace]:
    """The slow port of every group that has one."""
    ports = slow_ports(expected)
    if ports.is_empty():
        return []
    rows = expected.filter(pl.col("index").is_not_null() & (pl.col("transfer_ns") > pl.col("repaired_ns")))
    return [
        _place(rows.filter(pl.col("group") == group), sender, receiver)
        for group, pattern, sender, receiver in slow_patterns(ports).iter_rows()
        if pattern != "mixed" and not rows.filter(pl.col("group") == group).is_empty()
    ]


def _place(rows: pl.DataFrame, sender: int | None, receiver: int | None) -> SlowPlace:
    """From one group's `rank`, `step`, `index`, `transfer_ns`, `repaired_ns`."""
    point = sender is not None and receiver is not None and sender != receiver
    rank = sender if sender is not None else receiver
    own = rows.filter(pl.col("rank") == rank)
    took, should, num_steps = int(own["transfer_ns"].sum()), int(own["repaired_ns"].sum()), rows["step"].n_unique()
    sides = [name for name, end in (("sends", sender), ("receives", receiver)) if end is not None]
    return SlowPlace(
        rank=rank if rank is not None else -1,
        peer=receiver if point else None,
        side="sends" if point else " and ".join(sides),
        ratio=took / max(should, 1),
        excess_ms=(took - should) / 1e6 / max(num_steps, 1),
        transfers=rows.select("rank", "index", "repaired_ns"),
    )


def _of_messages(messages: pl.DataFrame) -> list[SlowPlace]:
    """The rank or link that all slow links have in common."""
    known = messages.filter(
        pl.all_horizontal(pl.col("transfer_ns", "bytes", "peer", "index", "step").is_not_null())
        & (pl.col("bytes") > 0)
        & (pl.col("role").cast(pl.String) == "pp")
    ).with_columns(
        pl.when(pl.col("direction") == "send").then("rank").otherwise("peer").alias("source"),
        pl.when(pl.col("direction") == "send").then("peer").otherwise("rank").alias("target"),
    )
    received = known.filter(pl.col("direction") == "receive")
    alike = ["bytes", "between_hosts"]
    usual = (
        received.group_by(*_LINK, *alike)
        .agg(pl.col("transfer_ns").median().alias("_own"), pl.col("transfer_ns").quantile(0.25).alias("_low"), pl.len())
        .filter((pl.col("len") >= MIN_MESSAGES) & (pl.len().over(alike) > 1))
        .with_columns(pl.col("_own").quantile(0.25, interpolation="lower").over(alike).alias("_usual"))
    )
    slow = usual.filter((pl.col("_own") > MIN_RATIO * pl.col("_usual")) & (pl.col("_low") > pl.col("_usual")))
    pairs = list(slow.select(_LINK).unique().iter_rows())
    common = reduce(lambda ranks, pair: ranks & set(pair), pairs, set(pairs[0])) if pairs else set[int]()
    if not common:
        return []
    slowed = known.join(slow.select(*_LINK, *alike, "_usual"), on=[*_LINK, *alike], nulls_equal=True).with_columns(
        pl.min_horizontal("transfer_ns", pl.col("_usual").round().cast(pl.Int64)).alias("repaired_ns")
    )
    return [_message_place(slowed, pairs, common)]


def _message_place(slowed: pl.DataFrame, pairs: list[tuple[int, int]], common: set[int]) -> SlowPlace:
    received = slowed.filter(pl.col("direction") == "receive")
    took, should = int(received["transfer_ns"].sum()), int(received["repaired_ns"].sum())
    one = len({frozenset(pair) for pair in pairs}) == 1
    rank, peer = pairs[0] if one else (min(common), None)
    sides = [name for name, at in (("sends", 0), ("receives", 1)) if any(pair[at] == rank for pair in pairs)]
    return SlowPlace(
        rank=rank,
        peer=peer,
        side=" and ".join(sides),
        ratio=took / max(should, 1),
        excess_ms=(took - should) / 1e6 / max(received["step"].n_unique(), 1),
        transfers=slowed.group_by("rank", "index").agg(pl.col("repaired_ns").max().alias("repaired_ns")),
    )
