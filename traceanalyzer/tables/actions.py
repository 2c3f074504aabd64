"""Events → the actions table: what each rank computed for which stage and microbatch, and when.

Labels are read from profiler ranges on the main thread:

* ours, `compute:2F0`: the computation alone;
* the pipelining runtime of torch, `PP:2F0`: the range also holds the wait for its receive, which is cut off. An overlapped
  pair `PP:(1F6;6B2)OVERLAP_F_B` runs its actions one after the other and sends after both, so both are *released* at
  the end of the pair.

Where both label the same action, ours is kept.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import ACTIONS, conform
from traceanalyzer.tables.steps import assign_steps, on_main_thread

_COMPUTE = r"^compute:(\d+)([FBIW])(\d+)$"
_RUNTIME = r"^PP:(\d+)([FBIW])(\d+)$"
_WHAT = ["stage", "phase", "microbatch"]
_PAIR = r"^PP:\((.+)\)OVERLAP_F_B$"


def actions(events: pl.DataFrame, windows: pl.DataFrame, receives: pl.DataFrame) -> pl.DataFrame:
    """Labelled compute actions inside the step windows (`ACTIONS`), sorted by rank, step and start.

    `receives` (`RECEIVES`) are cut from the front of runtime ranges.
    """
    ranges = user_ranges(events)
    own = _labelled(ranges, _COMPUTE)
    runtime = _without_receive(_labelled(ranges, _RUNTIME), receives)
    own, runtime = assign_steps(own, windows), assign_steps(runtime, windows)
    found = pl.concat([own, runtime.join(own, on=["rank", "step", *_WHAT], how="anti")])
    position = pl.int_range(pl.len(), dtype=pl.Int32).over("rank", "step").alias("position")
    ordered = _with_release(found, ranges).sort("rank", "step", "start_ns", "end_ns").with_columns(position)
    return conform(ordered, ACTIONS)


def user_ranges(events: pl.DataFrame) -> pl.DataFrame:
    """User ranges of every rank's main thread: `rank`, `name`, `start_ns`, `end_ns`."""
    return (
        on_main_thread(events)
        .filter(pl.col("category") == "user_annotation")
        .select(
            "rank",
            pl.col("name").cast(pl.String),
            "start_ns",
            (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"),
        )
    )


def labelled_ranges(events: pl.DataFrame) -> pl.DataFrame:
    """CPU ranges of compute actions: `rank`, `stage`, `phase`, `microbatch`, `start_ns`, `end_ns`.

    Where a rank has ranges of ours, those of the runtime around them are left out.
    """
    ranges = user_ranges(events)
    own, runtime = _labelled(ranges, _COMPUTE), _labelled(ranges, _RUNTIME)
    return pl.concat([own, runtime.join(own, on="rank", how="anti")])


def _labelled(ranges: pl.DataFrame, pattern: str) -> pl.DataFrame:
    """Ranges whose name matches, with stage, phase and microbatch taken from it."""
    parts = [pl.col("name").str.extract(pattern, group) for group in (1, 2, 3)]
    return (
        ranges.with_columns(
            parts[0].cast(pl.Int32).alias("stage"),
            parts[1].cast(ACTIONS["phase"]).alias("phase"),
            parts[2].cast(pl.Int32).alias("microbatch"),
        )
        .filter(pl.col("stage").is_not_null())
        .drop("name")
    )


def _without_receive(ranges: pl.DataFrame, receives: pl.DataFrame) -> pl.DataFrame:
    """Move a range's start past the last receive that ends inside it."""
    if ranges.is_empty() or receives.is_empty():
        return ranges
    last = receives.select("rank", pl.col("end_ns").alias("receive_end_ns")).sort("receive_end_ns")
    return (
        ranges.sort("end_ns")
        .join_asof(
            last, left_on="end_ns", right_on="receive_end_ns", by="rank", strategy="backward", check_sortedness=False
        )
        .with_columns(pl.max_horizontal("start_ns", "receive_end_ns").alias("start_ns"))
        .drop("receive_end_ns")
    )


def _with_release(found: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Add `release_ns`, the end of the overlapped pair that an action is part of; null outside pairs."""
    pairs = ranges.filter(pl.col("name").str.contains(_PAIR)).select(
        "rank", pl.col("start_ns").alias("pair_start_ns"), pl.col("end_ns").alias("pair_end_ns")
    )
    if pairs.is_empty():
        return found.with_columns(pl.lit(None, pl.Int64).alias("release_ns"))
    inside = pl.col("end_ns") <= pl.col("pair_end_ns")
    return (
        found.sort("start_ns")
        .join_asof(
            pairs.sort("pair_start_ns"),
            left_on="start_ns",
            right_on="pair_start_ns",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        )
        .with_columns(pl.when(inside).then("pair_end_ns").alias("release_ns"))
        .drop("pair_start_ns", "pair_end_ns")
    )
