"""Flight-recorder dumps and NCCL Inspector records as collectives and messages, alone or beside a trace's own.

A dump names a rank, a group and a number in that group: collectives are matched by them. Where a dump does not list the
members of a group (gloo), they are taken to be the ranks that recorded in it; of the default group all that left a dump.
Inspector numbers collectives by communicator and kind. Both count messages per rank and not per pair. Of dumps that hold
everything since their process began (record 0 is there) the k-th message from i to j is the k-th that j received from i,
up to the first whose sizes differ; of other dumps, and of Inspector, the ends of one message cannot be joined.

Dumps show when a call was made (`launch_start_ns`) and, with timing switched on, how long the device took; neither shows
when the device began, so `start_ns` and `end_ns` stay null (Inspector's verbose records show them).
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from traceanalyzer.schema import (
    ACTIONS,
    CLOCKS,
    COLLECTIVES,
    KERNELS,
    P2P,
    RECEIVES,
    ROUTING,
    STEPS,
    conform,
    empty,
)
from traceanalyzer.tables import Tables
from traceanalyzer.tables.clocks.alignment import ClockState, on_one_clock
from traceanalyzer.tables.communication.calls import KINDS
from traceanalyzer.tables.communication.matching import match_collectives, match_messages
from traceanalyzer.tables.steps.parts import OPTIMIZER, PASSES

SAME_CALL_NS = 1_000_000
"""A call in a dump and one in a trace, of one rank and kind, that are no further apart are the same one."""
_RECORDED = ["state", "recorded_duration_ns", "algorithm", "protocol"]
_INTERVAL = {"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}


def recorded_collectives(flight: pl.DataFrame, inspector: pl.DataFrame) -> pl.DataFrame:
    """`COLLECTIVES` of `FLIGHT` dumps and of `INSPECTOR` records with `job_rank`, matched across ranks."""
    if flight.is_empty() and inspector.is_empty():
        return empty(COLLECTIVES)
    dumped = flight.filter(~pl.col("is_p2p").fill_null(value=False) & pl.col("rank").is_not_null())
    measured = inspector.filter(pl.col("peer").is_null() & pl.col("job_rank").is_not_null())
    of_dumps, of_records = _matched(_dumped(dumped)), _matched(_measured(measured))
    taken = pl.lit(of_dumps["match"].max(), pl.UInt64).fill_null(0) + 1  # both number their matches from 0
    both = pl.concat([of_dumps, of_records.with_columns(pl.col("match") + taken)])
    return both.sort("rank", "launch_start_ns", "recorded_sequence")


def recorded_messages(flight: pl.DataFrame, inspector: pl.DataFrame) -> pl.DataFrame:
    """`P2P` of the same; matched where the dumps of both ends begin with their process."""
    name = pl.col("name").str.extract(r":(send|recv)\b")
    local = pl.col("name").str.extract(r"(?:send \d+->|recv \d+<-)(\d+)").cast(pl.Int64, strict=False)
    members = pl.col("group").str.split(",")
    dumped = _with_group(flight.filter(pl.col("rank").is_not_null())).filter(name.is_not_null())
    of_dumps = dumped.with_columns(
        name.replace({"recv": "receive"}).cast(P2P["direction"]).alias("direction"),
        members.list.get(local, null_on_oob=True).cast(pl.Int32, strict=False).alias("peer"),
        pl.coalesce(pl.when(name == "recv").then("receive_bytes"), "send_bytes").alias("bytes"),
        pl.col("created_ns").alias("launch_start_ns"),
    )
    groups = _communicators(inspector)
    of_records = (
        inspector.filter(pl.col("peer").is_not_null() & pl.col("kind").is_in(["send", "receive"]))
        .join(groups, on="communicator", how="left")
        .with_columns(
            members.list.get(pl.col("peer").cast(pl.Int64), null_on_oob=True)
            .cast(pl.Int32, strict=False)
            .alias("peer"),
            pl.col("kind").cast(P2P["direction"]).alias("direction"),
            pl.col("job_rank").alias("rank"),
        )
    )
    reason = pl.lit("records count messages per rank, so the two ends cannot be joined").alias("unmatched")
    none = pl.lit("none").cast(P2P["match_basis"]).alias("match_basis")
    parts = [_matched_from_the_start(of_dumps, flight), of_records.with_columns(reason, none)]
    whole = [conform(part.with_columns(pl.lit(0).alias("cycle")), P2P) for part in parts]
    return pl.concat(whole).sort("rank", "launch_start_ns")


def _matched_from_the_start(messages: pl.DataFrame, flight: pl.DataFrame) -> pl.DataFrame:
    """Messages of dumps, matched by order from the first one on, where neither end's ring buffer has lost any."""
    complete = flight.group_by("rank").agg(pl.col("record").min() == 0).filter("record")["rank"].to_list()
    dumped = flight["rank"].drop_nulls().unique().to_list()
    both = pl.col("rank").is_in(complete) & pl.col("peer").is_in(complete)
    matched = match_messages(
        messages.with_columns(
            pl.when(both).then(0).cast(pl.Int32).alias("step"),
            (-pl.col("record")).alias("order_ns"),  # counted from the end of what runs backwards: from the start
        ),
        flight["rank"].drop_nulls(),
    )
    lost = both.not_() & pl.col("peer").is_in(dumped)
    reason = pl.when(lost).then(pl.lit("the dump of one end has lost its first records")).otherwise("unmatched")
    return matched.with_columns(reason.alias("unmatched"), pl.lit(None, pl.Int32).alias("step"))


