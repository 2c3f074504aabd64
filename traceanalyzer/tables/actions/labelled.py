"""Events → the actions table: what each rank computed for which stage and microbatch, and when.

Labels are names of profiler ranges on the main thread (`tables.action_labels`). Ours hold the computation alone; the range
of torch's runtime, torch's GPipe or the job's own pattern also holds the wait for its receive, which is cut off. An
overlapped pair `PP:(1F6;6B2)OVERLAP_F_B` runs its actions one after the other and sends after both, so both are
*released* at the end of the pair.

Where both label the same action, ours is kept.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import ACTIONS, conform, empty
from traceanalyzer.tables.actions.inside_ranges import halves, without_last_sends
from traceanalyzer.tables.actions.labels import Labels, labels_of, user_ranges
from traceanalyzer.tables.steps.windows import assign_steps, steps

_WHAT = ["stage", "phase", "microbatch"]
_PAIR = r"^PP:\((.+)\)OVERLAP_F_B$"


def actions(events: pl.DataFrame, windows: pl.DataFrame, receives: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """Labelled compute actions inside the step windows (`ACTIONS`), sorted by rank, step and start.

    `receives` (`RECEIVES`) are cut from the front of runtime ranges.
    """
    if events.is_empty():
        return empty(ACTIONS)
    noted = user_ranges(events)
    found = labels_of(events, noted, labels, lambda: windows)
    ranges = pl.concat([without_last_sends(found.runtime, events), halves(events), found.on_device])
    runtime = _without_receive(ranges, receives)
    own, runtime = assign_steps(found.own, windows), assign_steps(runtime, windows)
    rows = pl.concat([own, runtime.join(own, on=["rank", "step", *_WHAT], how="anti")])
    position = pl.int_range(pl.len(), dtype=pl.Int32).over("rank", "step").alias("position")
    ordered = _with_release(rows, noted).sort("rank", "step", "start_ns", "end_ns").with_columns(position)
    return conform(ordered, ACTIONS)


def labelled_ranges(events: pl.DataFrame, noted: pl.DataFrame, labels: Labels, marked: pl.DataFrame) -> pl.DataFrame:
    """CPU ranges of compute actions: `rank`, `stage`, `phase`, `microbatch`, `start_ns`, `end_ns`.

    `noted` is as `user_ranges` gives it. Where a rank has ranges of ours, those of the runtime around them are left out. `marked` is
    `STEP_RANGES`, the steps within which microbatches are counted that nothing shows.
    """
    found = labels_of(events, noted, labels, lambda: steps(events, marked))
    return pl.concat([found.own, found.runtime.join(found.own, on="rank", how="anti")])


def device_labels(events: pl.DataFrame, labels: Labels, windows: pl.DataFrame) -> pl.DataFrame:
    """Actions that the job's own pattern finds among events of the device (`ACTIONS` but for the position)."""
    if labels.pattern is None:
        return pl.DataFrame(schema=ACTIONS)
    return conform(
        assign_steps(labels_of(events, user_ranges(events), labels, lambda: windows).on_device, windows), ACTIONS
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
