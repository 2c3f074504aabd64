"""Figures with ranks as rows and time along x: what the timelines share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

NS_PER_MS = 1e6
AXIS = "timeline-x"
"""Name of the one time axis of the page: buttons and keys move it, and every timeline with it."""
MAX_LABELLED_ROWS = 24
ROW_PIXELS = 26


def median_step(windows: pl.DataFrame, apart: Collection[int] = ()) -> int:
    """The step (of step, start_ns, end_ns) that lasts the lower median: the most ordinary one, none set `apart` if others are here."""
    typical = windows.filter(~pl.col("step").is_in(list(apart)))
    ordered = (windows if typical.is_empty() else typical).sort(pl.col("end_ns") - pl.col("start_ns"), "step")
    return int(ordered["step"][(len(ordered) - 1) // 2])


def view(start_ms: float, end_ms: float) -> tuple[float, float]:
    """The x range that shows a window with a margin."""
    width = max(end_ms - start_ms, 1e-6)
    return start_ms - 0.015 * width, end_ms + 0.025 * width


def source_of(frame: pl.DataFrame, columns: Sequence[str], name: str | None = None) -> Any:  # noqa: ANN401 - Bokeh
    """A Bokeh data source of some columns: numbers as packed arrays, text as lists."""
    from bokeh.models import ColumnDataSource  # noqa: PLC0415 - lazy: 0.5 s

    packed: dict[str, Any] = {
        column: frame[column].to_list() if frame[column].dtype == pl.String else frame[column].to_numpy()
        for column in columns
    }
    return ColumnDataSource(data=packed, name=name)


def name_rows(num_rows: int) -> float:
    """Rows that a line of text is high in a figure of `num_rows`: 1 until rows become thin."""
    return max(1.0, num_rows / 32)


def time_figure(
    name: str,
    window_ms: tuple[float, float],
    rank_of_row: Mapping[float, int],
    *,
    x_label: str,
    tooltips: Sequence[tuple[str, str]],
    beside: Any = None,  # noqa: ANN401 - Bokeh
    named: bool = False,
) -> Any:  # noqa: ANN401 - Bokeh
    """An empty figure called `name` with row 0 on top, on the page's time axis.

    `beside` is a figure to share that axis with; `named` leaves room for a line of text above row 0.
    Dragging pans; the wheel zooms only with Ctrl (or as a pinch), so that scrolling the page stays scrolling.
    """
    from bokeh.models import FixedTicker, HoverTool, PanTool, Range1d, WheelZoomTool  # noqa: PLC0415 - lazy: 0.5 s
    from bokeh.plotting import figure  # noqa: PLC0415

    last_row = max(rank_of_row, default=0)
    pan = PanTool(dimensions="width")
    zoom = WheelZoomTool(dimensions="width", modifiers="ctrl")
    chart: Any = figure(
        x_range=beside.x_range if beside else Range1d(start=window_ms[0], end=window_ms[1], name=AXIS),
        y_range=Range1d(start=last_row + 0.75, end=-0.5 - (name_rows(len(rank_of_row)) * 0.85 if named else 0.2)),
        height=int(min(780, max(150, 60 + ROW_PIXELS * (last_row + 2)))),
        sizing_mode="stretch_width",
        tools=[pan, zoom, HoverTool(point_policy="follow_mouse", tooltips=_tooltip(tooltips))],
        toolbar_location=None,
        active_drag=pan,
        active_scroll=zoom,
        x_axis_label=x_label,
        output_backend="canvas",
    )
    chart.name = name
    labels = _row_labels(rank_of_row)
    chart.yaxis.ticker = FixedTicker(ticks=list(labels))
    chart.yaxis.major_label_overrides = labels
    chart.ygrid.visible = False
    return chart


def _tooltip(rows: Sequence[tuple[str, str]]) -> str:
    """Names and columns as a small table in the page's colours. Columns hold numbers and our own words, no text of data."""
    cells = "".join(f'<span style="color:var(--soft)">{name}</span><span>{column}</span>' for name, column in rows)
    return f'<div style="display:grid;grid-template-columns:auto auto;gap:1px 12px;font-size:13px">{cells}</div>'


def _row_labels(rank_of_row: Mapping[float, int]) -> dict[float, str]:
    ranks = sorted(set(rank_of_row.values()))
    every = max(1, -(-len(rank_of_row) // (2 * MAX_LABELLED_ROWS)))
    labelled = set(ranks[::every])
    return {row: f"rank {rank}" for row, rank in rank_of_row.items() if rank in labelled}
