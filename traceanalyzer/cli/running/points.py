"""The one table of a sweep: figures of every point from its review, as a frame and as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from instrumented_runs.sweep import DONE, POINTS, point_name, read_record
from reports.page.grids import grid
from reports.page.terminal import grid_lines
from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.review.words import Unit, counted, points
from traceanalyzer.schema.sweeps import SWEEP_POINTS

WAITING = "waiting"
"""Status of a point that has not been run yet."""
_COLUMNS: dict[str, tuple[str, Unit]] = {
    "num_ranks": ("ranks", "count"),
    "step_ms": ("step", "ms"),
    "unprofiled_step_ms": ("unprofiled", "ms"),
    "tokens_per_second": ("tokens/s", "number"),
    "bubble_share": ("bubble", "share"),
    "simulated_share": ("simulated", "share"),
    "closed_form_share": ("closed form", "share"),
    "phase_ms": ("phase", "ms"),
    "rank_load_max_over_mean": ("load ratio", "ratio"),
    "imbalance_cost_ms": ("imbalance", "ms"),
    "mfu": ("MFU", "share"),
    "peak_in_flight": ("in flight", "count"),
    "peak_saved_bytes": ("saved", "bytes"),
}
"""Heading and unit of the columns with numbers."""


def sweep_table(
    folder: Path, chosen: Sequence[Mapping[str, str]], figures: Mapping[str, dict[str, Any]]
) -> pl.DataFrame:
    """One row per point: the swept options, then `SWEEP_POINTS`. `figures` holds the reviewed points by name."""
    axes = dict.fromkeys(chosen[0], pl.String)
    return pl.DataFrame([_row(folder, values, figures) for values in chosen], schema={**axes, **SWEEP_POINTS})


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
    """The table for a terminal; columns that no point has are left out."""
    rows = list(table.iter_rows(named=True))
    names = [name for name in table.columns if name not in ("run", "reason")]
    columns = [_column(name, name in axes) for name in names]
    found = grid("sweep", f"{counted(len(rows), 'point')} of the sweep", rows, columns, limit=len(rows), few=len(rows))
    lines = list(grid_lines(found)) if found else []
    missing = table.filter(table["reason"].is_not_null()).select("run", "status", "reason").iter_rows()
    return "\n".join(
        [*lines, *(f"{run.removeprefix(f'{POINTS}/')} {status}: {reason}" for run, status, reason in missing)]
    )


def _column(name: str, is_axis: bool) -> tuple[str, Callable[[dict[str, Any]], Any], Unit | None]:  # noqa: FBT001
    if name == "bubble_minus_simulated":
        return "difference", lambda row: None if row[name] is None else points(row[name]), "number"
    title, unit = (name, None) if is_axis else _COLUMNS.get(name, (name, None))
    return title, lambda row: row[name], unit


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
