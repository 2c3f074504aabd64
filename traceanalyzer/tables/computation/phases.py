"""Kernels → the phase of training that each serves: forward, backward, input or weight gradient.

The best that a rank has, in order: the ranges that label its actions, ranges whose names show a phase
(`tables.phase_names`), the thread that launched the kernel. A range holds a kernel if it holds its launch; of nested
ranges the innermost counts.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import KERNEL_PHASES, KERNELS, PASSES, PHASE, conform, empty
from traceanalyzer.tables.computation.phase_names import phase_of
from traceanalyzer.tables.rank_groups import in_rank_groups

_KERNEL = ["rank", "cycle", "index"]
_STEP = ["rank", "step"]
MIN_ANNOTATED_SHARE = 0.5
"""Of the time of a rank's kernels: ranges that hold less mark some part of the model, not the phases of the step."""
_DEEPEST = 8


def phase_ranges(noted: pl.DataFrame) -> pl.DataFrame:
    """Of `tables.actions.labels.user_ranges` those that mark phases: `rank`, `phase`, `start_ns`, `end_ns`.

    Only of ranks that mark a forward and something that is none.
    """
    forward = pl.col("phase") == "F"
    return (
        noted.with_columns(phase_of(pl.col("name")).alias("phase"))
        .filter(pl.col("phase").is_not_null())
        .filter(forward.any().over("rank") & (~forward).any().over("rank"))
        .select("rank", "phase", "start_ns", "end_ns")
    )


