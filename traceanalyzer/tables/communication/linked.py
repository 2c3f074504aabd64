"""Kernels and calls joined: which call each communication kernel serves.

A kernel serves the call that holds its launch. Coalesced sends and receives (`batch_isend_irecv`) leave together as one
kernel launched when the group ends, outside their calls: that kernel serves every call of its thread since the previous
such launch.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import KERNELS
from traceanalyzer.tables.communication.calls import CALLS

_OPERATIONS = {"send": "send_recv", "receive": "send_recv", "all_to_all": "send_recv", "barrier": "all_reduce"}
"""The kernel that serves a kind of call, where it is not named like it."""

LINKED = pl.Schema(
    {
        **{name: dtype for name, dtype in CALLS.items() if name not in ("thread", "start_ns", "end_ns")},
        "call_start_ns": pl.Int64,
        "coalesced": pl.Boolean,
        **{name: KERNELS[name] for name in ("index", "step", "stream", "operation", "start_ns", "end_ns")},
        "launch_start_ns": pl.Int64,
    }
)
"""One row per communication kernel and call it serves; call columns are null if none was found."""


def linked_calls(kernels: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Communication kernels of `KERNELS` with the calls (`CALLS`) they serve (`LINKED`)."""
    launched = (
        kernels.filter((pl.col("kind") == "communication") & (pl.col("operation") != "peer_copy"))
        .select(
            "rank",
            "cycle",
            "index",
            "step",
            "stream",
            "operation",
            "start_ns",
            "end_ns",
            "launch_start_ns",
            "launch_thread",
        )
        .rename({"launch_thread": "thread"})
    )
    named = calls.rename({"start_ns": "call_start_ns", "end_ns": "call_end_ns"})
    direct = _direct(launched, named)
    together = _coalesced(
        launched.join(direct, on=["rank", "cycle", "index"], how="anti"),
        named.join(direct, on=["rank", "cycle", "call"], how="anti"),
    )
    served = pl.concat([direct, together], how="diagonal")
    rest = launched.join(served, on=["rank", "cycle", "index"], how="anti").with_columns(
        pl.lit(value=False).alias("coalesced")
    )
    found = pl.concat([served, rest], how="diagonal")
    columns = [(pl.col(n) if n in found.columns else pl.lit(None).alias(n)).cast(t) for n, t in LINKED.items()]
    return found.select(columns).sort("rank", "cycle", "start_ns", "index", "call_start_ns", "call")


def _direct(launched: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Kernels launched inside a call of the same thread."""
    return (
        launched.filter(pl.col("launch_start_ns").is_not_null())
        .sort("launch_start_ns")
        .join_asof(
            calls.sort("call_start_ns"),
            left_on="launch_start_ns",
            right_on="call_start_ns",
            by=["rank", "cycle", "thread"],
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("launch_start_ns") < pl.col("call_end_ns"))
        .with_columns(pl.lit(value=False).alias("coalesced"))
    )


def _coalesced(launched: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Calls without a kernel of their own, with the next kernel of their thread that has no call and can serve them."""
    operation = pl.col("kind").replace(_OPERATIONS)
    return (
        calls.sort("call_start_ns")
        .join_asof(
            launched.filter(pl.col("launch_start_ns").is_not_null()).sort("launch_start_ns"),
            left_on="call_start_ns",
            right_on="launch_start_ns",
            by=["rank", "cycle", "thread"],
            strategy="forward",
            check_sortedness=False,
        )
        .filter(
            pl.col("index").is_not_null() & ((pl.col("operation") == operation) | (pl.col("operation") == "unknown"))
        )
        .with_columns(pl.lit(value=True).alias("coalesced"))
    )
