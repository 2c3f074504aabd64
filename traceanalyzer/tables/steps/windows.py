"""Events → step windows.

On a device, kernels belong to the step whose CPU range holds their launch, and windows tile the rank: window N runs from
the end of the last kernel launched in step N-1 on the compute stream (the one with most compute time) to the end of the
last one launched in step N. Kernels without launch record belong to what ran before the capture.

On CPU traces the rank's main thread is the device: a window runs from the start of one step's range to the start of the
next; the last one ends with its range.

`tables.steps.basis` chooses the ranges.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import STEPS, conform
from traceanalyzer.tables.rank_groups import in_rank_groups
from traceanalyzer.tables.steps.basis import STEP_RANGES, find_steps
from traceanalyzer.tables.steps.main_threads import main_threads, on_main_thread

__all__ = [
    "COMPUTE_KINDS",
    "assign_steps",
    "compute_streams",
    "device_steps",
    "main_threads",
    "on_main_thread",
    "step_ranges",
    "steps",
]

MOST_LACKED = 0.25
"""Of a window's length: what more is missing before its first kernel makes it another step than the others."""
COMPUTE_KINDS = ["gemm", "attention", "other", "fused"]
"""Kinds of kernels that are computation."""


def steps(events: pl.DataFrame, ranges: pl.DataFrame | None = None) -> pl.DataFrame:
    """Step windows of every rank (`STEPS`), sorted by rank and start. `ranges` is `STEP_RANGES`; default: as found.

    A rank without step ranges has one window, numbered 0, from its first to its last complete event, with `open_end`.
    """
    found = step_ranges(events) if ranges is None else ranges
    marked = found.join(events.select("rank").unique(), on="rank", how="semi").rename(
        {"range_start_ns": "start_ns", "range_end_ns": "end_ns"}
    )
    unmarked = events.filter(pl.col("ph") == "X").join(marked, on="rank", how="anti")
    whole = unmarked.group_by("rank").agg(
        pl.lit(0, pl.Int32).alias("step"),
        pl.col("start_ns").min(),
        (pl.col("start_ns") + pl.col("duration_ns")).max().alias("end_ns"),
        pl.lit(value=False).alias("open_start"),
        pl.lit(value=True).alias("open_end"),
    )
    return pl.concat([conform(marked, STEPS), conform(whole, STEPS)]).sort("rank", "start_ns")


def step_ranges(events: pl.DataFrame) -> pl.DataFrame:
    """CPU time of the steps of `EVENTS` (`STEP_RANGES`); each reaches to the start of the next, so that no launch falls between."""
    return find_steps(events).ranges


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


@in_rank_groups
def device_steps(kernels: pl.DataFrame, ranges: pl.DataFrame | None = None) -> pl.DataFrame:
    """Step windows of ranks with a device (`STEPS`), sorted by rank and start, from `KERNELS` and `STEP_RANGES`.

    The first window begins at the end of the last kernel of the tail before the capture or, without such a tail, at the
    first kernel of the step; so does one whose predecessor was not recorded. The only step of a rank runs from there (a copy
    launched far ahead is not its beginning) to its last kernel, with `open_end`.
    """
    keys = ["rank", "cycle"]
    known = pl.DataFrame(schema=STEP_RANGES) if ranges is None else ranges
    cuts = known.sort(*keys, "range_start_ns").select(
        *keys,
        "step",
        "open_start",
        pl.col("open_end").alias("_stump"),
        (pl.col("range_start_ns") > pl.col("range_end_ns").shift(1).over(keys)).alias("_after_gap"),
    )
    windows = (
        kernels.filter(pl.col("step").is_not_null())
        .group_by(*keys, "step")
        .agg(
            pl.col("start_ns").min().alias("first_ns"),
            pl.col("start_ns").filter(pl.col("kind") != "copy").min().alias("first_kernel_ns"),
            pl.col("end_ns").max().alias("last_ns"),
        )
        .join(_ends_of_computation(kernels), on=[*keys, "step"], how="left")
        .join(_ends_of_tails(kernels), on=keys, how="left")
        .join(cuts, on=[*keys, "step"], how="left")
        .with_columns(pl.coalesce("boundary_ns", "last_ns").alias("boundary_ns"))
        .sort(*keys, "boundary_ns", "step")  # numbers need not grow: one that a rank repeats is made unique
    )
    alone = pl.len().over(keys) == 1
    ended = pl.col("boundary_ns").shift(1).over(keys)
    after_gap = pl.col("_after_gap").fill_null(value=False)
    begun = pl.when(after_gap).then(pl.max_horizontal(ended, "first_ns")).otherwise(ended)
    before = pl.coalesce(begun, "tail_end_ns", "first_ns")
    return conform(
        windows.with_columns(
            pl.when(alone)
            .then(pl.coalesce("tail_end_ns", "first_kernel_ns", "first_ns"))
            .otherwise(before)
            .alias("start_ns"),
            pl.when(alone).then("last_ns").otherwise("boundary_ns").alias("end_ns"),
            pl.col("open_start").fill_null(value=False),
            (alone | pl.col("_stump").fill_null(value=False)).alias("open_end"),
        ),
        STEPS,
    ).sort("rank", "start_ns")


