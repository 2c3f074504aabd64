"""Which steps every figure speaks of.

Only whole steps are compared. Of eight or more, those are typical whose length is within the larger of three scaled median
absolute deviations and 5% of the median; of fewer, all but a first step that is more than 25% off the median. If more than a tenth
of them would fall out, none does: then they are the run.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import STEPS, conform

FEWEST_COMPARED = 8
"""Steps whose spread can be told."""
MAD_TO_SIGMA = 1.4826
MAX_DEVIATIONS = 3
MIN_BAND = 0.05
"""Of the median: a step within it is typical, however even the others are."""
MAX_FIRST = 0.25
"""What the first of a few steps may be off their median."""
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


def outliers(lengths: pl.DataFrame) -> pl.DataFrame:
    """Whole steps whose length is not that of the others, and why: `step`, `duration_ns`, `reason`; from `step_lengths`."""
    whole = lengths.filter(pl.col("reason").is_null()).sort("step")
    if whole.height < FEWEST_COMPARED:
        return _first_step(whole)
    middle = pl.col("duration_ns").median()
    off = (pl.col("duration_ns") - middle).abs()
    band = pl.max_horizontal(MAX_DEVIATIONS * MAD_TO_SIGMA * off.median(), MIN_BAND * middle)
    reason = pl.when(pl.col("step") == pl.col("step").min()).then(pl.lit(FIRST)).otherwise(pl.lit(OUTLIER))
    return whole.with_columns(reason.alias("reason")).filter(off > band)


def _first_step(whole: pl.DataFrame) -> pl.DataFrame:
    """The first of a few steps, if it is off their median, which is one of them: of an even number the shorter middle one."""
    if whole.is_empty():
        return whole
    usual = whole["duration_ns"].sort()[(whole.height - 1) // 2]
    off = (pl.col("duration_ns") - usual).abs() > MAX_FIRST * usual
    return whole.head(1).filter(off).with_columns(pl.lit(FIRST).alias("reason"))


def with_typical(windows: pl.DataFrame, *, chosen: bool = False) -> pl.DataFrame:
    """`STEPS` with `is_typical` and `set_apart`. Steps that were `chosen` by hand are all typical."""
    lengths = step_lengths(windows)
    apart = lengths.filter(pl.col("reason").is_not_null())
    if chosen:
        apart = apart.clear()
    else:
        num_whole, off = lengths.height - apart.height, outliers(lengths)
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
