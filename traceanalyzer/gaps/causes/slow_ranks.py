"""What slow ranks cost one step: what they compute longer, what the attribution charges them, and where others wait for them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from traceanalyzer.gaps.causes.blame import Blamed
from traceanalyzer.gaps.causes.causes import PipelineCauses
from traceanalyzer.gaps.causes.graph import DependencyGraph
from traceanalyzer.measurements.ledger.intervals import covered_within, union
from traceanalyzer.tables import Tables
from traceanalyzer.tables.experts.directions import COMPUTE_KINDS
from traceanalyzer.tables.groups.replicas import between_replicas

_PARTS = ("stage_ns", "straggler_ns", "overlap_dp_ns")


def slow_computation_ms(steps: Sequence[tuple[DependencyGraph, Blamed]], step: int) -> float:
    """What the mean rank computes longer than its kind, as its stage, as a straggler and beside exchanges of replicas."""
    actions = [graph.actions for graph, _ in steps if graph.actions["step"][0] == step]
    num_ranks = sum(each["rank"].n_unique() for each in actions)
    total = sum(int(each.select(pl.sum_horizontal(_PARTS).sum()).item()) for each in actions)
    return total / 1e6 / num_ranks if num_ranks else 0.0


def slowness_ms(causes: PipelineCauses, step: int) -> dict[str, float]:
    """What each cause adds to the step's longest pipeline."""
    lengths = {
        int(graph.actions["pipeline"][0]): -blamed.measured_ns
        for graph, blamed in causes.steps
        if graph.actions["step"][0] == step
    }
    if not lengths:
        return {}
    longest = min(lengths, key=lambda pipeline: (lengths[pipeline], pipeline))
    own = causes.attribution_table.filter((pl.col("step") == step) & (pl.col("pipeline") == longest))
    sums = own.group_by(pl.col("cause").cast(pl.String)).agg(pl.col("duration_ns").sum() / 1e6).sort("cause")
    return dict(sums.iter_rows())


def sync_waits_ms(splits: pl.DataFrame, tables: Tables, step: int) -> dict[str, float]:
    """What the mean rank waits in exchanges between replicas after its last action of the step, by role.

    From `COLLECTIVE_SPLITS`; where several run at once, each counts, so the sum is at most what the ledger is asked for.
    """
    ends = tables.actions.filter(pl.col("step") == step).group_by("rank").agg(pl.col("end_ns").max().alias("_last"))
    if ends.is_empty():
        return {}
    waits = (
        splits.filter(between_replicas() & (pl.col("step") == step) & (pl.col("wait_ns") > 0))
        .join(ends, on="rank")
        .select(
            "rank",
            pl.col("role").cast(pl.String),
            pl.max_horizontal("start_ns", "_last").alias("start_ns"),
            (pl.col("start_ns") + pl.col("wait_ns")).alias("end_ns"),
        )
    )
    computing = tables.kernels.filter(pl.col("kind").cast(pl.String).is_in(COMPUTE_KINDS))
    exposed = covered_within(union(waits, ["rank", "role"]), computing, "start_ns", "end_ns", "_computing")
    sums = (
        exposed.group_by("role").agg((pl.col("end_ns") - pl.col("start_ns") - pl.col("_computing")).sum()).sort("role")
    )
    num_ranks = tables.steps.filter(pl.col("step") == step)["rank"].n_unique()
    return {role: ns / 1e6 / num_ranks for role, ns in sums.iter_rows()}
