"""The thread of each rank that runs the training loop."""

from __future__ import annotations

import polars as pl

from traceanalyzer.tables.one_answer import OneAnswer
from traceanalyzer.tables.steps.ends import OPTIMIZER_RANGE
from traceanalyzer.tables.steps.names import PROFILER_STEP, may_be_steps


def main_threads(events: pl.DataFrame) -> pl.DataFrame:
    """The thread of each rank that runs the training loop: `rank`, `cycle`, `thread`.

    It is the one with the step ranges, else with most ranges that may be steps or end them, else the one busiest with CPU
    operators, else with other ranges.
    """
    is_range = pl.col("category") == "user_annotation"
    time = pl.col("duration_ns")
    host = events.lazy().filter(pl.col("thread").is_not_null() & (pl.col("ph") == "X"))
    keys = ["rank", "cycle", "thread"]
    name = pl.col("name").cast(pl.String)
    is_step = name.str.contains(PROFILER_STEP)
    marks = (
        host.filter(is_range)
        .select(*keys, "duration_ns", is_step.alias("is_step"), name)
        .with_columns((may_be_steps() | pl.col("name").str.contains(OPTIMIZER_RANGE)).alias("is_mark"))
        .group_by(keys)
        .agg(
            pl.col("is_step").sum().alias("num_steps"),
            pl.col("is_mark").sum().alias("num_marks"),
            time.filter("is_step").sum().alias("step_ns"),
            time.sum().alias("noted_ns"),
        )
    )
    busy = host.filter(pl.col("category") == "cpu_op").group_by(keys).agg(time.sum().alias("operator_ns"))
    numbers = ["num_steps", "num_marks", "step_ns", "noted_ns", "operator_ns"]
    return (
        marks.join(busy, on=keys, how="full", coalesce=True)
        .with_columns(pl.col(numbers).fill_null(0))
        .with_columns(
            (pl.col("operator_ns") + pl.col("step_ns")).alias("duration_ns"),
            (pl.col("operator_ns") + pl.col("noted_ns")).alias("range_ns"),
        )
        .sort(
            ["rank", "cycle", "num_steps", "num_marks", "duration_ns", "range_ns", "thread"],
            descending=[False, False, True, True, True, True, False],
        )
        .group_by("rank", "cycle", maintain_order=True)
        .agg(pl.col("thread").first())
        .collect()
    )


_asked = OneAnswer(main_threads)


def on_main_thread(events: pl.DataFrame) -> pl.DataFrame:
    """Complete events (`X`) of the main thread of every rank."""
    if events.is_empty():
        return events
    threads = _asked(events)
    return events.filter(pl.col("ph") == "X").join(threads, on=["rank", "cycle", "thread"], how="semi")
