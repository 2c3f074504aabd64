"""Exchanges between replicas beside the pipeline: when they waited, when they moved bytes, and what slower replicas cost.

Replicas that finish their pipeline phase first wait in the reduction of gradients for the slower ones. That is after the
phase, so no part of the bubble; it is what one slow pipeline costs all others.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import covered_within, union
from traceanalyzer.tables.groups.replicas import between_replicas

_KEYS = ["rank", "step"]
NO_EXCHANGES = pl.DataFrame(
    schema={"rank": pl.Int32, "step": pl.Int32, "start_ns": pl.Int64, "transfer_start_ns": pl.Int64, "end_ns": pl.Int64}
)


def replica_exchanges(splits: pl.DataFrame) -> pl.DataFrame:
    """Exchanges between replicas: `rank`, `step`, `start_ns`, `transfer_start_ns`, `end_ns`, from `COLLECTIVE_SPLITS`.

    If the wait is unknown, the transfer is taken to begin at once.
    """
    known = splits.filter(between_replicas() & pl.col("start_ns").is_not_null() & pl.col("end_ns").is_not_null())
    begun = (pl.col("start_ns") + pl.col("wait_ns").fill_null(0)).alias("transfer_start_ns")
    return known.select("rank", "step", "start_ns", begun, "end_ns")


def replica_waits(table: pl.DataFrame, splits: pl.DataFrame, kernels: pl.DataFrame, *, all_here: bool) -> pl.DataFrame:
    """What every rank waited for slower replicas after its own pipeline phase: `pipeline`, `rank`, `step`, `replica_wait_ns`.

    Waits in exchanges between replicas after the phase, less what the rank computed meanwhile; null if no such exchange
    was captured, or one does not show its wait.

    Args:
        table: `BUBBLE`.
        splits: `COLLECTIVE_SPLITS`.
        kernels: `KERNELS`.
        all_here: all pipelines of the job are in `table`, on one clock. Then a wait counts until the last of their phases
            has ended; what is waited for beyond is not a slower pipeline.
    """
    own_end = (pl.col("phase_start_ns") + pl.col("phase_ns")).alias("_from")
    ends = table.select("pipeline", *_KEYS, own_end).with_columns(pl.col("_from").max().over("step").alias("_until"))
    after = (
        splits.filter(between_replicas() & pl.col("start_ns").is_not_null() & pl.col("end_ns").is_not_null())
        .join(ends, on=_KEYS)
        .filter(pl.col("end_ns") > pl.col("_from"))
    )
    stated = after.group_by(_KEYS).agg((pl.col("wait_ns").null_count() == 0).alias("_stated"))
    waited_until = pl.col("start_ns") + pl.col("wait_ns")
    waits = after.filter(pl.col("wait_ns").is_not_null()).select(
        *_KEYS,
        pl.max_horizontal("start_ns", "_from").alias("start_ns"),
        (pl.min_horizontal(waited_until, "_until") if all_here else waited_until).alias("end_ns"),
    )
    computing = kernels.filter(~pl.col("kind").cast(pl.String).is_in(["communication", "barrier", "copy"]))
    merged = covered_within(union(waits, _KEYS), computing, "start_ns", "end_ns", "_computing")
    waited = merged.group_by(_KEYS).agg(
        (pl.col("end_ns") - pl.col("start_ns") - pl.col("_computing")).sum().alias("replica_wait_ns")
    )
    amount = pl.when("_stated").then(pl.col("replica_wait_ns").fill_null(0)).alias("replica_wait_ns")
    return (
        ends.join(waited, on=_KEYS, how="left")
        .join(stated, on=_KEYS, how="left")
        .select("pipeline", *_KEYS, amount)
        .sort("pipeline", *_KEYS)
    )
