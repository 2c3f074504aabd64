"""What actions communicate: exposed inside them, and beside their computation."""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import covered_within
from traceanalyzer.tables import Tables
from traceanalyzer.tables.experts.directions import COMPUTE_KINDS
from traceanalyzer.tables.groups.replicas import between_replicas

_SPAN = ("rank", "start_ns", "end_ns")
_KERNEL = ["rank", "cycle", "index"]


def with_communication(actions: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """Add what each action communicates without computing, and whether replicas exchange something while it computes.

    `comm_ns` is all of it, of whatever dimension but the pipeline, `comm_dp_ns` what exchanges between replicas alone are
    exposed for; `overlaps_dp` says whether such an exchange runs beside its computation. On CPU ranks exposed is every
    collective inside an action: their main thread runs one thing at a time. Actions of op tables are computations alone.
    """
    on_main = main_thread_ranks(tables)
    pipeline = tables.p2p.filter(pl.col("role") == "pp")
    replicas = tables.collectives.filter(between_replicas() & pl.col("end_ns").is_not_null())
    kinds = pl.col("kind").cast(pl.String)
    computing = tables.kernels.filter(kinds.is_in(COMPUTE_KINDS)).select(_SPAN)
    exchanging = (
        tables.kernels.filter(kinds.is_in(["communication", "barrier"]))
        .join(pipeline, on=_KERNEL, how="anti")
        .join(replicas, on=_KERNEL, how="anti")
        .select(_SPAN)
    )
    calls = tables.collectives.join(on_main, on="rank", how="semi").filter(pl.col("end_ns").is_not_null())
    inside = pl.concat([exchanging, calls.filter(~between_replicas()).select(_SPAN)])
    exposed = replicas.join(_timed_ranks(tables), on="rank", how="semi").select(_SPAN)
    measured = actions
    for name, parts in (
        ("_computing", [computing]),
        ("_inside", [computing, inside]),
        ("_busy", [computing, inside, exposed]),
        ("_beside", [replicas.select(_SPAN)]),
    ):
        measured = covered_within(measured, pl.concat(parts), "start_ns", "end_ns", name)
    dp = pl.col("_busy") - pl.col("_inside")
    return measured.with_columns(
        (pl.col("_busy") - pl.col("_computing")).alias("comm_ns"),
        dp.alias("comm_dp_ns"),
        (pl.col("_beside") > dp).alias("overlaps_dp"),
    ).drop("_computing", "_inside", "_busy", "_beside")


def _timed_ranks(tables: Tables) -> pl.DataFrame:
    """Ranks of traces, whose actions hold what they communicate."""
    return tables.ranks.filter(pl.col("rank_source").ne_missing("op_table")).select("rank").unique()


def main_thread_ranks(tables: Tables) -> pl.DataFrame:
    """Ranks of CPU traces, whose main thread is the device."""
    return tables.ranks.filter(pl.col("rank_source").ne_missing("op_table")).join(tables.kernels, on="rank", how="anti")
