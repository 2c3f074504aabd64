"""Which steps every figure speaks of.

Only whole steps are compared. Of eight or more, those are typical whose length is within the larger of three scaled median
absolute deviations and 5% of the median; if more than a tenth of them would fall out, none does: then they are the run. Of
fewer, all are typical but a first step that is more than 25% off the median and a warm-up (longer than the others, or with less
work), or cut: as long as the others with the time before its first kernel. One whose next step is alike is not a warm-up: then
steps differ, and nobody knows which are usual.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from traceanalyzer.schema import STEPS, conform

FEWEST_COMPARED = 8
"""Steps from which on a spread is known."""
MAD_TO_SIGMA = 1.4826
MAX_DEVIATIONS = 3
MIN_BAND = 0.05
"""Of the median: a step within it is typical, however even the others are."""
MAX_FIRST = 0.25
"""What the first of a few steps may be off their median, and how much its next one may differ to be like it."""
MAX_SET_APART_SHARE = 0.1
CUT, OPEN, FIRST, OUTLIER, PARTLY = "cut at its start", "open end", "first step", "outlier", "not on all ranks"
LOST, UNMEASURED = "kernels missing", "no pipeline measured"
"""Reasons why a step is set apart."""
PRICED = (FIRST, OUTLIER)
"""Reasons of whole steps: their length beyond the others' has a price."""
_LENGTHS = pl.Schema({"step": pl.Int32, "duration_ns": pl.Int64, "reason": pl.String})


def step_lengths(windows: pl.DataFrame) -> pl.DataFrame:
    """Every step of `STEPS` with its length, the longest rank's window, in order: `step`, `duration_ns`, `reason`.

    `reason` says why a step is incomplete; null if it is complete. Where none is complete, all are taken to be.
    """
    if windows.is_empty():
        return pl.DataFrame(schema=_LENGTHS)
    num_ranks = windows["rank"].n_unique()
    steps = windows.group_by("step").agg(
        (pl.col("end_ns") - pl.col("start_ns")).max().alias("duration_ns"),
        pl.col("open_start").fill_null(value=False).any(),
        pl.col("open_end").fill_null(value=False).any(),
        (pl.col("num_missing_kernels").fill_null(0) > 0).any().alias("is_lossy"),
        (pl.col("rank").n_unique() < num_ranks).alias("is_partly"),
    )
    reason = (
        pl.when("open_start")
        .then(pl.lit(CUT))
        .when("open_end")
        .then(pl.lit(OPEN))
        .when("is_partly")
        .then(pl.lit(PARTLY))
        .when("is_lossy")
        .then(pl.lit(LOST))
    )
    stated = steps.with_columns(reason.alias("reason")).sort("step").select(_LENGTHS.names())
    return stated if stated["reason"].null_count() else stated.with_columns(pl.lit(None, pl.String).alias("reason"))


@dataclass(frozen=True, slots=True)
class FirstStep:
    """What is known of first steps beside their windows."""

    with_less_work: Collection[int] = ()
    """Steps that do less than the others."""
    whole_ns: Mapping[int, int] = field(default_factory=dict[int, int])
    """How long steps would be with the time before their first kernel, which their windows lack."""

    def reason(self, step: int, length_ns: int, usual_ns: float, most_off_ns: float) -> str | None:
        """Why a first step that is so far off the usual length is none like the others; None if nothing shows it."""
        if length_ns > usual_ns or step in self.with_less_work:
            return FIRST
        return CUT if self.whole_ns.get(step, length_ns) >= usual_ns - most_off_ns else None


def outliers(lengths: pl.DataFrame, first: FirstStep | None = None) -> pl.DataFrame:
    """Whole steps whose length is not that of the others, and why: `step`, `duration_ns`, `reason`; from `step_lengths`."""
    known = first or FirstStep()
    whole = lengths.filter(pl.col("reason").is_null()).sort("step")
    if whole.height < FEWEST_COMPARED:
        return _first_of_few(whole, known)
    durations = whole["duration_ns"]
    middle = float(np.median(durations))
    off = (durations - middle).abs()
    band = max(MAX_DEVIATIONS * MAD_TO_SIGMA * float(np.median(off)), MIN_BAND * middle)
    step, length = whole["step"][0], durations[0]
    reason = pl.when(pl.col("step") == step).then(pl.lit(known.reason(step, length, middle, band) or OUTLIER))
    return whole.filter(off > band).with_columns(reason.otherwise(pl.lit(OUTLIER)).alias("reason"))


def _first_of_few(whole: pl.DataFrame, known: FirstStep) -> pl.DataFrame:
    """The first step, if it was cut or is a warm-up. The median is one of the steps: of an even number the shorter middle one."""
    lengths = whole["duration_ns"].to_list()
    if len(lengths) < 2:
        return whole.clear()
    first, usual = lengths[0], sorted(lengths)[(len(lengths) - 1) // 2]
    reason = known.reason(whole["step"][0], first, usual, MAX_FIRST * usual)
    is_off = abs(first - usual) > MAX_FIRST * usual
    is_alone = abs(lengths[1] - first) > MAX_FIRST * first
    chosen = is_off and is_alone and reason is not None
    return whole.head(int(chosen)).with_columns(pl.lit(reason, pl.String).alias("reason"))


def with_typical(windows: pl.DataFrame, first: FirstStep | None = None, *, chosen: bool = False) -> pl.DataFrame:
    """`STEPS` with `is_typical` and `set_apart`. Steps that were `chosen` by hand are all typical."""
    lengths = step_lengths(windows)
    apart = lengths.filter(pl.col("reason").is_not_null())
    if chosen:
        apart = apart.clear()
    else:
        num_whole, off = lengths.height - apart.height, outliers(lengths, first)
        if num_whole < FEWEST_COMPARED or off.height <= MAX_SET_APART_SHARE * num_whole:
            apart = pl.concat([apart, off])
    reasons = apart.select("step", pl.col("reason").alias("set_apart"))
    marked = windows.drop("set_apart", "is_typical", strict=False).join(
        reasons, on="step", how="left", maintain_order="left"
    )
    return conform(marked.with_columns(pl.col("set_apart").is_null().alias("is_typical")), STEPS)


def with_unmeasured(windows: pl.DataFrame, steps: Collection[int]) -> pl.DataFrame:
    """`STEPS` with `steps` set apart, too, as those of a pipelined job on which no pipeline could be measured."""
    reason = pl.lit(UNMEASURED).cast(windows.schema["set_apart"])
    unmeasured = pl.col("step").is_in(list(steps))
    return windows.with_columns(
        pl.when(unmeasured).then(pl.coalesce("set_apart", reason)).otherwise("set_apart").alias("set_apart"),
        (pl.col("is_typical") & ~unmeasured).alias("is_typical"),
    )


def typical_steps(windows: pl.DataFrame) -> list[int]:
    """Numbers of the typical steps of `STEPS`."""
    return windows.filter(pl.col("is_typical").fill_null(value=True))["step"].unique().sort().to_list()
