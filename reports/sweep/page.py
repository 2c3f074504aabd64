"""The page of a sweep: what the points reach, measured over theory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from reports.page.grids import grid
from reports.page.model import Chart, Grid, Page, Section, Tile
from reports.sweep.charts import METRICS, along_chart, numeric_axes, rows_chart
from traceanalyzer.review.words import Unit, counted, digits, milliseconds, percent
from traceanalyzer.schema.sweeps import SWEEP_POINTS

_COLUMNS: tuple[tuple[str, str, Unit], ...] = (
    ("num_ranks", "ranks", "count"),
    ("step_ms", "step", "ms"),
    ("tokens_per_second", "tokens/s", "number"),
    ("bubble_share", "bubble", "share"),
    ("simulated_share", "simulated", "share"),
    ("closed_form_share", "closed form", "share"),
    ("rank_load_max_over_mean", "load ratio", "ratio"),
    ("imbalance_cost_ms", "imbalance", "ms"),
    ("mfu", "MFU", "share"),
    ("peak_saved_bytes", "saved", "bytes"),
)


def sweep_page(table: pl.DataFrame, name: str) -> Page:
    """Everything that the points of a sweep tell; `table` has one text column per swept option, then `SWEEP_POINTS`."""
    axes = [column for column in table.columns if column not in SWEEP_POINTS]
    done = table.filter(pl.col("status") == "done")
    charts = tuple(_charts(done, axes))
    sections = [
        Section(
            id="measured",
            title="Measured over theory",
            parts=charts,
            lead="Every dot is a job that was run and analysed; theory never saw the measurement." if charts else "",
            absent="" if charts else "Fewer than two points were measured.",
        ),
        Section(id="points", title="Points", parts=tuple(part for part in (_grid(table, axes),) if part)),
    ]
    missing = table.filter(pl.col("status") != "done").select("run", "status", "reason").iter_rows()
    return Page(
        title="Sweep",
        subject=f"{name} · {', '.join(f'{axis}: {_values(table, axis)}' for axis in axes)}",
        warnings=tuple(f"{run.removeprefix('points/')} {status}: {reason}" for run, status, reason in missing),
        verdict=tuple(_verdict(done, len(table), axes)),
        tiles=tuple(_tiles(done, axes)),
        sections=tuple(sections),
        footer="Measured by runs of this sweep; simulated with equal stages, free transfer and no delays.",
    )


def _values(table: pl.DataFrame, axis: str) -> str:
    found = table[axis].unique(maintain_order=True).to_list()
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")


def _name(row: dict[str, Any], axes: Sequence[str]) -> str:
    return ", ".join(str(row[axis]) if axis == "schedule" else f"{axis} {row[axis]}" for axis in axes)


def _tied(known: pl.DataFrame, name: str, axes: Sequence[str]) -> str:
    """The first point's name, and those of the points that are equal to it within a hundredth."""
    first = known[name][0]
    equal = known.filter((pl.col(name) - first).abs() <= 0.01 * abs(first)).head(4)
    names = [_name(row, axes) for row in equal.iter_rows(named=True)]
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} and {names[-1]} alike"


def _verdict(done: pl.DataFrame, num: int, axes: Sequence[str]) -> list[str]:
    if done.is_empty():
        return [f"None of {counted(num, 'job')} was measured."]
    said: list[str] = []
    known = done.drop_nulls("bubble_share").sort("bubble_share")
    if len(known):
        least, most = known["bubble_share"][0], known["bubble_share"][-1]
        said.append(
            f"The smallest bubble is {percent(least)} of the pipeline phase ({_tied(known, 'bubble_share', axes)}), the largest "
            f"{percent(most)} ({_tied(known.reverse(), 'bubble_share', axes)})."
        )
    loads = done.drop_nulls("imbalance_cost_ms").sort("imbalance_cost_ms")
    if len(loads) and not len(known):
        least, most = loads["imbalance_cost_ms"][0], loads["imbalance_cost_ms"][-1]
        said.append(
            f"Imbalance costs from {milliseconds(least)} per step ({_tied(loads, 'imbalance_cost_ms', axes)}) to "
            f"{milliseconds(most)} ({_tied(loads.reverse(), 'imbalance_cost_ms', axes)})."
        )
    apart = done.drop_nulls("bubble_minus_simulated").sort(pl.col("bubble_minus_simulated").abs())
    if len(apart):
        far = apart.row(-1, named=True)
        said.append(
            f"Measured and simulated bubbles differ by at most {digits(abs(100 * far['bubble_minus_simulated']))} points of the phase "
            f"({_name(far, axes)})."
        )
    if len(done) < num:
        said.append(f"{len(done)} of {counted(num, 'job')} were measured.")
    return said or [f"{counted(len(done), 'job')} measured."]


def _tiles(done: pl.DataFrame, axes: Sequence[str]) -> list[Tile]:
    known = done.drop_nulls("step_ms").sort("step_ms")
    if known.is_empty():
        return []
    fastest, slowest = known.row(0, named=True), known.row(-1, named=True)
    return [
        Tile(id="fastest", title="Shortest step", value=milliseconds(fastest["step_ms"]), theory=_name(fastest, axes)),
        Tile(id="slowest", title="Longest step", value=milliseconds(slowest["step_ms"]), theory=_name(slowest, axes)),
    ]


def _charts(done: pl.DataFrame, axes: Sequence[str]) -> list[Chart]:
    """For each known metric its points along every swept number, and by point where something else was swept."""
    found: list[Chart | None] = []
    along = numeric_axes(done, axes) if len(done) else []
    for metric in METRICS:
        if done[metric.measured].drop_nulls().is_empty():
            continue
        found += [along_chart(done, axes, axis, metric) for axis in along]
        if len(along) < len([axis for axis in axes if done[axis].n_unique() > 1]) and metric.theory:
            found.append(rows_chart(done, axes, metric))
    return [chart for chart in found if chart is not None]


def _grid(table: pl.DataFrame, axes: Sequence[str]) -> Grid | None:
    rows = list(table.iter_rows(named=True))

    def taken(name: str) -> Callable[[dict[str, Any]], Any]:
        return lambda row: row[name]

    columns: list[tuple[str, Callable[[dict[str, Any]], Any], Unit | None]] = [
        (axis, taken(axis), None) for axis in axes
    ]
    columns.append(("status", taken("status"), None))
    columns.extend((title, taken(name), unit) for name, title, unit in _COLUMNS)
    return grid("sweep-points", counted(len(rows), "point"), rows, columns, limit=60, csv="sweep")
