"""Did the machine let the ranks run when they wanted to? A timeline distorted by its host measures the host.

Three signs: CPU pressure (share of the step in which some task waited for a core, from the kernel), involuntary
context switches of the ranks, and the spread of equal actions. Pressure and spread decide; switches are shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.review import Review
from traceanalyzer.review.vocabulary import HostVerdict

MAX_PRESSURE_SHARE = 0.10
MAX_SPREAD = 0.05
"""Coefficient of variation of equal actions (same rank, stage and phase) over microbatches and steps."""
_MIN_STAGES = 3
"""Ranks of a pipeline from which on what a microbatch takes on all of them shows how long it is."""
_EXPLAINED = 1 / 3
"""If taking out each microbatch's own length leaves less than this of the spread, microbatches are not equally long."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Verdict on the timeline with the figures behind it; None if a figure was not recorded."""

    verdict: HostVerdict
    """`unknown`: nothing was recorded."""
    cpu_pressure_share: float | None
    involuntary_switches_per_second: float | None
    action_spread: float | None
    reasons: tuple[str, ...]


def validity(step_records: pl.DataFrame, actions: pl.DataFrame, windows: pl.DataFrame) -> Validity:
    """Judge the measured steps from `STEP_RECORDS`, `STEPS` and the `ACTIONS` of ranks whose device is the host.

    A device's actions vary for reasons of its own, and those of an op table may be a device's: they say nothing about the
    host. `actions` may have `pipeline`.
    """
    measured = step_records.join(windows.select("rank", "step"), on=["rank", "step"], how="semi")
    pressure, switches, spread = _pressure(measured), _switches(measured), _spread(actions)
    reasons: list[str] = []
    if pressure is not None and pressure > MAX_PRESSURE_SHARE:
        reasons.append(
            f"in {pressure:.0%} of the measured time some task waited for a CPU core (limit {MAX_PRESSURE_SHARE:.0%})"
        )
    if spread is not None and spread > MAX_SPREAD:
        reasons.append(f"equal actions vary by {spread:.1%} (coefficient of variation; limit {MAX_SPREAD:.0%})")
    known = pressure is not None or spread is not None
    verdict: HostVerdict = "distorted" if reasons else "faithful" if known else "unknown"
    return Validity(verdict, pressure, switches, spread, tuple(reasons))


def disturbance(review: Review) -> str:
    """What shows that the host changed the times of a run without device, of which the host is the device; else empty."""
    on_host = review.kernels is None and review.validity.verdict == "distorted"
    return "; ".join(review.validity.reasons) if on_host else ""


def _pressure(records: pl.DataFrame) -> float | None:
    """Median over steps. The kernel's figure is of the whole machine, so of the ranks the largest counts.

    The kernel brings its figure up to date between readings, so a step may see a little more than its own length.
    """
    duration_us = (pl.col("end_ns") - pl.col("start_ns")) / 1e3
    by_step = (
        records.filter(pl.col("cpu_pressure_us").is_not_null() & (duration_us > 0))
        .group_by("step")
        .agg((pl.col("cpu_pressure_us") / duration_us).max().clip(upper_bound=1.0).alias("share"))
    )
    return _median(by_step["share"])


def _switches(records: pl.DataFrame) -> float | None:
    """Per second and rank, of the worst rank; median over steps."""
    seconds = (pl.col("end_ns") - pl.col("start_ns")) / 1e9
    by_step = (
        records.filter(pl.col("involuntary_switches").is_not_null() & (seconds > 0))
        .group_by("step")
        .agg((pl.col("involuntary_switches") / seconds).max().alias("rate"))
    )
    return _median(by_step["rate"])


def _spread(actions: pl.DataFrame) -> float | None:
    """Largest coefficient of variation among equal actions of one rank that take at least 1 ms.

    Ranks are never compared with each other: a slow one is slow, not disturbed. Where microbatches differ in length
    (variable sequences), they do so on every stage; that is taken out.
    """
    duration = (pl.col("end_ns") - pl.col("start_ns")).cast(pl.Float64)
    kind = ["rank", "stage", "phase"]
    microbatch = [*(["pipeline"] if "pipeline" in actions.columns else []), "step", "phase", "microbatch"]
    relative = actions.with_columns((duration / duration.median().over(kind)).alias("_relative"), duration.alias("_ns"))
    common = pl.when(pl.col("rank").n_unique().over(microbatch) >= _MIN_STAGES).then(
        pl.col("_relative").median().over(microbatch)
    )
    evened = relative.with_columns((pl.col("_ns") / common.fill_null(1.0)).alias("_evened_ns"))
    raw, rest = _largest(evened, "_ns", kind), _largest(evened, "_evened_ns", kind)
    return rest if raw is not None and rest is not None and rest < _EXPLAINED * raw else raw


def _largest(actions: pl.DataFrame, column: str, kind: list[str]) -> float | None:
    kinds = (
        actions.group_by(kind)
        .agg(pl.col(column).std().alias("std"), pl.col(column).mean().alias("mean"), pl.len())
        .filter((pl.col("len") >= 4) & (pl.col("mean") >= 1e6))
        .select(pl.col("std") / pl.col("mean"))
    )
    largest = kinds["std"].max()
    return float(largest) if isinstance(largest, float) else None


def _median(values: pl.Series) -> float | None:
    median = values.median()
    return float(median) if isinstance(median, (int, float)) else None
