"""A matrix of coloured cells with numbers where they fit, lines between groups of columns, and marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import LOSS, NEUTRAL_INK, ink_on

MAX_NUMBERED = 10
"""Columns and rows up to which a cell has room for its number."""
_LETTER = 6.4
"""Pixels of a letter in a cell."""
_FEW_LINES = 4
"""Lines that may be thick."""
_CELL, _LEAST_HEIGHT, _MOST_HEIGHT = 26, 170, 340


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """What a matrix shows."""

    cells: pl.DataFrame
    """row, column: positions; color; text: shown on hover, and in the cell where it fits; name: first line on hover."""
    rows: Sequence[str]
    columns: Sequence[str]
    row_label: str
    column_label: str
    lines: Sequence[int] = ()
    """Positions before which a line is drawn, of rows and columns alike: the first rank of each further host."""
    marked: pl.DataFrame | None = None
    """row, column and word of the cells that stand out."""


def matrix_figure(matrix: Matrix) -> Any:  # noqa: ANN401 - Bokeh
    """The matrix, first row on top."""
    hv = charts.holoviews()
    placed = matrix.cells.select(
        *("color", "text", "name"),
        x=pl.col("column").cast(pl.Float64),
        y=pl.col("row").cast(pl.Float64),
        ink=pl.col("color").map_elements(ink_on, return_dtype=pl.String),
    ).with_columns(left=pl.col("x") - 0.49, right=pl.col("x") + 0.49, top=pl.col("y") - 0.48, bottom=pl.col("y") + 0.48)
    drawing = hv.Rectangles(placed, kdims=["left", "top", "right", "bottom"], vdims=["color", "name", "text"]).opts(
        color="color", line_width=0, tools=["hover"], hover_tooltips=[("", "@name"), ("", "@text")]
    )
    if max(len(matrix.columns), len(matrix.rows)) <= MAX_NUMBERED:
        numbers = hv.Labels(placed, kdims=["x", "y"], vdims=["text", "ink"])
        drawing = drawing * numbers.opts(
            text_color="ink", text_font_size="11px", text_align="center", hooks=[_as_numbers]
        )
    drawing = drawing * _lines(matrix) if matrix.lines else drawing
    if matrix.marked is not None and not matrix.marked.is_empty():
        drawing = drawing * _marks(matrix.marked)
    figure = charts.render(
        drawing,
        height=min(_MOST_HEIGHT, max(_LEAST_HEIGHT, 70 + _CELL * len(matrix.rows))),
        x_label=matrix.column_label,
        y_label=matrix.row_label,
        xlim=(-0.55, len(matrix.columns) - 0.45),
        ylim=(len(matrix.rows) - 0.45, -0.55),
        xticks=_ticks(matrix.columns, _fit(matrix.columns)),
        yticks=_ticks(matrix.rows, _MOST_TICKS),
    )
    longest = max(map(len, placed["text"].to_list()), default=0)
    figure.tags = ["cells", len(matrix.columns), _LETTER * longest + 2]
    return figure


def _as_numbers(plot: Any, _element: Any) -> None:  # noqa: ANN401 - HoloViews
    """Mark the numbers, so that the page's script hides them where the cells are too narrow."""
    plot.handles["glyph_renderer"].tags = ["numbers"]


def _ticks(names: Sequence[str], most: int) -> list[tuple[float, str]]:
    return [(float(at), name) for at, name in enumerate(names)][:: max(1, -(-len(names) // most))]


def _fit(names: Sequence[str]) -> int:
    """Names that stand side by side below the narrowest picture."""
    return max(3, min(_MOST_TICKS, _NARROWEST // (8 * max(map(len, names), default=1) + 8)))


_MOST_TICKS, _NARROWEST = 16, 260


def _lines(matrix: Matrix) -> Any:  # noqa: ANN401 - HoloViews
    across, down = len(matrix.columns) - 0.5, len(matrix.rows) - 0.5
    ends = [(at - 0.5, -0.5, at - 0.5, down) for at in matrix.lines]
    ends += [(-0.5, at - 0.5, across, at - 0.5) for at in matrix.lines]
    return charts.segments(ends).opts(
        color=NEUTRAL_INK, line_width=2 if len(matrix.lines) <= _FEW_LINES else 0.8, hooks=[charts.as_ink]
    )


def _marks(marked: pl.DataFrame) -> Any:  # noqa: ANN401 - HoloViews
    """An outline around each cell that stands out: seen without telling colours apart."""
    frames = marked.select(
        left=pl.col("column") - 0.47,
        top=pl.col("row") - 0.46,
        right=pl.col("column") + 0.47,
        bottom=pl.col("row") + 0.46,
    )
    return (
        charts.holoviews()
        .Rectangles(frames, kdims=["left", "top", "right", "bottom"])
        .opts(fill_alpha=0, line_color=LOSS, line_width=2)
    )
