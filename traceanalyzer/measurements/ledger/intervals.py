"""Interval algebra on tables: half-open integer intervals `[start_ns, end_ns)`, grouped by key columns.

Every function takes and returns frames with the key columns, `start_ns` and `end_ns`; intervals of length zero or less
cover nothing. All arithmetic is on integers, so results are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def union(intervals: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Merge overlapping and touching intervals of each key; sorted by key and start."""
    reach = pl.col("end_ns").cum_max().shift(1).over(keys)
    starts_new = (pl.col("start_ns") > reach).fill_null(value=True)
    return (
        intervals.lazy()
        .filter(pl.col("end_ns") > pl.col("start_ns"))
        .sort([*keys, "start_ns", "end_ns"])
        .with_columns(starts_new.cum_sum().over(keys).alias("_island"))
        .group_by([*keys, "_island"])
        .agg(pl.col("start_ns").min(), pl.col("end_ns").max())
        .sort([*keys, "start_ns"])
        .select([*keys, "start_ns", "end_ns"])
        .collect()
    )


def clip(intervals: pl.DataFrame, windows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Cut intervals to the windows of their key. `windows` has `keys`, `start_ns`, `end_ns` and may add key columns.

    An interval that reaches into several windows appears once for each; other columns are kept.
    """
    extra = [c for c in windows.columns if c not in (*keys, "start_ns", "end_ns")]
    bounds = windows.select([*keys, *extra, pl.col("start_ns").alias("_from"), pl.col("end_ns").alias("_to")])
    return (
        intervals.lazy()
        .drop(extra, strict=False)
        .join(bounds.lazy(), on=list(keys), how="inner")
        .with_columns(
            pl.max_horizontal("start_ns", "_from").alias("start_ns"),
            pl.min_horizontal("end_ns", "_to").alias("end_ns"),
        )
        .filter(pl.col("end_ns") > pl.col("start_ns"))
        .drop("_from", "_to")
        .collect()
    )


def covered_within(spans: pl.DataFrame, intervals: pl.DataFrame, start: str, end: str, name: str) -> pl.DataFrame:
    """Add `name`: how much of `[start, end)` of each span the intervals of its `rank` cover.

    `spans` has `rank` and the columns `start` and `end`; `intervals` has `rank`, `start_ns`, `end_ns` and may overlap.
    """
    merged = union(intervals.select("rank", "start_ns", "end_ns"), ["rank"]).with_columns(
        (pl.col("end_ns") - pl.col("start_ns")).cum_sum().over("rank").alias("_through")
    )
    numbered = spans.with_row_index("_row")
    before = [_covered_before(numbered, merged, at) for at in (start, end)]
    covered = before[1].join(before[0], on="_row", suffix="_start")
    amount = (pl.col("_covered") - pl.col("_covered_start")).clip(lower_bound=0).alias(name)
    return (
        numbered.join(covered, on="_row", how="left", maintain_order="left")
        .with_columns(amount)
        .select(*spans.columns, name)
    )


def _covered_before(spans: pl.DataFrame, merged: pl.DataFrame, at: str) -> pl.DataFrame:
    """Covered time of the rank before `at`: `_row`, `_covered`."""
    past = pl.col("_through") - (pl.col("end_ns") - pl.min_horizontal("end_ns", "_at"))
    return (
        spans.select("_row", "rank", pl.col(at).alias("_at"))
        .sort("_at")
        .join_asof(
            merged.sort("start_ns"),
            left_on="_at",
            right_on="start_ns",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        )
        .select("_row", past.fill_null(0).alias("_covered"))
    )


def sweep(intervals: pl.DataFrame, windows: pl.DataFrame, keys: Sequence[str], labels: Sequence[str]) -> pl.DataFrame:
    """Give every nanosecond of every window exactly one label: the first of `labels` that covers it.

    `intervals` has `keys`, `label` (one of `labels`), `start_ns` and `end_ns`, already clipped to the windows;
    `windows` has `keys`, `start_ns` and `end_ns`, one row per key. Time that no interval covers gets label null.
    Returns segments (`keys`, `label`, `start_ns`, `end_ns`) that tile each window, neighbours of one label merged.
    """
    indices = {label: i for i, label in enumerate(labels)}
    columns = [f"_n{i}" for i in indices.values()]
    edges = _edges(intervals, windows, keys, indices)
    label = pl.coalesce(
        [pl.when(pl.col(f"_n{i}") > 0).then(pl.lit(name)) for name, i in indices.items()] or [pl.lit(None)]
    )
    segments = (
        edges.group_by([*keys, "at_ns"])
        .agg(pl.col(columns).sum())
        .sort([*keys, "at_ns"])
        .with_columns(pl.col(columns).cum_sum().over(keys), pl.col("at_ns").shift(-1).over(keys).alias("end_ns"))
        .filter(pl.col("end_ns").is_not_null())
        .select([*keys, label.cast(pl.String).alias("label"), pl.col("at_ns").alias("start_ns"), "end_ns"])
    )
    return _merge_neighbours(segments, keys)


def overlay(first: pl.DataFrame, second: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Cut two tilings of the same windows at each other's boundaries: `keys`, `label`, `second`, `start_ns`, `end_ns`.

    Both have `keys`, `label`, `start_ns` and `end_ns`, as `sweep` gives them; `second` is the label of the second one.
    """
    cuts = pl.concat([frame.select([*keys, "start_ns"]) for frame in (first, second)]).unique().sort("start_ns")
    named = second.rename({"label": "second", "end_ns": "_second_end_ns"})
    for frame in (first, named):
        cuts = cuts.join_asof(
            frame.sort("start_ns"), on="start_ns", by=list(keys), strategy="backward", check_sortedness=False
        )
    return cuts.select(
        [*keys, "label", "second", "start_ns", pl.min_horizontal("end_ns", "_second_end_ns").alias("end_ns")]
    ).sort([*keys, "start_ns"])


def _edges(
    intervals: pl.DataFrame, windows: pl.DataFrame, keys: Sequence[str], indices: dict[str, int]
) -> pl.LazyFrame:
    """One row per boundary: +1 or -1 in the column of the interval's label; window boundaries change nothing."""

    def boundary(frame: pl.DataFrame, column: str, delta: int) -> pl.LazyFrame:
        known = "label" in frame.columns
        counts = [
            (pl.when(pl.col("label") == name).then(delta).otherwise(0) if known else pl.lit(0))
            .cast(pl.Int32)
            .alias(f"_n{i}")
            for name, i in indices.items()
        ]
        return frame.lazy().select([*keys, pl.col(column).alias("at_ns"), *counts])

    return pl.concat(
        [
            boundary(intervals, "start_ns", 1),
            boundary(intervals, "end_ns", -1),
            boundary(windows, "start_ns", 0),
            boundary(windows, "end_ns", 0),
        ]
    )


def _merge_neighbours(segments: pl.LazyFrame, keys: Sequence[str]) -> pl.DataFrame:
    changed = pl.col("label").ne_missing(pl.col("label").shift(1)).over(keys)
    first = pl.int_range(pl.len()).over(keys) == 0
    return (
        segments.with_columns((changed | first).cum_sum().over(keys).alias("_run"))
        .group_by([*keys, "_run"])
        .agg(pl.col("label").first(), pl.col("start_ns").min(), pl.col("end_ns").max())
        .sort([*keys, "start_ns"])
        .select([*keys, "label", "start_ns", "end_ns"])
        .collect()
    )
