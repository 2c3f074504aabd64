"""Is the capture representative? Asked before anything else is said."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from traceanalyzer.analysis.run import Run
from traceanalyzer.measurements.capture.checks import capture_checks
from traceanalyzer.review import CaptureCheckFigures, StepFigures
from traceanalyzer.review.words import counted
from traceanalyzer.tables import Tables
from traceanalyzer.tables.clocks.alignment import on_one_clock


def capture_figures(run: Run, tables: Tables, step: StepFigures) -> list[CaptureCheckFigures]:
    """Every check of the capture, as the review gives it."""
    checks = capture_checks(
        steps=tables.steps,
        kernels=tables.kernels,
        overhead=on_one_clock(run.traces.recorded.collected(_profiler_work), tables.clocks),
        profiled_ms=step.wall_clock_ms or step.duration_ms.median,
        unprofiled_ms=step.unprofiled_ms,
    )
    return [
        CaptureCheckFigures(check=c.name, passed=c.passed, value=c.value, limit=c.limit, text=c.text) for c in checks
    ]


def _profiler_work(events: pl.DataFrame) -> pl.DataFrame:
    """What the profiler recorded of its own work: `rank`, `start_ns`, `end_ns`."""
    own = events.filter((pl.col("category") == "overhead") & (pl.col("ph") == "X"))
    return own.select("rank", "start_ns", (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))


def representative(checks: Sequence[CaptureCheckFigures]) -> bool | None:
    """False if any check failed, None if none could be made."""
    outcomes = [check.passed for check in checks if check.passed is not None]
    return all(outcomes) if outcomes else None


def capture_sentence(checks: Sequence[CaptureCheckFigures]) -> str:
    """The verdict in one sentence."""
    failed = [check.text for check in checks if check.passed is False]
    unknown = [check.check.replace("_", " ") for check in checks if check.passed is None]
    made = len(checks) - len(unknown)
    beside = f"; not known: {', '.join(unknown)}" if unknown else ""
    if failed:
        return f"This capture is not representative: {'; '.join(failed)}."
    if not made:
        return "Whether the capture is representative is not known: no step of it was measured."
    return f"The capture passes {made} of {counted(len(checks), 'check')}{beside}."