@in_rank_groups
def in_ranges(kernels: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Kernels launched inside ranges: columns of `KERNELS`, `phase` and `range_start_ns`, of the innermost range.

    `ranges` has `rank`, `phase`, `start_ns`, `end_ns`; those of one rank nest.
    """
    if ranges.is_empty():
        nothing = [pl.lit(None, PHASE).alias("phase"), pl.lit(None, pl.Int64).alias("range_start_ns")]
        return kernels.clear().with_columns(nothing)
    nested = _with_depth(ranges).rename({"start_ns": "range_start_ns", "end_ns": "_range_end_ns"})
    left = kernels.filter(pl.col("launch_start_ns").is_not_null() & pl.col("step").is_not_null()).sort(
        "launch_start_ns"
    )
    found: list[pl.DataFrame] = []
    for depth in sorted(nested["_depth"].unique().to_list(), reverse=True):
        inside = left.join_asof(
            nested.filter(pl.col("_depth") == depth).drop("_depth").sort("range_start_ns"),
            left_on="launch_start_ns",
            right_on="range_start_ns",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        ).filter(pl.col("launch_start_ns") < pl.col("_range_end_ns"))
        found.append(inside.drop("_range_end_ns"))
        left = left.join(inside, on=_KERNEL, how="anti", maintain_order="left")
    columns = [*kernels.columns, "phase", "range_start_ns"]
    nothing = left.clear().with_columns(pl.lit(None, PHASE).alias("phase"), pl.lit(None, pl.Int64).alias(columns[-1]))
    return pl.concat([nothing, *(frame.select(columns) for frame in found)])


def _with_depth(ranges: pl.DataFrame) -> pl.DataFrame:
    """Add `_depth`: how many ranges of the rank are open where a range starts, itself included, at most eight."""
    ordered = ranges.sort("rank", "start_ns", "end_ns", descending=[False, False, True]).with_row_index("_row")
    edges = pl.concat(
        [
            ordered.select("rank", "_row", pl.col("end_ns").alias("at_ns"), pl.lit(-1).alias("change")),
            ordered.select("rank", "_row", pl.col("start_ns").alias("at_ns"), pl.lit(1).alias("change")),
        ]
    ).sort("rank", "at_ns", "change", "_row")
    depth = edges.with_columns(pl.col("change").cum_sum().over("rank").clip(1, _DEEPEST).alias("_depth"))
    opened = depth.filter(pl.col("change") == 1).select("_row", "_depth")
    return ordered.join(opened, on="_row", how="left").drop("_row")


@in_rank_groups
def phases_of_kernels(
    kernels: pl.DataFrame, labelled: pl.DataFrame, marked: pl.DataFrame, by_thread: pl.DataFrame
) -> pl.DataFrame:
    """The phase of every kernel that has one: `rank`, `cycle`, `index`, `phase`, `basis`, by the best its rank has.

    Args:
        kernels: `KERNELS`.
        labelled: ranges of labelled actions: `rank`, `phase`, `start_ns`, `end_ns`.
        marked: kernels in ranges whose names show a phase, as `annotated` gives them.
        by_thread: kernels with the phase that their launching thread shows.
    """
    known = {"actions": in_ranges(kernels, labelled), "annotations": marked, "threads": by_thread}
    found = pl.DataFrame(schema={**{name: KERNELS[name] for name in _KERNEL}, "phase": PHASE, "basis": pl.String})
    for basis, rows in known.items():
        named = rows.select(*_KERNEL, pl.col("phase").cast(PHASE), pl.lit(basis).alias("basis"))
        found = pl.concat([found, named.join(found, on="rank", how="anti")])
    return found


def annotated(kernels: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """`in_ranges` of the ranks on which these ranges hold at least half of the time of all launched kernels."""
    length = (pl.col("end_ns") - pl.col("start_ns")).sum()
    inside = in_ranges(kernels, ranges)
    if inside.is_empty():
        return inside
    launched = kernels.filter(pl.col("step").is_not_null())
    shares = launched.group_by("rank").agg(length.alias("_all")).join(inside.group_by("rank").agg(length), on="rank")
    enough = shares.filter(pl.col("end_ns") >= MIN_ANNOTATED_SHARE * pl.col("_all"))
    return inside.join(enough, on="rank", how="semi")


def annotated_passes(inside: pl.DataFrame) -> pl.DataFrame:
    """When the device worked for which phase (`PASSES`), from kernels as `in_ranges` gives them; nothing overlaps.

    Where kernels of several phases run at once, the time is of the one that started first. Time without a kernel between
    the first and the last one of a range is of the range's phase.
    """
    if inside.is_empty():
        return empty(PASSES)
    spans = inside.group_by(*_STEP, "phase", "range_start_ns").agg(
        pl.col("start_ns").min(), pl.col("end_ns").max(), pl.col("index").min()
    )
    running = _earliest_started(inside)
    between = _outside(_earliest_started(spans), running)
    return conform(pl.concat([running, between]), PASSES).sort(*_STEP, "start_ns")


def _earliest_started(intervals: pl.DataFrame) -> pl.DataFrame:
    """Each interval less the time in which one that started before it still runs: `rank`, `step`, `phase`, times."""
    before = pl.col("end_ns").cum_max().shift(1).over("rank")
    return (
        intervals.sort("rank", "start_ns", "index")
        .with_columns(pl.max_horizontal("start_ns", before).alias("start_ns"))
        .filter(pl.col("end_ns") > pl.col("start_ns"))
        .select(*_STEP, "phase", "start_ns", "end_ns")
    )


def _outside(spans: pl.DataFrame, running: pl.DataFrame) -> pl.DataFrame:
    """The parts of disjoint `spans` between the intervals of disjoint `running`."""
    ordered = running.sort("rank", "start_ns").select("rank", "start_ns", "end_ns")
    gaps = ordered.select(
        "rank", pl.col("end_ns").alias("start_ns"), pl.col("start_ns").shift(-1).over("rank").alias("end_ns")
    ).filter(pl.col("end_ns") > pl.col("start_ns"))
    placed = (
        gaps.sort("start_ns")
        .join_asof(
            spans.rename({"start_ns": "_from", "end_ns": "_to"}).sort("_from"),
            left_on="start_ns",
            right_on="_from",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        )
        .with_columns(pl.min_horizontal("end_ns", "_to").alias("end_ns"))
    )
    return placed.filter(pl.col("end_ns") > pl.col("start_ns")).select(*_STEP, "phase", "start_ns", "end_ns")


@in_rank_groups
def kernel_phases(kernels: pl.DataFrame, phases: pl.DataFrame) -> pl.DataFrame:
    """Kernel time by phase, stream and kind (`KERNEL_PHASES`).

    `kernels` is `KERNELS`; `phases` has `rank`, `cycle`, `index`, `phase`, `basis`, a kernel at most once. Durations are
    summed over kernels, however many run at once.
    """
    bases = phases.group_by("rank").agg(pl.col("basis").first())
    rows = (
        kernels.filter(pl.col("step").is_not_null())
        .join(bases, on="rank")
        .join(phases.drop("basis"), on=_KERNEL, how="left")
        .group_by(*_STEP, "phase", "stream", "kind")
        .agg(
            pl.len().cast(pl.Int64).alias("num_kernels"),
            (pl.col("end_ns") - pl.col("start_ns")).sum().alias("duration_ns"),
            pl.col("basis").first(),
        )
    )
    return conform(rows, KERNEL_PHASES).sort(*_STEP, "phase", "stream", "kind", nulls_last=True)
