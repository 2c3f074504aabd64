"""The one table of a sweep: figures of every point from its review, as a frame and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from instrumented_runs.sweep import DONE, POINTS, point_name, read_record
from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.schema.sweeps import SWEEP_POINTS

WAITING = "waiting"
"""Status of a point that has not been run yet."""
_SHARES = ("bubble_share", "simulated_share", "closed_form_share", "mfu")
_TITLES = {
    "bubble_share": "bubble",
    "simulated_share": "simulated",
    "closed_form_share": "closed form",
    "bubble_minus_simulated": "difference",
    "unprofiled_step_ms": "unprofiled ms",
    "step_ms": "step ms",
    "phase_ms": "phase ms",
    "tokens_per_second": "tokens/s",
    "peak_in_flight": "in flight",
    "peak_saved_bytes": "saved KiB",
    "rank_load_max_over_mean": "load ratio",
    "imbalance_cost_ms": "imbalance ms",
    "num_ranks": "ranks",
}


def sweep_table(
    folder: Path, points: Sequence[Mapping[str, str]], figures: Mapping[str, dict[str, Any]]
) -> pl.DataFrame:
    """One row per point: the swept options, then `SWEEP_POINTS`. `figures` holds the reviewed points by name."""
    axes = dict.fromkeys(points[0], pl.String)
    return pl.DataFrame([_row(folder, values, figures) for values in points], schema={**axes, **SWEEP_POINTS})


def figures_of(run: Path) -> dict[str, Any]:
    """What the table says of one finished run. Raises what `read` raises."""
    analysis = analyze(read(run))
    review = analysis.review
    bubble, experts = review.bubble, review.all_to_all
    theory = bubble.theory if bubble is not None else None
    measured = bubble.measured_share if bubble is not None else None
    simulated = theory.simulated_share if theory is not None else None
    step_ms, tokens = review.step.duration_ms.median, review.mfu.tokens_per_step
    return {
        "num_ranks": review.quality.num_ranks_found,
        "step_ms": step_ms,
        "unprofiled_step_ms": review.step.unprofiled_ms,
        "tokens_per_second": tokens / step_ms * 1e3 if tokens and step_ms else None,
        "bubble_share": measured,
        "simulated_share": simulated,
        "closed_form_share": theory.closed_form_share if theory is not None else None,
        "bubble_minus_simulated": measured - simulated if measured is not None and simulated is not None else None,
        "phase_ms": bubble.phase_ms if bubble is not None else None,
        "rank_load_max_over_mean": experts.rank_load_max_over_mean if experts is not None else None,
        "imbalance_cost_ms": experts.imbalance_cost_ms if experts is not None else None,
        "mfu": review.mfu.mfu,
        "validity": review.validity.verdict,
        **_memory(analysis),
    }


def reviewed(run: Path) -> tuple[dict[str, Any], str | None]:
    """The figures of a run; or none, and why."""
    try:
        return figures_of(run), None
    except TraceAnalyzerError as error:
        return {}, f"the run was not analysed: {error.message}"


def sweep_text(table: pl.DataFrame, axes: Sequence[str]) -> str:
    """The table for a terminal: columns that no point has are left out, shares are percent."""
    filled = [name for name in table.columns if name in axes or not table[name].is_null().all()]
    columns = [name for name in filled if name not in ("run", "reason")]
    titles = [_TITLES.get(name, name) for name in columns]
    rows = [[_cell(name, value) for name, value in row.items()] for row in table.select(columns).iter_rows(named=True)]
    widths = [max(len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if name in axes else cell.rjust(width)
            for name, cell, width in zip(columns, line, widths, strict=True)
        )
        for line in (titles, *rows)
    ]
    missing = table.filter(table["reason"].is_not_null()).select("run", "status", "reason").iter_rows()
    reasons = [f"{run.removeprefix(f'{POINTS}/')} {status}: {reason}" for run, status, reason in missing]
    return "\n".join([*(line.rstrip() for line in lines), *reasons])


def _row(folder: Path, values: Mapping[str, str], figures: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    record, name = read_record(folder, values), point_name(values)
    known = {"status": WAITING} if record is None else {"status": record.status, "reason": record.reason}
    measured = figures.get(name, {}) if record is not None and record.status == DONE else {}
    return {**dict.fromkeys(SWEEP_POINTS), **known, **measured, "run": f"{POINTS}/{name}", **values}


def _memory(analysis: Analysis) -> dict[str, int | None]:
    """What the ranks metered themselves in the profiled steps."""
    records = analysis.tables["step_records"].filter("profiled")
    names = ("peak_in_flight", "peak_saved_bytes")
    return {name: records[name].max() for name in names}  # pyright: ignore[reportReturnType] - integer columns


def _cell(name: str, value: Any) -> str:  # noqa: ANN401 - any column's value
    if value is None:
        return "-"
    if name in _SHARES:
        return f"{value:.2%}"
    if name == "bubble_minus_simulated":
        return f"{100 * value:+.2f}"
    if name == "peak_saved_bytes":
        return f"{value / 1024:.0f}"
    return (
        f"{value:.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )
