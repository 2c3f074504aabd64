"""Kernel time by class and by name, and what each rank did in its steps.

Sums count every kernel in full, however many run at once; a union counts time once. A kernel is *launch-bound* if it takes
less than its thread needed from its launch to the next: the device cannot be kept busy by such kernels. Kernels that one
graph launch started together have no spacing of their own and are left out of that share, and so are those for whose end the
launching call waited: its length is the kernel's.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import clip, union
from traceanalyzer.schema import KERNEL_CLASSES, KERNEL_NAMES, OWNER, RANK_SUMMARY, conform
from traceanalyzer.tables.rank_groups import in_rank_groups

MIN_OF_CALL = 0.5
"""A launching call that ends after its kernel waited for it, if the kernel takes so much of the call."""
_STEP = ["rank", "step"]


@in_rank_groups
def kernel_classes(windows: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """Kernel time of every rank by kind (`KERNEL_CLASSES`), from `STEPS` and `KERNELS`."""
    rows = _spaced(_of_steps(kernels, windows))
    merged = union(
        clip(rows.select("rank", "kind", "start_ns", "end_ns"), _bounds(windows), ["rank"]), [*_STEP, "kind"]
    )
    together = merged.group_by("rank", "kind").agg(_length().sum().alias("union_ns"))
    length = windows.group_by("rank").agg(_length().sum().alias("window_ns"))
    found = (
        rows.group_by("rank", "kind")
        .agg(*_sums())
        .join(together, on=["rank", "kind"], how="left")
        .join(length, on="rank")
        .with_columns(
            _share_of_rank(), pl.col("union_ns").fill_null(0), (pl.col("union_ns") / pl.col("window_ns")).alias("step_share")
        )
    )  # fmt: skip
    return conform(found, KERNEL_CLASSES).sort("rank", "kind")


@in_rank_groups
def kernel_names(windows: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """Kernel time of every rank by name (`KERNEL_NAMES`), longest first, from `STEPS` and `KERNELS`."""
    found = (
        _spaced(_of_steps(kernels, windows))
        .group_by("rank", pl.col("name").cast(pl.String), "kind")
        .agg(
            *_sums(),
            _length().mean().alias("mean_ns"),
            _length().min().alias("min_ns"),
            _length().max().alias("max_ns"),
        )
        .with_columns(_share_of_rank())
    )
    return conform(found, KERNEL_NAMES).sort("rank", "duration_ns", "name", descending=[False, True, False])


@in_rank_groups
def rank_summary(windows: pl.DataFrame, kernels: pl.DataFrame, account: pl.DataFrame) -> pl.DataFrame:
    """What each rank's steps consist of (`RANK_SUMMARY`), from `STEPS`, `KERNELS` and `ACCOUNTING`."""
    by_rank = windows.group_by("rank").agg(
        pl.len().cast(pl.Int64).alias("num_steps"), _length().median().cast(pl.Int64).alias("median_step_ns")
    )
    owned = pl.col("duration_ns")
    shares = account.group_by("rank").agg(
        (owned.filter(pl.col("owner") == owner).sum() / owned.sum()).alias(f"{owner}_share")
        for owner in OWNER.categories
    )
    launched = _of_steps(kernels, windows)
    sums = launched.group_by("rank").agg(
        pl.len().cast(pl.Int64).alias("num_kernels"), _length().sum().alias("kernel_ns")
    )
    busy = union(clip(kernels.select("rank", "start_ns", "end_ns"), _bounds(windows), ["rank"]), _STEP)
    rows = by_rank
    for part in (shares, sums, busy.group_by("rank").agg(_length().sum().alias("busy_ns"))):
        rows = rows.join(part, on="rank", how="left")
    return conform(rows, RANK_SUMMARY).sort("rank")


def _length() -> pl.Expr:
    return pl.col("end_ns") - pl.col("start_ns")


def _bounds(windows: pl.DataFrame) -> pl.DataFrame:
    return windows.select(*_STEP, "start_ns", "end_ns").filter(pl.col("end_ns") > pl.col("start_ns"))


def _of_steps(kernels: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    return kernels.join(windows, on=_STEP, how="semi")


def _sums() -> list[pl.Expr]:
    bound = (_length() < pl.col("_spacing_ns")).sum()
    spaced = pl.col("_spacing_ns").count()
    return [
        pl.len().cast(pl.Int64).alias("num_kernels"),
        _length().sum().alias("duration_ns"),
        spaced.cast(pl.Int64).alias("num_spaced"),
        pl.when(spaced > 0).then(bound / spaced).alias("launch_bound_share"),
    ]


def _share_of_rank() -> pl.Expr:
    return (pl.col("duration_ns") / pl.col("duration_ns").sum().over("rank").clip(1)).alias("share")  # not 0/0


def _spaced(kernels: pl.DataFrame) -> pl.DataFrame:
    """Add `_spacing_ns`: from a kernel's launch to the next of its thread; null without, for graphs, and if the call waited."""
    thread = ["rank", "cycle", "launch_thread"]
    call = pl.col("launch_end_ns") - pl.col("launch_start_ns")
    waited = (pl.col("end_ns") <= pl.col("launch_end_ns")) & (_length() >= MIN_OF_CALL * call)
    single = pl.col("launch_start_ns").is_not_null() & ~pl.col("in_graph")
    spacing = (
        kernels.filter(single)
        .sort(*thread, "launch_start_ns", "index")
        .select(
            "rank",
            "cycle",
            "index",
            pl.when(~waited.fill_null(value=False))
            .then(pl.col("launch_start_ns").shift(-1).over(thread) - pl.col("launch_start_ns"))
            .alias("_spacing_ns"),
        )
    )
    return kernels.join(spacing, on=["rank", "cycle", "index"], how="left")
