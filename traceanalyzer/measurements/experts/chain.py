"""One row per MoE layer and rank: tokens → bytes → transfer → expert time → who waits.

A hot rank reads along its row: it receives more tokens, hence more bytes, computes longer, and at combine the others
wait for it. Everything is summed over the microbatches of a step.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.experts.loads import LAYER
from traceanalyzer.measurements.experts.traffic import byte_loads
from traceanalyzer.schema import EXPERT_CHAIN, conform

KEYS = [*LAYER, "rank"]


def expert_chain(
    routing: pl.DataFrame, splits: pl.DataFrame, matrix: pl.DataFrame, times: pl.DataFrame, overheads: pl.DataFrame
) -> pl.DataFrame:
    """`EXPERT_CHAIN` of `ROUTING`, `COLLECTIVE_SPLITS`, `TRAFFIC`, `expert_times` and `expert_overheads`.

    A cell is null if its source is missing: tokens without routing, waits without a split, times without ranges.
    """
    exchanges = splits.filter((pl.col("kind") == "all_to_all") & pl.col("layer").is_not_null())
    parts = [_tokens(routing), _bytes(matrix), _waits(exchanges), _caused(exchanges), _durations(times), overheads]
    rows = pl.concat([part.select(KEYS) for part in parts]).unique()
    for part in parts:
        rows = rows.join(part, on=KEYS, how="left", nulls_equal=True)
    caused = [name for name in rows.columns if name.endswith("_caused_wait_ns")]
    known = pl.col("combine_wait_ns").is_not_null() if "combine_wait_ns" in rows.columns else pl.lit(value=False)
    rows = rows.with_columns(pl.when(known).then(pl.col(name).fill_null(0)).alias(name) for name in caused)
    return conform(rows, EXPERT_CHAIN).sort(KEYS)


def _tokens(routing: pl.DataFrame) -> pl.DataFrame:
    """Sent tokens of every source, received tokens where all members of the group are known."""
    size = pl.col("group").str.split(",").list.len()
    complete = routing.filter(pl.col("rank").n_unique().over(LAYER) == size)
    sent = routing.group_by(KEYS).agg(pl.col("tokens").sum().alias("sent_tokens"))
    received = (
        complete.group_by(*LAYER, pl.col("expert_rank").alias("rank"))
        .agg(pl.col("tokens").sum().alias("received_tokens"))
        .with_columns(
            (pl.col("received_tokens") / pl.col("received_tokens").mean().over(LAYER)).alias("load_over_mean")
        )
    )
    return sent.join(received, on=KEYS, how="full", coalesce=True)


def _bytes(matrix: pl.DataFrame) -> pl.DataFrame:
    dispatched = byte_loads(matrix.filter((pl.col("direction") == "dispatch") & pl.col("layer").is_not_null()))
    return dispatched.group_by(KEYS).agg(
        pl.col("sent_bytes").sum().alias("dispatch_sent_bytes"),
        pl.col("received_bytes").sum().alias("dispatch_received_bytes"),
    )


def _waits(exchanges: pl.DataFrame) -> pl.DataFrame:
    """Wait and transfer by direction, and whom the rank waited for at combine."""

    def total(column: str, direction: str) -> pl.Expr:
        chosen = pl.col(column).filter(pl.col("direction") == direction)
        return pl.when((chosen.len() > 0) & (chosen.null_count() == 0)).then(chosen.sum())

    combined = pl.col("direction") == "combine"
    names = [
        *[(f"{d}_wait_ns", "wait_ns", d) for d in ("dispatch", "combine", "combine_backward", "dispatch_backward")],
        *[(f"{d}_transfer_ns", "transfer_ns", d) for d in ("dispatch", "combine")],
    ]
    late = pl.col("late_rank").filter(combined).sort_by(pl.col("wait_ns").filter(combined), descending=True).first()
    return exchanges.group_by(KEYS).agg(
        *[total(column, direction).alias(name) for name, column, direction in names], late.alias("combine_late_rank")
    )


def _caused(exchanges: pl.DataFrame) -> pl.DataFrame:
    """Wait of the other members for this rank."""
    others = exchanges.filter(pl.col("late_rank") != pl.col("rank"))

    def total(direction: str) -> pl.Expr:
        return pl.col("wait_ns").filter(pl.col("direction") == direction).sum().alias(f"{direction}_caused_wait_ns")

    return others.group_by(*LAYER, pl.col("late_rank").alias("rank")).agg(total("combine"), total("dispatch_backward"))


def _durations(times: pl.DataFrame) -> pl.DataFrame:
    return times.group_by(KEYS).agg(
        pl.when((pl.col("part") == part).any())
        .then(pl.col("duration_ns").filter(pl.col("part") == part).sum())
        .alias(f"{part}_ns")
        for part in ("experts", "experts_backward")
    )
