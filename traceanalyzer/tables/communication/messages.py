"""Events → sends and receives of CPU (gloo) traces: who called what for whom.

`c10d::send` and `c10d::recv_` carry the other end as a *position in the group* and do not name the group: it is the
group described as a pipeline if the rank is in exactly one, else the whole job. A receive ends when its wait returned
(the `gloo:recv` range that begins inside the call); gloo does not show when a send was through.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.job import Job
from traceanalyzer.schema import P2P, conform
from traceanalyzer.tables.communication.matching import match_messages
from traceanalyzer.tables.computation.shapes import tensor_bytes
from traceanalyzer.tables.groups.listed import described_roles, process_groups, with_role, world_group
from traceanalyzer.tables.steps.windows import assign_steps, on_main_thread

_DIRECTIONS = {"c10d::send": "send", "c10d::recv_": "receive"}
_RANGES = {"gloo:send": "send", "gloo:recv": "receive"}


def cpu_messages(events: pl.DataFrame, windows: pl.DataFrame, ranks: pl.DataFrame, job: Job | None) -> pl.DataFrame:
    """Sends and receives inside the step windows (`P2P`), sorted by rank and start. Needs `record_shapes=True`."""
    main = on_main_thread(events).with_columns(pl.col("name").cast(pl.String))
    position = pl.col("args").str.json_path_match('$["Concrete Inputs"][2]').cast(pl.Int64, strict=False)
    calls = main.filter(pl.col("name").is_in(list(_DIRECTIONS))).select(
        "rank",
        "cycle",
        pl.col("name").replace_strict(_DIRECTIONS, return_dtype=pl.String).alias("kind"),
        "start_ns",
        (pl.col("start_ns") + pl.col("duration_ns")).alias("call_end_ns"),
        position.alias("position"),
    )
    if calls.is_empty():
        return pl.DataFrame(schema=P2P)
    members = pl.col("group").str.split(",").list
    placed = _with_group(_with_end(calls, main), ranks).with_columns(
        members.get(pl.col("position"), null_on_oob=True).cast(pl.Int32, strict=False).alias("peer"),
        pl.lit(None, pl.String).alias("pg_name"),
        pl.lit(value=False).alias("coalesced"),
        pl.col("kind").cast(P2P["direction"]).alias("direction"),
        pl.col("start_ns").alias("order_ns"),
    )
    named = with_role(assign_steps(placed, windows), ranks, job)
    return conform(match_messages(named, ranks["rank"]), P2P).sort("rank", "start_ns")


def _with_end(calls: pl.DataFrame, main: pl.DataFrame) -> pl.DataFrame:
    """Add `bytes`, from the `gloo:` range that begins inside the call, and `end_ns`: of receives; null for sends."""
    ranges = main.filter(pl.col("name").is_in(list(_RANGES)) & (pl.col("category") == "user_annotation")).select(
        "rank",
        pl.col("name").replace_strict(_RANGES, return_dtype=pl.String).alias("kind"),
        pl.col("start_ns").alias("range_ns"),
        (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"),
        tensor_bytes(pl.col("args"), 0).alias("bytes"),
    )
    inside = pl.col("range_ns") <= pl.col("call_end_ns")
    return (
        calls.sort("start_ns")
        .join_asof(
            ranges.sort("range_ns"),
            left_on="start_ns",
            right_on="range_ns",
            by=["rank", "kind"],
            strategy="forward",
            check_sortedness=False,
        )
        .with_columns(
            pl.when(inside & (pl.col("kind") == "receive")).then("end_ns").alias("end_ns"),
            pl.when(inside).then("bytes").alias("bytes"),
        )
    )


def _with_group(calls: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """Add `group`: the rank's only pipeline group, else the whole job."""
    groups = process_groups(ranks)
    world = world_group(ranks)
    pipelines = described_roles(groups).filter(pl.col("role") == "pp").select("group", "pg_name")
    own = (
        groups.join(pipelines, on=["group", "pg_name"], how="semi")
        .group_by("rank")
        .agg(pl.col("group").unique())
        .filter(pl.col("group").list.len() == 1)
        .select("rank", pl.col("group").list.first())
    )
    return calls.join(own, on="rank", how="left").with_columns(
        pl.coalesce("group", pl.lit(world, pl.String)).alias("group")
    )
