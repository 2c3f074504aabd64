"""Where tokens went: from the side file of the run, else from the split sizes of dispatch all-to-alls."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import ROUTING, conform


def routing_from_records(records: pl.DataFrame) -> pl.DataFrame:
    """Side-file records → `ROUTING`, one row per step, layer, source rank and expert.

    `records` is `ROUTING_RECORDS`. Dropped copies went nowhere and are left out; where they are not known by expert, so is
    the record. Experts live where `expert_ranks` says, else in equal consecutive blocks over the group. Records without
    send splits are of experts sliced over ranks: nothing was routed to a rank.
    """
    if records.is_empty():
        return pl.DataFrame(schema=ROUTING)
    size = pl.col("group").list.len()
    num_experts = pl.col("tokens_to_expert").list.len()
    known = pl.col("dropped_to_expert").list.len() == num_experts
    sent = pl.col("send_splits").list.len() > 0
    rows = (
        records.lazy()
        .filter(sent & (known | (pl.col("dropped") == 0)))
        .with_columns(
            pl.int_ranges(0, num_experts).alias("expert"),
            size.alias("size"),
            num_experts.alias("num_experts"),
            pl.when(known)
            .then("dropped_to_expert")
            .otherwise(pl.lit(0, pl.Int64).repeat_by(num_experts))
            .alias("lost"),
            pl.when(pl.col("expert_ranks").list.len() == num_experts)
            .then("expert_ranks")
            .otherwise(pl.lit(None, pl.Int32).repeat_by(num_experts))
            .alias("home"),
        )
        .explode("expert", "tokens_to_expert", "lost", "home")
        .with_columns((pl.col("expert") * pl.col("size") // pl.col("num_experts")).alias("slot"))
        .select(
            "step",
            "layer",
            pl.col("group").cast(pl.List(pl.String)).list.join(",").alias("group"),
            "rank",
            "expert",
            pl.coalesce("home", pl.col("group").list.get(pl.col("slot"))).alias("expert_rank"),
            (pl.col("tokens_to_expert") - pl.col("lost")).alias("tokens"),
            pl.lit("side_file").alias("source"),
        )
        .collect()
    )
    return conform(rows, ROUTING)


UNPAIRED = "unpaired_splits"
"""Source of rows that are of all-to-alls without a partner: what they exchange need not be tokens for experts."""


def routing_from_splits(collectives: pl.DataFrame, *, unpaired: bool = False) -> pl.DataFrame:
    """Send splits of dispatch all-to-alls → `ROUTING`, one row per step, layer, source and receiving rank.

    With `unpaired`, which wants directions already found, groups that never dispatch (embedding tables, sequences) give
    their all-to-alls, each as a layer of its own.
    """
    split = collectives.filter((pl.col("send_splits").list.len() > 0) & pl.col("group").is_not_null())
    dispatch = split.filter(pl.col("direction") == "dispatch").with_columns(pl.lit("splits").alias("split_source"))
    if unpaired:
        dispatch = pl.concat([dispatch, _alone(split).with_columns(pl.lit(UNPAIRED).alias("split_source"))])
    rows = (
        dispatch.with_columns(pl.col("group").str.split(",").alias("members"))
        .filter(pl.col("members").list.len() == pl.col("send_splits").list.len())
        .explode("members", "send_splits")
        .select(
            "step",
            "layer",
            "group",
            "rank",
            pl.lit(None, pl.Int32).alias("expert"),
            pl.col("members").cast(pl.Int32).alias("expert_rank"),
            pl.col("send_splits").alias("tokens"),
            pl.col("split_source").alias("source"),
        )
    )
    return conform(rows, ROUTING)


def _alone(split: pl.DataFrame) -> pl.DataFrame:
    """Matched all-to-alls of groups that never dispatch (embedding tables, sequences), numbered within their step.

    One row for each member is an exchange of counts, which says nothing of a load.
    """
    paired = split.filter(pl.col("direction").is_in(["dispatch", "combine"])).select("group").unique()
    alone = split.filter(
        (pl.col("kind") == "all_to_all")
        & pl.col("match").is_not_null()
        & (pl.col("num_present") == pl.col("num_members"))
        & (pl.col("send_splits").list.max().max().over("match") > 1)
    ).join(paired, on="group", how="anti", maintain_order="left")
    first = pl.col("start_ns").min().over("match")
    place = (first.rank("dense").over("step", "group") - 1).cast(pl.Int32)
    return alone.with_columns(pl.when(pl.col("layer").is_null()).then(place).otherwise("layer").alias("layer"))


def routing(records: pl.DataFrame, collectives: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """The routing of the captured steps (`ROUTING`): from the side file where it covers them, else from splits."""
    captured = windows.select("step").unique()
    recorded = routing_from_records(records).join(captured, on="step", how="semi")
    by_splits = routing_from_splits(collectives).join(recorded, on=["step", "layer", "group"], how="anti")
    return pl.concat([recorded, by_splits]).sort("step", "layer", "group", "rank", "expert", "expert_rank")
