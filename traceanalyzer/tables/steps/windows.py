"""Events → step windows.

On a device, kernels belong to the step whose CPU range holds their launch, and windows tile the rank: window N runs from
the end of the last kernel launched in step N-1 on the compute stream (the one with most compute time) to the end of the
last one launched in step N. Kernels without launch record belong to what ran before the capture.

On CPU traces the rank's main thread is the device: a window runs from the start of one `ProfilerStep#N` range to the
start of the next; the last one ends with its range.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import STEPS, conform

COMPUTE_KINDS = ["gemm", "attention", "other", "fused"]
"""Kinds of kernels that are computation."""
MIN_EVENT_SHARE = 0.5
_STEP_NAME = r"^ProfilerStep#(\d{1,9})$"


def main_threads(events: pl.DataFrame) -> pl.DataFrame:
    """The thread of each rank that runs the training loop: `rank`, `cycle`, `thread`.

    It is the one with the step ranges, else the one busiest with CPU operators, else with other ranges.
    """
    is_range = pl.col("category") == "user_annotation"
    is_step = pl.col("name").cast(pl.String).str.contains(_STEP_NAME) & is_range
    time = pl.col("duration_ns")
    return (
        events.lazy()
        .filter(pl.col("thread").is_not_null() & (pl.col("ph") == "X"))
        .filter(is_range | (pl.col("category") == "cpu_op"))
        .group_by("rank", "cycle", "thread")
        .agg(is_step.sum().alias("num_steps"), time.filter(~is_range | is_step).sum(), time.sum().alias("range_ns"))
        .sort(
            ["rank", "cycle", "num_steps", "duration_ns", "range_ns", "thread"],
            descending=[False, False, True, True, True, False],
        )
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
    marked = _with_open_end(_marked_steps(events), events)
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
        .with_columns(_unique_number())
        .with_columns((pl.col("start_ns") + pl.col("duration_ns")).alias("range_end_ns"))
        .with_columns(
            pl.coalesce(following, "range_end_ns").alias("end_ns"),
            pl.lit(value=False).alias("open_end"),
            pl.lit(None, pl.Int64).alias("num_missing_kernels"),
        )
        .select("cycle", *STEPS.names())
    )


def _with_open_end(marked: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Mark a rank's last window `open_end` where it holds less than half of the main thread's usual number of events.

    A loop that ends while the profiler still records leaves such a stump.
    """
    starts = on_main_thread(events).select("rank", "start_ns")
    counts = assign_steps(starts, marked).group_by("rank", "step").agg(pl.len().alias("num_events"))
    last = pl.col("start_ns") == pl.col("start_ns").max().over("rank")
    stump = pl.col("num_events").fill_null(0) < MIN_EVENT_SHARE * pl.col("num_events").median().over("rank")
    several = pl.len().over("rank") > 1
    return (
        marked.join(counts, on=["rank", "step"], how="left", maintain_order="left")
        .with_columns((pl.col("open_end") | (last & several & stump)).alias("open_end"))
        .drop("num_events")
    )


def _unique_number() -> pl.Expr:
    """The step number, made unique on its rank: a profiler that starts again may count from the same number again.

    The k-th repetition of a number is that number plus k times one more than the largest, alike on all ranks.
    """
    again = pl.int_range(pl.len(), dtype=pl.Int32).over("rank", "step")
    return (pl.col("step") + again * (pl.col("step").max() + 1)).alias("step")


def step_ranges(events: pl.DataFrame) -> pl.DataFrame:
    """CPU ranges of the profiler's steps: `rank`, `cycle`, `step`, `range_start_ns`, `range_end_ns`.

    Each reaches to the start of the next, so that no launch falls between two steps.
    """
    return _marked_steps(events).select(
        "rank",
        "cycle",
        "step",
        pl.col("start_ns").alias("range_start_ns"),
        pl.col("end_ns").alias("range_end_ns"),
    )


def compute_streams(kernels: pl.DataFrame) -> pl.DataFrame:
    """The stream of each rank with most compute time: `rank`, `cycle`, `stream`. `kernels` is `KERNELS`."""
    return (
        kernels.filter(pl.col("kind").is_in(COMPUTE_KINDS))
        .group_by("rank", "cycle", "stream")
        .agg((pl.col("end_ns") - pl.col("start_ns")).sum().alias("duration_ns"))
        .sort(["rank", "cycle", "duration_ns", "stream"], descending=[False, False, True, False])
        .group_by("rank", "cycle", maintain_order=True)
        .agg(pl.col("stream").first())
    )


def device_steps(kernels: pl.DataFrame) -> pl.DataFrame:
    """Step windows of ranks with a device (`STEPS`), sorted by rank and start. `kernels` is `KERNELS`.

    The first window begins at the end of the last kernel of the tail before the capture or, without such a tail, at the
    first kernel of the step. The only step of a rank runs from there (a copy launched far ahead is no beginning) to its
    last kernel, with `open_end`.
    """
    keys = ["rank", "cycle"]
    launched = pl.col("launch_start_ns").is_not_null()
    tail = (
        kernels.filter(pl.col("kind").is_in(COMPUTE_KINDS))
        .join(compute_streams(kernels), on=[*keys, "stream"], how="semi")
        # a stream runs in order: what comes after a launched kernel has lost its launch record and is no tail
        .with_columns(pl.col("start_ns").filter(launched).min().over(keys).alias("_first_ns"))
        .filter(~launched & (pl.col("start_ns") < pl.col("_first_ns")))
        .group_by(keys)
        .agg(pl.col("end_ns").max().alias("tail_end_ns"))
    )
    ended = ~pl.col("cut").fill_null(value=False)  # an end that is not known bounds no step
    on_compute_stream = (
        kernels.filter(pl.col("step").is_not_null() & ended)
        .join(compute_streams(kernels), on=[*keys, "stream"], how="semi")
        .group_by(*keys, "step")
        .agg(pl.col("end_ns").max().alias("boundary_ns"))
    )
    windows = (
        kernels.filter(pl.col("step").is_not_null())
        .group_by(*keys, "step")
        .agg(
            pl.col("start_ns").min().alias("first_ns"),
            pl.col("start_ns").filter(pl.col("kind") != "copy").min().alias("first_kernel_ns"),
            pl.col("end_ns").max().alias("last_ns"),
        )
        .join(on_compute_stream, on=[*keys, "step"], how="left")
        .join(tail, on=keys, how="left")
        .sort(*keys, "step")
        .with_columns(pl.coalesce("boundary_ns", "last_ns").alias("boundary_ns"))
    )
    alone = pl.len().over(keys) == 1
    before = pl.coalesce(pl.col("boundary_ns").shift(1).over(keys), "tail_end_ns", "first_ns")
    return conform(
        windows.with_columns(
            pl.when(alone)
            .then(pl.coalesce("tail_end_ns", "first_kernel_ns", "first_ns"))
            .otherwise(before)
            .alias("start_ns"),
            pl.when(alone).then("last_ns").otherwise("boundary_ns").alias("end_ns"),
            alone.alias("open_end"),
        ),
        STEPS,
    ).sort("rank", "start_ns")


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
