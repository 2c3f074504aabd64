"""Tables of who comes last and what it costs."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.columns import GROUP, RANK, SERVES, Column, Table

LATE_MEMBERS_TABLE = Table(
    name="late_members",
    meaning="One row per group, kind of operation and rank: how often it comes last, and what the others wait.",
    columns={
        "group": GROUP,
        "role": SERVES,
        "kind": Column(pl.String, "Kind of operation: `all_reduce`, `all_to_all`, ..."),
        "late_rank": Column(pl.Int32, "Global rank that comes last."),
        "num_late": Column(pl.Int64, "Operations at which it came last."),
        "num": Column(pl.Int64, "Operations of this group and kind of which the last is known."),
        "num_steps": Column(pl.Int64, "Steps in which they are."),
        "waiting_ms": Column(pl.Float64, "Waiting per step, summed over the other members."),
        "longest_waiting_ms": Column(
            pl.Float64, "Waiting per step of the member that waits longest at each operation."
        ),
    },
)
LATE_MEMBERS = LATE_MEMBERS_TABLE.schema

CULPRITS_TABLE = Table(
    name="culprits",
    meaning="One row per rank and cause: what it costs per step.",
    columns={
        "rank": RANK,
        "cause": Column(pl.String, "What it does beyond its peers."),
        "ms": Column(pl.Float64, "Cost per step; null if only bounds are known."),
        "low_ms": Column(pl.Float64, "The smallest possible cost."),
        "high_ms": Column(pl.Float64, "The largest possible cost."),
        "share_of_step": Column(pl.Float64, "Cost over the step."),
        "basis": Column(pl.String, "How the cost is known."),
        "compute_ms": Column(pl.Float64, "By replay, the part of computation alone."),
        "host_ms": Column(pl.Float64, "By replay, the part of late launches alone."),
        "other_ms": Column(pl.Float64, "By replay, the rest."),
        "kernel": Column(pl.String, "Kernel that differs most from that of its peers."),
        "call": Column(pl.String, "Host call that differs most from that of its peers."),
    },
)
CULPRITS = CULPRITS_TABLE.schema
