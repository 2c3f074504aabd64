"""Tables of who comes last and what it costs."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import ROLE

LATE_MEMBERS = pl.Schema(
    {
        "group": pl.String,
        "role": ROLE,
        "kind": pl.String,
        "late_rank": pl.Int32,
        "num_late": pl.Int64,  # operations at which it came last
        "num": pl.Int64,  # operations of this group and kind of which the last is known
        "num_steps": pl.Int64,
        "waiting_ms": pl.Float64,  # per step, summed over the other members
        "longest_waiting_ms": pl.Float64,  # per step, of the member that waits longest at each operation
    }
)

CULPRITS = pl.Schema(
    {
        "rank": pl.Int32,
        "cause": pl.String,
        "ms": pl.Float64,  # per step; null: only bounds
        "low_ms": pl.Float64,
        "high_ms": pl.Float64,
        "share_of_step": pl.Float64,
        "basis": pl.String,
        "compute_ms": pl.Float64,  # by replay, that part alone
        "host_ms": pl.Float64,
        "other_ms": pl.Float64,
        "kernel": pl.String,
        "call": pl.String,
    }
)