def tables_of_records(ranks: pl.DataFrame, collectives: pl.DataFrame, messages: pl.DataFrame) -> Tables:
    """Tables of a run of which nothing but records is known: no step, no kernel, no comparable clocks."""
    return Tables(
        ranks=ranks,
        steps=empty(STEPS),
        kernels=empty(KERNELS),
        actions=empty(ACTIONS),
        actions_inferred=False,
        passes=empty(PASSES),
        optimizer=empty(OPTIMIZER),
        receives=empty(RECEIVES),
        collectives=collectives,
        p2p=messages,
        operators=pl.DataFrame(schema=_INTERVAL),
        expert_computation=pl.DataFrame(
            schema={"rank": pl.Int32, "step": pl.Int32, "part": pl.String, "layer": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}
        ),
        routing=empty(ROUTING),
        clock=ClockState("unknown", None),
        clocks=empty(CLOCKS),
    )  # fmt: skip


def with_recorded(tables: Tables, recorded: pl.DataFrame) -> Tables:
    """Tables of traces whose collectives carry what `recorded` (`COLLECTIVES`) says of the same calls.

    Joined by rank, group name and number in the group where the trace shows them, else by the nearest call of the rank and
    kind within `SAME_CALL_NS`.
    """
    calls = on_one_clock(recorded, tables.clocks).with_columns(
        pl.coalesce("start_ns", "launch_start_ns").alias("_at"), pl.col("rank").cast(pl.Int32)
    )
    rows = tables.collectives.with_row_index("_row")
    numbered = rows.select("_row", "rank", "pg_name", "recorded_sequence", "kind").drop_nulls()
    keys = ["rank", "pg_name", "recorded_sequence", "kind"]
    by_number = numbered.join(calls.unique(keys, keep="first", maintain_order=True), on=keys)
    rest = rows.join(by_number, on="_row", how="anti").with_columns(
        pl.when(pl.col("index").is_null())
        .then("start_ns")
        .otherwise(pl.coalesce("launch_start_ns", "start_ns"))
        .alias("_at")
    )
    by_time = (
        rest.select("_row", "rank", "kind", "_at")
        .drop_nulls()
        .sort("_at")
        .join_asof(
            calls.drop_nulls("_at").sort("_at"),
            on="_at",
            by=["rank", "kind"],
            strategy="nearest",
            tolerance=SAME_CALL_NS,
            check_sortedness=False,
        )
        .filter(pl.col("source").is_not_null())
    )
    found = pl.concat([part.select("_row", "source", *_RECORDED) for part in (by_number, by_time)])
    joined = rows.drop("source", *_RECORDED).join(found, on="_row", how="left", maintain_order="left")
    return replace(tables, collectives=conform(joined, COLLECTIVES))