def _ends_of_tails(kernels: pl.DataFrame) -> pl.DataFrame:
    """By rank and cycle, the end of computation that was launched before the capture."""
    keys = ["rank", "cycle"]
    launched = pl.col("launch_start_ns").is_not_null()
    return (
        kernels.filter(pl.col("kind").is_in(COMPUTE_KINDS))
        .join(compute_streams(kernels), on=[*keys, "stream"], how="semi")
        # a stream runs in order: a kernel after a launched one has lost its launch record and does not belong to the tail
        .with_columns(pl.col("start_ns").filter(launched).min().over(keys).alias("_first_ns"))
        .filter(~launched & (pl.col("start_ns") < pl.col("_first_ns")))
        .group_by(keys)
        .agg(pl.col("end_ns").max().alias("tail_end_ns"))
    )


def _ends_of_computation(kernels: pl.DataFrame) -> pl.DataFrame:
    """By rank, cycle and step, the end of the last kernel on the compute stream."""
    keys = ["rank", "cycle"]
    ended = ~pl.col("cut").fill_null(value=False)  # an unknown end does not bound a step
    return (
        kernels.filter(pl.col("step").is_not_null() & ended)
        .join(compute_streams(kernels), on=[*keys, "stream"], how="semi")
        .group_by(*keys, "step")
        .agg(pl.col("end_ns").max().alias("boundary_ns"))
    )


def whole_lengths(windows: pl.DataFrame, kernels: pl.DataFrame, ranges: pl.DataFrame) -> dict[int, int]:
    """How long first steps would be with the time before their first kernel, by step; without those that lack none.

    A device's first window (of `STEPS`) begins with its first kernel where nothing shows when the step before it ended. What it
    lacks is the time since the begin of its range, or as much as usually passes before the first kernel of the rank's other
    windows, whichever is longer.
    """
    first_kernels = kernels.group_by("rank", "step").agg(pl.col("start_ns").min().alias("_kernel_ns"))
    begun = ranges.select("rank", "step", pl.col("range_start_ns").alias("_range_ns"))
    start, is_first = pl.col("start_ns"), pl.col("start_ns") == pl.col("start_ns").min().over("rank")
    usual = (pl.col("_kernel_ns") - start).clip(0).filter(~is_first).median().over("rank").cast(pl.Int64)
    lengths = (
        windows.join(first_kernels, on=["rank", "step"])
        .join(begun, on=["rank", "step"], how="left")
        .with_columns(pl.max_horizontal(start - pl.col("_range_ns"), usual).alias("_lacking_ns"))
        .filter(is_first & (start == pl.col("_kernel_ns")) & (pl.col("_lacking_ns") > 0))
        .group_by("step")
        .agg((pl.col("end_ns") - start + pl.col("_lacking_ns")).max())
    )
    return dict(lengths.iter_rows())


def with_cut_starts(windows: pl.DataFrame, kernels: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """`STEPS` whose first windows of several devices of one process are marked as cut where they lack time before their kernels.

    One thread drives these devices in turn: the window of one begins late because its turn came late, not because the step did.
    What a window lacks beyond `MOST_LACKED` of the rank's other windows was not captured.
    """
    devices = ranks.filter(pl.col("rank_source") == "device")["rank"].unique().to_list()
    if not devices:
        return windows
    first_kernels = kernels.group_by("rank", "step").agg(pl.col("start_ns").min().alias("_kernel_ns"))
    length, start = pl.col("end_ns") - pl.col("start_ns"), pl.col("start_ns")
    is_first = start == start.min().over("rank")
    usual = length.filter(~is_first).median().over("rank")
    lacks = (
        pl.col("rank").is_in(devices)
        & is_first
        & (start == pl.col("_kernel_ns"))
        & (length < (1 - MOST_LACKED) * usual)
    )
    joined = windows.join(first_kernels, on=["rank", "step"], how="left", maintain_order="left")
    cut = pl.col("open_start").fill_null(value=False) | lacks.fill_null(value=False)
    return joined.with_columns(cut.alias("open_start")).drop("_kernel_ns")


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
