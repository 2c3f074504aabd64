"""Who comes last in each group, and how long the others wait for it."""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import union
from traceanalyzer.schema import conform
from traceanalyzer.schema.culprits import LATE_MEMBERS


def late_members(splits: pl.DataFrame) -> pl.DataFrame:
    """`LATE_MEMBERS` of `COLLECTIVE_SPLITS`, longest waiting first.

    The first operation of a rank's capture does not count: profilers start their ranks one after the other.
    """
    by_operation = (
        _known(splits)
        .group_by("group", "role", "kind", "match", "step")
        .agg(
            pl.col("late_rank").mode().sort().first(),
            pl.col("wait_ns").filter(pl.col("rank") != pl.col("late_rank")).sum().alias("_sum"),
            pl.col("wait_ns").max().alias("_longest"),
        )
    )
    alike = ["group", "role", "kind"]
    whole = by_operation.group_by(alike).agg(pl.len().alias("num"), pl.col("step").n_unique().alias("num_steps"))
    rows = (
        by_operation.filter(pl.col("_longest") > 0)
        .group_by(*alike, "late_rank")
        .agg(pl.len().alias("num_late"), pl.col("_sum", "_longest").sum())
        .join(whole, on=alike, nulls_equal=True)
        .with_columns(
            (pl.col("_sum") / pl.col("num_steps") / 1e6).alias("waiting_ms"),
            (pl.col("_longest") / pl.col("num_steps") / 1e6).alias("longest_waiting_ms"),
        )
        .sort("longest_waiting_ms", "group", "kind", "late_rank", descending=[True, False, False, False])
    )
    return conform(rows, LATE_MEMBERS)


def waited_for_ns(splits: pl.DataFrame, rank: int) -> float:
    """How long others wait for `rank` per step, at most: operations at which they wait at once count once.

    Of `COLLECTIVE_SPLITS`; where clocks are not known, the longest wait of each operation counts for itself.
    """
    known = _known(splits)
    num_steps = known["step"].n_unique()
    waits = known.filter((pl.col("late_rank") == rank) & (pl.col("rank") != rank) & (pl.col("wait_ns") > 0))
    if waits.is_empty():
        return 0.0
    if waits["clock_residual_ns"].null_count():
        return float(waits.group_by("match").agg(pl.col("wait_ns").max())["wait_ns"].sum()) / num_steps
    spans = union(waits.select("step", "start_ns", (pl.col("start_ns") + pl.col("wait_ns")).alias("end_ns")), ["step"])
    return float((spans["end_ns"] - spans["start_ns"]).sum()) / num_steps


def _known(splits: pl.DataFrame) -> pl.DataFrame:
    """Parts whose wait is known, without the first operation of each rank."""
    known = splits.filter(pl.all_horizontal(pl.col("match", "late_rank", "wait_ns", "step").is_not_null()))
    first = (
        splits.filter(pl.col("match").is_not_null()).group_by("rank").agg(pl.col("match").sort_by("start_ns").first())
    )
    return known.join(first.select("match").unique(), on="match", how="anti")
