"""Who comes last in each group, and how long the others wait for it."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import conform
from traceanalyzer.schema.culprits import LATE_MEMBERS


def late_members(splits: pl.DataFrame) -> pl.DataFrame:
    """`LATE_MEMBERS` of `COLLECTIVE_SPLITS`, longest waiting first.

    The first operation of a rank's capture does not count: profilers start their ranks one after the other.
    """
    known = splits.filter(pl.all_horizontal(pl.col("match", "late_rank", "wait_ns", "step").is_not_null()))
    first = (
        splits.filter(pl.col("match").is_not_null()).group_by("rank").agg(pl.col("match").sort_by("start_ns").first())
    )
    by_operation = (
        known.join(first.select("match").unique(), on="match", how="anti")
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
