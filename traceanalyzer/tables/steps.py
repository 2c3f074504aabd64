"""Events → step windows.

On CPU traces the rank's main thread is the device: a window runs from the start of one `ProfilerStep#N` range to the
start of the next; the last one ends with its range.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import STEPS, conform

_STEP_NAME = r"^ProfilerStep#(\d{1,9})$"


def main_threads(events: pl.DataFrame) -> pl.DataFrame:
    """The thread of each rank that runs the training loop: `rank`, `cycle`, `thread`.

    It is the one with the step ranges, else the one busiest with CPU operators.
    """
    is_step = pl.col("name").cast(pl.String).str.contains(_STEP_NAME) & (pl.col("category") == "user_annotation")
    return (
        events.lazy()
        .filter(pl.col("thread").is_not_null() & (pl.col("ph") == "X"))
        .filter(is_step | (pl.col("category") == "cpu_op"))
        .group_by("rank", "cycle", "thread")
        .agg(is_step.sum().alias("num_steps"), pl.col("duration_ns").sum())
        .sort(["rank", "cycle", "num_steps", "duration_ns", "thread"], descending=[False, False, True, True, False])
        .group_by("rank", "cycle", maintain_order=True)
        .agg(pl.col("thread").first())
        .collect()
    )


def on_main_thread(events: pl.DataFrame) -> pl.DataFrame:
    """Complete events (`X`) of the main thread of every rank."""
    threads = main_threads(events)
    return events.filter(pl.col("ph") == "X").join(threads, on=["rank", "cycle", "thread"], how="semi")


def steps(events: pl.DataFrame) -> pl.DataFrame:
    """Step windows of every rank (`STEPS`), sorted by rank and start.

    A rank without step ranges has one window, numbered 0, from its first to its last complete event, with `open_end`.
    """
    marked = _marked_steps(events)
    unmarked = events.filter(pl.col("ph") == "X").join(marked, on="rank", how="anti")
    whole = unmarked.group_by("rank").agg(
        pl.lit(0, pl.Int32).alias("step"),
        pl.col("start_ns").min(),
        (pl.col("start_ns") + pl.col("duration_ns")).max().alias("end_ns"),
        pl.lit(value=True).alias("open_end"),
    )
    return pl.concat([conform(marked, STEPS), conform(whole, STEPS)]).sort("rank", "start_ns")


def _marked_steps(events: pl.DataFrame) -> pl.DataFrame:
    """Windows from `ProfilerStep#N` ranges; the copy on the device's rows does not count."""
    following = pl.col("start_ns").shift(-1).over("rank", "cycle")
    return (
        on_main_thread(events)
        .filter(pl.col("category") == "user_annotation")
        .with_columns(pl.col("name").cast(pl.String).str.extract(_STEP_NAME, 1).cast(pl.Int32).alias("step"))
        .filter(pl.col("step").is_not_null())
        .sort("rank", "cycle", "start_ns")
        .with_columns((pl.col("start_ns") + pl.col("duration_ns")).alias("range_end_ns"))
        .with_columns(
            pl.coalesce(following, "range_end_ns").alias("end_ns"),
            pl.lit(value=False).alias("open_end"),
        )
        .select(STEPS.names())
    )


def assign_steps(intervals: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Add `step`: the window of the rank that holds `start_ns`. Rows outside every window are left out."""
    return (
        intervals.sort("start_ns")
        .join_asof(
            windows.sort("start_ns").select("rank", "step", "start_ns", pl.col("end_ns").alias("_window_end")),
            on="start_ns",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("start_ns") < pl.col("_window_end"))
        .drop("_window_end")
    )
