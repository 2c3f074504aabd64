"""Collectives of device traces: one row per rank and collective, matched across ranks."""

from __future__ import annotations

import polars as pl

from traceanalyzer.job import Job
from traceanalyzer.schema import COLLECTIVES, P2P, conform, empty
from traceanalyzer.tables.communication.matching import match_collectives, match_messages, without_implausible
from traceanalyzer.tables.groups.listed import with_expert_group, with_role

_POINT_TO_POINT = ["send", "receive"]


def device_communication(
    linked: pl.DataFrame, ranks: pl.DataFrame, job: Job | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Collectives (`COLLECTIVES`) and point-to-point (`P2P`) of ranks with a device, from `LINKED` and `RANKS`.

    A kernel that serves no known call is a collective of the kind its name shows; unmatched, unless it exchanges tokens
    and its rank is in one expert group only.
    """
    kind = pl.coalesce("kind", "operation")
    named = with_role(with_expert_group(linked, ranks, job).with_columns(kind.alias("kind")), ranks, job)
    captured = ranks["rank"]
    collectives = _collectives(named.filter(~pl.col("kind").is_in(_POINT_TO_POINT)), captured)
    return collectives, _messages(named.filter(pl.col("kind").is_in(_POINT_TO_POINT)), captured)


def _collectives(rows: pl.DataFrame, captured: pl.Series) -> pl.DataFrame:
    if rows.is_empty():
        return empty(COLLECTIVES)
    one_call = pl.coalesce("call", -1 - pl.col("index"))  # a call may launch several kernels; without call each counts
    whole = (
        rows.sort("rank", "cycle", "start_ns")
        .group_by("rank", "cycle", one_call.alias("_call"), maintain_order=True)
        .agg(
            pl.exclude("start_ns", "end_ns").first(),
            pl.col("start_ns").min(),
            pl.col("end_ns").max(),
        )
        .with_columns(pl.coalesce("call_start_ns", "launch_start_ns", "start_ns").alias("order_ns"))
    )
    matched = match_collectives(whole, captured)
    plausible = without_implausible(whole, matched)
    if plausible is not whole:
        matched = match_collectives(plausible, captured)
    known = pl.col("group").is_not_null() | (pl.col("kind") != "all_reduce")  # what it closes follows from its group
    closed = [pl.when(known).then(name).alias(name) for name in ("role", "role_source")]
    first = pl.col("order_ns").min().over("match")  # the same on all members, whatever the head of a capture lacks
    place = first.rank("dense").over("step", "group", "kind") - 1
    sequence = pl.when(pl.col("match").is_not_null()).then(place).cast(pl.Int32).alias("sequence")
    is_exchange = pl.col("kind") == "all_to_all"
    return conform(
        matched.sort("rank", "start_ns").with_columns(
            *closed,
            sequence,
            pl.col("sequence_number").alias("recorded_sequence"),
            pl.when(is_exchange).then(pl.lit("other")).cast(COLLECTIVES["direction"]).alias("direction"),
        ),
        COLLECTIVES,
    )


def _messages(rows: pl.DataFrame, captured: pl.Series) -> pl.DataFrame:
    if rows.is_empty():
        return empty(P2P)
    sent = pl.col("kind") == "send"
    ends = rows.with_columns(
        pl.col("kind").cast(P2P["direction"]).alias("direction"),
        pl.when(sent).then("send_bytes").otherwise(pl.coalesce("receive_bytes", "send_bytes")).alias("bytes"),
        pl.coalesce("call_start_ns", "launch_start_ns", "start_ns").alias("order_ns"),
    )
    return conform(match_messages(ends, captured), P2P).sort("rank", "start_ns", "index")
