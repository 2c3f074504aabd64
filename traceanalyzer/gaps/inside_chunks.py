"""What passes inside pipeline actions beside computation: waiting for members of their groups, and late launches."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from traceanalyzer.gaps.suspects import Suspects
from traceanalyzer.measurements.device_accounting import COMPUTE_KINDS
from traceanalyzer.measurements.intervals import clip, covered_within, union

INSIDE_ROLES = ["ep", "tp", "cp"]
"""Groups that exchange inside actions."""
PIPELINE_CAUSES = {"computing": "straggler", "host": "host"}
"""Cause of the pipeline's blame by what a suspect does."""


def slow_computers(suspected: Suspects) -> list[int]:
    """Ranks that keep a group waiting by computing longer."""
    return sorted({each.rank for each in suspected.found if each.kind == "computing"})


def with_inside(
    actions: pl.DataFrame, kernels: pl.DataFrame, splits: pl.DataFrame, suspected: Suspects
) -> pl.DataFrame:  # fmt: skip
    """Add `late_ns`, `waited_ns`, `peer` and `peer_cause` (see `gaps.blame`) to `ACTIONS` of device ranks.

    Takes `KERNELS` and `COLLECTIVE_SPLITS`. On ranks without a device nothing is added: their main thread computes.
    """
    stalls = [each.stalls.filter("computes").select("rank", "start_ns", "end_ns") for each in suspected.ranks]
    empty = pl.DataFrame(schema={"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64})
    late = covered_within(actions, pl.concat([empty, *stalls]), "start_ns", "end_ns", "late_ns")
    waited = _waited(late, kernels, splits)
    causes: Mapping[int, str] = {
        each.rank: PIPELINE_CAUSES[each.kind] for each in reversed(suspected.found) if each.kind in PIPELINE_CAUSES
    }
    cause = pl.col("peer").replace_strict(causes, default=None, return_dtype=pl.String)
    return late.join(waited, on=["rank", "start_ns"], how="left", maintain_order="left").with_columns(
        pl.col("waited_ns").fill_null(0), cause.alias("peer_cause")
    )


def _waited(actions: pl.DataFrame, kernels: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """Of actions that waited inside: `rank`, `start_ns`, `waited_ns`, and `peer`, for whom most."""
    waits = splits.filter(
        pl.col("role").is_in(INSIDE_ROLES) & (pl.col("wait_ns") > 0) & (pl.col("late_rank") != pl.col("rank"))
    ).select(
        "rank", "start_ns", (pl.col("start_ns") + pl.col("wait_ns")).alias("end_ns"), pl.col("late_rank").alias("peer")
    )  # fmt: skip
    spans = actions.select("rank", "start_ns", "end_ns", pl.col("start_ns").alias("action_ns"))
    inside = union(clip(waits, spans, ["rank"]), ["rank", "action_ns", "peer"])
    computing = kernels.filter(pl.col("kind").is_in(COMPUTE_KINDS)).select("rank", "start_ns", "end_ns")
    exposed = covered_within(inside, computing, "start_ns", "end_ns", "hidden_ns").with_columns(
        (pl.col("end_ns") - pl.col("start_ns") - pl.col("hidden_ns")).alias("exposed_ns")
    )
    by_peer = exposed.group_by("rank", "action_ns", "peer").agg(pl.col("exposed_ns").sum())
    return (
        by_peer.sort("exposed_ns", "peer", descending=[True, False])
        .group_by("rank", pl.col("action_ns").alias("start_ns"), maintain_order=True)
        .agg(pl.col("exposed_ns").sum().alias("waited_ns"), pl.col("peer").first())
    )
