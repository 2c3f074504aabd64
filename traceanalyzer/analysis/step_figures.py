"""Step time of a run: the typical steps, those set apart and their price, and the noise of the median."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import polars as pl
from msgspec.structs import replace

from traceanalyzer.analysis.first_screen.story import least_reported_ms
from traceanalyzer.analysis.run import Run
from traceanalyzer.measurements.capture.noise import step_noise
from traceanalyzer.measurements.efficiency.mfu import median_step, step_durations, wall_clock_step_ns
from traceanalyzer.review import Finding, Mfu, StepApart, StepDuration, StepFigures
from traceanalyzer.review.words import counted, milliseconds
from traceanalyzer.tables import Tables
from traceanalyzer.tables.steps.typical import PRICED, outliers, step_lengths

_MOST_NAMED = 8
_SURE = 2
"""Slow steps beyond which their distance is a period."""


def step_figures(tables: Tables, captured: Tables, run: Run) -> StepFigures:
    """Figures of the typical steps (`tables`) among all that were captured."""
    lengths = step_durations(tables.steps)["duration_ns"]
    durations = lengths / 1e6
    shown = median_step(tables.steps) if len(durations) else None
    median = shown.duration_ns / 1e6 if shown else None
    wall = wall_clock_step_ns(run.step_records, shown.step) if shown else None
    noise, apart = step_noise(lengths.to_list()), _apart(captured.steps, median)
    excess = [each.excess_ms for each in apart if each.excess_ms is not None]
    whole = [*durations.to_list(), *(each.duration_ms for each in apart if each.excess_ms is not None)]

    def quantile(share: float) -> float | None:
        return durations.quantile(share, "linear") if len(durations) else None

    return StepFigures(
        duration_ms=StepDuration(
            median=median,
            p05=quantile(0.05),
            p95=quantile(0.95),
            values=durations.to_list(),
            num_steps=len(durations),
        ),
        open_end=bool(tables.steps["open_end"].any()),
        unprofiled_ms=run.job.unprofiled_step_ms if run.job else None,
        wall_clock_ms=wall / 1e6 if wall is not None else None,
        basis=captured.step_basis.name,
        basis_conflict=captured.step_basis.conflict,
        before_ms=captured.step_basis.before_ns / 1e6 or None,
        after_ms=captured.step_basis.after_ns / 1e6 or None,
        num_captured=captured.steps["step"].n_unique(),
        noise_ms=noise.half_width_ns / 1e6 if noise else None,
        noise_basis=noise.basis if noise else None,
        least_reported_ms=least_reported_ms(median, noise.half_width_ns / 1e6 if noise else None),
        set_apart=apart,
        set_apart_cost_ms=sum(excess) / len(whole) if excess else None,
        mean_all_ms=sum(whole) / len(whole) if whole else None,
    )


def _apart(windows: pl.DataFrame, median_ms: float | None) -> list[StepApart]:
    reasons = windows.filter(pl.col("set_apart").is_not_null()).select("step", "set_apart").unique("step")
    rows = step_lengths(windows).select("step", "duration_ns").join(reasons, on="step").sort("step")
    return [
        StepApart(
            step=step,
            duration_ms=ns / 1e6,
            reason=reason,
            excess_ms=ns / 1e6 - median_ms if median_ms is not None and reason in PRICED else None,
        )
        for step, ns, reason in rows.iter_rows()
    ]


def with_rates(mfu: Mfu, step: StepFigures) -> Mfu:
    """Tokens per second of the typical step, and over all whole steps; none where it is not clear what a step is."""
    tokens, median = mfu.tokens_per_step, step.duration_ms.median
    if not tokens or not median or not step.mean_all_ms or step.basis is None or step.basis_conflict is not None:
        return mfu
    return replace(
        mfu,
        tokens_per_second=tokens / median * 1e3,
        tokens_per_second_all_steps=tokens / step.mean_all_ms * 1e3,
    )


def step_warnings(step: StepFigures) -> list[str]:
    """What must be known before any figure per step."""
    return [] if step.basis_conflict is None else [f"What is a step is not clear: {step.basis_conflict}."]


def step_findings(step: StepFigures, captured: Tables) -> Iterator[Finding]:
    """Steps that take longer at a fixed distance, as checkpoints, garbage collection and evaluation make them."""
    median, lengths = step.duration_ms.median, step_lengths(captured.steps)
    if median is None:
        return
    slow = outliers(lengths).filter(pl.col("duration_ns") > median * 1e6).sort("step")
    whole = lengths.filter(pl.col("reason").is_null())["step"].to_list()
    period = _period(slow["step"].to_list(), whole)
    if period is None:
        return
    excess = [ns / 1e6 - median for ns in slow["duration_ns"]]
    longer = milliseconds(sum(excess) / len(excess))
    yield Finding(
        id="steps.periodic",
        title=f"One step in {period} takes longer"
        if len(excess) > _SURE
        else f"Two steps, {period} apart, take longer",
        passed=False,
        worth_ms=sum(excess) / len(whole),
        worth_mfu_points=None,
        evidence=(
            f"{_steps(slow['step'].to_list())} of {counted(len(whole), 'step')} last {longer} longer than the median of "
            f"{milliseconds(median)}"
        ),
        action="look at what runs in these steps: checkpoints, garbage collection and evaluation come at a fixed distance",
    )


def _period(slow: Sequence[int], whole: Sequence[int]) -> int | None:
    """The distance of these steps, if it is one and none is missing before, between and after them."""
    distances = {b - a for a, b in pairwise(slow)}
    if len(distances) != 1:
        return None
    distance = distances.pop()
    missing = slow[0] - distance >= min(whole) or slow[-1] + distance <= max(whole)
    return distance if distance > 1 and not missing else None


def _steps(steps: Sequence[int]) -> str:
    more = f", … ({len(steps)} steps)" if len(steps) > _MOST_NAMED else ""
    return f"steps {', '.join(map(str, steps[:_MOST_NAMED]))}{more}"
