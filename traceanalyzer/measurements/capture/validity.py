"""Did the machine let the ranks run when they wanted to? A timeline distorted by its host measures the host.

Three signs: CPU pressure (share of the step in which some task waited for a core, from the kernel), involuntary
context switches of the ranks, and the spread of equal actions. Pressure and spread decide; switches are shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

MAX_PRESSURE_SHARE = 0.10
MAX_SPREAD = 0.05
"""Coefficient of variation of equal actions (same stage and phase) over microbatches and steps."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Verdict on the timeline with the figures behind it; None where a figure was not recorded."""

    verdict: str
    """`faithful`, `distorted` or `unknown` (nothing was recorded)."""
    cpu_pressure_share: float | None
    involuntary_switches_per_second: float | None
    action_spread: float | None
    reasons: tuple[str, ...]


def validity(step_records: pl.DataFrame, actions: pl.DataFrame, windows: pl.DataFrame) -> Validity:
    """Judge the measured steps from `STEP_RECORDS`, `STEPS` and the `ACTIONS` of ranks that compute on the host.

    A device's actions vary for reasons of its own; they say nothing about the host.
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
    verdict = "distorted" if reasons else "faithful" if known else "unknown"
    return Validity(verdict, pressure, switches, spread, tuple(reasons))


def _pressure(records: pl.DataFrame) -> float | None:
    """Median over steps. The kernel's figure is of the whole machine, so of the ranks the largest counts."""
    duration_us = (pl.col("end_ns") - pl.col("start_ns")) / 1e3
    by_step = (
        records.filter(pl.col("cpu_pressure_us").is_not_null() & (duration_us > 0))
        .group_by("step")
        .agg((pl.col("cpu_pressure_us") / duration_us).max().alias("share"))
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
    """Largest coefficient of variation among kinds of equal actions that take at least 1 ms."""
    duration = pl.col("end_ns") - pl.col("start_ns")
    kinds = (
        actions.group_by("stage", "phase")
        .agg(duration.std().alias("std"), duration.mean().alias("mean"), pl.len())
        .filter((pl.col("len") >= 4) & (pl.col("mean") >= 1e6))
        .select(pl.col("std") / pl.col("mean"))
    )
    largest = kinds["std"].max()
    return float(largest) if isinstance(largest, float) else None


def _median(values: pl.Series) -> float | None:
    median = values.median()
    return float(median) if isinstance(median, (int, float)) else None
