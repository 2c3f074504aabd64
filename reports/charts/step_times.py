"""Typical steps of several runs side by side, each with its median."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import REFERENCE, SERIES
from reports.page.grids import grid
from reports.page.model import Chart
from traceanalyzer.comparison.record import ComparedRun

MAX_RUNS = 8
_COLORS = (REFERENCE, *SERIES[:-1])


def step_times(runs: Sequence[ComparedRun], chart_id: str) -> Chart | None:
    """Every typical step of the first runs, in its order; None if no run has steps."""
    shown = [run for run in runs if run.steps_ms][:MAX_RUNS]
    if not shown:
        return None
    colors = [_COLORS[at % len(_COLORS)] for at in range(len(shown))]
    return Chart(
        id=chart_id,
        title="Step times, aligned by their order",
        draw=lambda: _draw(shown, colors),
        label="A dot for every typical step of each run, and a line at each run's median.",
        caption="Typical steps only; the dashed lines are the medians.",
        legend=tuple((run.path, color) for run, color in zip(shown, colors, strict=True)),
        numbers=grid(
            f"{chart_id}-numbers",
            "Typical steps",
            shown,
            [
                ("run", lambda run: run.path, None),
                ("job", lambda run: run.subject, None),
                ("steps", lambda run: len(run.steps_ms), "count"),
                ("shortest", lambda run: min(run.steps_ms), "ms"),
                ("median", lambda run: run.step_ns, "ns"),
                ("longest", lambda run: max(run.steps_ms), "ms"),
                ("noise of the median", lambda run: run.noise_ns, "ns"),
            ],
        ),
    )


def _draw(runs: Sequence[ComparedRun], colors: Sequence[str]) -> Any:  # noqa: ANN401
    hv = charts.holoviews()
    longest = max(len(run.steps_ms) for run in runs)
    parts: list[Any] = []
    for run, color in zip(runs, colors, strict=True):
        rows = pl.DataFrame({"x": [float(at) for at in range(1, len(run.steps_ms) + 1)], "y": run.steps_ms})
        dots = hv.Scatter(rows, kdims=["x"], vdims=["y"])
        parts.append(
            dots.opts(size=8, color=color, tools=["hover"], hover_tooltips=[("step", "@x"), ("", "@y{0,0.000} ms")])
        )
        level = (run.step_ns or 0) / 1e6
        parts.append(
            hv.Segments([(0.5, level, longest + 0.5, level)]).opts(line_dash="dashed", line_width=2, color=color)
        )
    values = [ms for run in runs for ms in run.steps_ms]
    room = max(max(values) - min(values), 0.02 * max(values))
    chart = parts[0]
    for part in parts[1:]:
        chart = chart * part
    return charts.render(
        chart,
        height=260,
        x_label="typical step of the run",
        y_label="ms",
        xlim=(0.5, longest + 0.5),
        ylim=(max(0.0, min(values) - 0.3 * room), max(values) + 0.3 * room),
    )
