"""Which steps every figure speaks of.

Only whole steps are compared. Of eight or more, those are typical whose length is within the larger of three scaled median
absolute deviations and 5% of the median; if more than a tenth of them would fall out, none does: then they are the run. Of
fewer, all are typical but a first step that is more than 25% off the median and a warm-up: longer than the others, or with less
work. One whose next step is alike is none: then steps differ, and nobody knows which are usual.
"""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from traceanalyzer.schema import STEPS, conform

FEWEST_COMPARED = 8
"""Steps whose spread can be told."""
MAD_TO_SIGMA = 1.4826
MAX_DEVIATIONS = 3
MIN_BAND = 0.05
"""Of the median: a step within it is typical, however even the others are."""
MAX_FIRST = 0.25
"""What the first of a few steps may be off their median, and how much its next one may differ to be like it."""
MAX_SET_APART_SHARE = 0.1
CUT, OPEN, FIRST, OUTLIER, PARTLY = "cut at its start", "open end", "first step", "outlier", "not on all ranks"
"""Reasons why a step is set apart."""
PRICED = (FIRST, OUTLIER)
"""Reasons of whole steps: their length beyond the others' has a price."""
_LENGTHS = pl.Schema({"step": pl.Int32, "duration_ns": pl.Int64, "reason": pl.String})


def step_lengths(windows: pl.DataFrame) -> pl.DataFrame:
    """Every step of `STEPS` with its length, the longest rank's window, in order: `step`, `duration_ns`, `reason`.

    `reason` tells why a step is not whole; null where it is. Where none is whole, all are taken to be.
    """
    if windows.is_empty():
        return pl.DataFrame(schema=_LENGTHS)
    num_ranks = windows["rank"].n_unique()
    steps = windows.group_by("step").agg(
        (pl.col("end_ns") - pl.col("start_ns")).max().alias("duration_ns"),
        pl.col("open_start").fill_null(value=False).any(),
        pl.col("open_end").fill_null(value=False).any(),
        (pl.col("rank").n_unique() < num_ranks).alias("is_partly"),
    )
    reason = (
        pl.when("open_start")
        .then(pl.lit(CUT))
        .when("open_end")
        .then(pl.lit(OPEN))
        .when("is_partly")
        .then(pl.lit(PARTLY))
    )
    told = steps.with_columns(reason.alias("reason")).sort("step").select(_LENGTHS.names())
    return told if told["reason"].null_count() else told.with_columns(pl.lit(None, pl.String).alias("reason"))


def outliers(lengths: pl.DataFrame, with_less_work: Collection[int] = ()) -> pl.DataFrame:
    """Whole steps whose length is not that of the others, and why: `step`, `duration_ns`, `reason`; from `step_lengths`.

    `with_less_work` are steps that do less than the others.
    """
    whole = lengths.filter(pl.col("reason").is_null()).sort("step")
    if whole.height < FEWEST_COMPARED:
        return _first_step(whole, with_less_work)
    middle = pl.col("duration_ns").median()
    off = (pl.col("duration_ns") - middle).abs()
    band = pl.max_horizontal(MAX_DEVIATIONS * MAD_TO_SIGMA * off.median(), MIN_BAND * middle)
    warms_up = (pl.col("duration_ns") > middle) | pl.col("step").is_in(list(with_less_work))
    is_first = pl.col("step") == pl.col("step").min()
    reason = pl.when(is_first & warms_up).then(pl.lit(FIRST)).otherwise(pl.lit(OUTLIER))
    return whole.with_columns(reason.alias("reason")).filter(off > band)


def _first_step(whole: pl.DataFrame, with_less_work: Collection[int]) -> pl.DataFrame:
    """The first of a few steps, if it is a warm-up.

    Their median is one of them: of an even number the shorter middle one.
    """
    lengths = whole["duration_ns"].to_list()
    if len(lengths) < 2:
        return whole.clear()
    first, usual = lengths[0], sorted(lengths)[(len(lengths) - 1) // 2]
    is_off = abs(first - usual) > MAX_FIRST * usual
    is_alone = abs(lengths[1] - first) > MAX_FIRST * first
    warms_up = first > usual or whole["step"][0] in with_less_work
    return whole.head(int(is_off and is_alone and warms_up)).with_columns(pl.lit(FIRST).alias("reason"))


def with_typical(windows: pl.DataFrame, *, chosen: bool = False, with_less_work: Collection[int] = ()) -> pl.DataFrame:
    """`STEPS` with `is_typical` and `set_apart`.

    Steps that were `chosen` by hand are all typical. `with_less_work` are steps that do less than the others.
    """
    lengths = step_lengths(windows)
    apart = lengths.filter(pl.col("reason").is_not_null())
    if chosen:
        apart = apart.clear()
    else:
        num_whole, off = lengths.height - apart.height, outliers(lengths, with_less_work)
        if num_whole < FEWEST_COMPARED or off.height <= MAX_SET_APART_SHARE * num_whole:
            apart = pl.concat([apart, off])
    reasons = apart.select("step", pl.col("reason").alias("set_apart"))
    marked = windows.drop("set_apart", "is_typical", strict=False).join(
        reasons, on="step", how="left", maintain_order="left"
    )
    return conform(marked.with_columns(pl.col("set_apart").is_null().alias("is_typical")), STEPS)


def typical_steps(windows: pl.DataFrame) -> list[int]:
    """Numbers of the typical steps of `STEPS`."""
    return windows.filter(pl.col("is_typical").fill_null(value=True))["step"].unique().sort().to_list()