def _dumped(flight: pl.DataFrame) -> pl.DataFrame:
    """Rows to match, from dumps."""
    name = pl.col("name").str.strip_prefix("nccl:").str.replace(r"^\w+:", "")
    kind = name.replace_strict(KINDS, default=name, return_dtype=pl.String)
    state = pl.when(pl.col("retired").fill_null(value=False)).then(pl.lit("completed")).otherwise("state")
    return _with_group(flight).with_columns(
        kind.alias("kind"),
        state.alias("state"),
        pl.lit("flight_recorder").alias("source"),
        pl.col("created_ns").alias("launch_start_ns"),
        pl.col("duration_ns").alias("recorded_duration_ns"),
        pl.col("pg_name").alias("_numbered_in"),
        pl.lit(None, pl.String).alias("algorithm"),
        pl.lit(None, pl.String).alias("protocol"),
        pl.lit(None, pl.Int64).alias("start_ns"),
        pl.lit(None, pl.Int64).alias("end_ns"),
    )


def _with_group(flight: pl.DataFrame) -> pl.DataFrame:
    """`group` as any rank lists it; else the ranks that recorded in it, of the default group all with a dump."""
    everyone = ",".join(str(rank) for rank in sorted(flight["rank"].drop_nulls().unique()))
    used = pl.col("rank").unique().sort().cast(pl.String).str.join(",")
    known = flight.group_by("pg_name").agg(
        pl.col("group").drop_nulls().first().alias("_listed"),
        pl.when((pl.col("pg_desc") == "default_pg").any()).then(pl.lit(everyone)).otherwise(used).alias("_used"),
    )
    return (
        flight.join(known, on="pg_name", how="left", maintain_order="left")
        .with_columns(pl.coalesce("group", "_listed", "_used").alias("group"))
        .drop("_listed", "_used")
    )


def _measured(inspector: pl.DataFrame) -> pl.DataFrame:
    """Rows to match, from Inspector: `bytes` is a rank's part of what gathers and scatters move."""
    whole = pl.col("bytes") * pl.col("num_members").cast(pl.Int64)
    send = pl.when(pl.col("kind") == "reduce_scatter").then(whole).otherwise("bytes")
    receive = pl.when(pl.col("kind") == "all_gather").then(whole).otherwise("bytes")
    forwards = pl.col("start_ns") <= pl.col("end_ns")
    return inspector.join(_communicators(inspector), on="communicator", how="left").with_columns(
        *[pl.when(forwards).then(name).alias(name) for name in ("start_ns", "end_ns")],
        pl.col("job_rank").alias("rank"),
        pl.coalesce("communicator_name", "communicator").alias("pg_name"),
        pl.concat_str("communicator", pl.lit(" "), "kind").alias("_numbered_in"),
        send.alias("send_bytes"),
        receive.alias("receive_bytes"),
        pl.lit("nccl_inspector").alias("source"),
        pl.lit("completed").alias("state"),
        pl.col("duration_ns").alias("recorded_duration_ns"),
        pl.col("start_ns").alias("launch_start_ns"),
    )


def _communicators(inspector: pl.DataFrame) -> pl.DataFrame:
    """`communicator` and its members in the job as `group`, where all are known."""
    members = inspector.drop_nulls(["job_rank", "rank"]).unique(["communicator", "rank"], maintain_order=True)
    return (
        members.sort("communicator", "rank")
        .group_by("communicator", maintain_order=True)
        .agg(pl.col("job_rank").cast(pl.String).str.join(",").alias("group"), pl.len(), pl.col("num_members").max())
        .filter(pl.col("len") == pl.col("num_members"))
        .select("communicator", "group")
    )


def _matched(rows: pl.DataFrame) -> pl.DataFrame:
    if rows.is_empty():
        return empty(COLLECTIVES)
    keyed = rows.with_columns(
        pl.lit(None, pl.Int32).alias("step"),
        pl.lit(0, pl.Int32).alias("cycle"),
        pl.lit(None, pl.UInt64).alias("communicator"),
        pl.coalesce("launch_start_ns", "sequence_number").alias("order_ns"),
        pl.col("sequence_number").alias("recorded_sequence"),
        pl.col("pg_name").alias("_shown"),
        pl.col("_numbered_in").alias("pg_name"),
    )
    matched = match_collectives(keyed, keyed["rank"]).with_columns(pl.col("_shown").alias("pg_name"))
    return conform(matched, COLLECTIVES)
