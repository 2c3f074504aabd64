"""Groups that collectives of gloo, which name none, show by what they do.

An all-to-all inside a range of experts runs in the expert group. A reduction, gather or scatter cannot run in a group whose
members call other sizes: where the whole job is excluded so, and one listed group alone is not, it is that one.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.job import Job
from traceanalyzer.tables.groups.listed import expert_groups, process_groups

_TOGETHER = ["all_reduce", "all_gather", "reduce_scatter"]
"""Kinds whose members all exchange the same number of bytes."""


def with_shown_group(calls: pl.DataFrame, ranks: pl.DataFrame, job: Job | None) -> pl.DataFrame:
    """Calls with `rank`, `step`, `kind`, `layer`, `group`, `send_bytes`, `send_splits`: `group` corrected.

    It becomes null where the whole job is excluded and no group, or more than one, is left.
    """
    return _reducing(_exchanging(calls, expert_groups(ranks, job)), process_groups(ranks))


def _exchanging(calls: pl.DataFrame, expert: pl.DataFrame) -> pl.DataFrame:
    """All-to-alls of expert layers, as far as their splits fit the expert group."""
    known = expert.select("rank", pl.col("group").alias("_expert"))
    splits, size = pl.col("send_splits").list.len().fill_null(0), pl.col("_expert").str.split(",").list.len()
    fits = (pl.col("kind") == "all_to_all") & pl.col("layer").is_not_null() & ((splits == 0) | (splits == size))
    own = pl.when(fits.fill_null(value=False)).then(pl.coalesce("_expert", "group")).otherwise("group")
    return (
        calls.join(known, on="rank", how="left", maintain_order="left").with_columns(own.alias("group")).drop("_expert")
    )


def _reducing(calls: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """Reductions, gathers and scatters that were taken for those of the whole job and cannot be."""
    world = (
        groups.filter(pl.col("pg_desc") == "default_pg").select("rank", pl.col("group").alias("_world")).unique("rank")
    )
    placed = calls.join(world, on="rank", how="left", maintain_order="left")
    assumed = pl.col("kind").is_in(_TOGETHER) & (pl.col("group") == pl.col("_world")).fill_null(value=False)
    listed = groups.filter(pl.col("size") > 1).select("rank", "group").unique()
    possible = _agreeing(_called(placed, assumed), listed)
    excluded = world.join(possible, left_on=["rank", "_world"], right_on=["rank", "group"], how="anti").select("rank")
    single = possible.filter(pl.len().over("rank") == 1).select("rank", pl.col("group").alias("_own"))
    is_excluded = assumed & pl.col("rank").is_in(excluded["rank"].to_list())
    return (
        placed.join(single, on="rank", how="left", maintain_order="left")
        .with_columns(pl.when(is_excluded).then("_own").otherwise("group").alias("group"))
        .drop("_world", "_own")
    )


def _called(placed: pl.DataFrame, counts: pl.Expr) -> pl.DataFrame:
    """What every rank called in each step with a collective, in order, as one value: `rank`, `step`, `called`."""
    one = pl.concat_str("kind", pl.col("send_bytes").cast(pl.String).fill_null("?"), separator=" ")
    inside = placed.filter(pl.col("step").is_not_null()).sort("rank", "start_ns")
    return inside.group_by("rank", "step").agg(one.filter(counts.fill_null(value=False)).str.join(";").alias("called"))


def _agreeing(called: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """Groups, by `rank`, whose recorded members called the same in every step."""
    members = listed.join(called, on="rank")
    refuted = members.filter(pl.col("called").n_unique().over("group", "step") > 1)
    return members.join(refuted, on="group", how="anti").select("rank", "group").unique()
