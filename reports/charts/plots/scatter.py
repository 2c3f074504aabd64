"""Dots on logarithmic axes with lines of theory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import REFERENCE

_ROOM = 1.6
"""Factor of free space beyond the outermost dots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """What a scatter shows."""

    dots: pl.DataFrame
    """x, y (> 0), kind, and what is shown on hover: name, text."""
    colors: Mapping[str, str]
    """Colour of each kind."""
    x_label: str
    y_label: str
    lines: Sequence[Sequence[tuple[float, float]]] = field(default_factory=tuple)
    """Lines of theory, as points."""
    dashed: bool = False
    least: float = 0.0
    """Dots lower than this are drawn at this height, as triangles: far outliers would press the others together."""


def scatter_figure(scatter: Scatter) -> Any:  # noqa: ANN401 - Bokeh
    """The dots over their lines."""
    hv = charts.holoviews()
    drawing: Any = None
    for line in scatter.lines:
        curve = hv.Curve(pl.DataFrame(list(line), schema=["x", "y"], orient="row"), kdims=["x"], vdims=["y"]).opts(
            color=REFERENCE, line_width=2, line_dash="dashed" if scatter.dashed else "solid"
        )
        drawing = curve if drawing is None else drawing * curve
    for kind, color in scatter.colors.items():
        own = scatter.dots.filter(pl.col("kind") == kind)
        inside = own.filter(pl.col("y") >= scatter.least)
        below = own.filter(pl.col("y") < scatter.least).with_columns(y=pl.lit(scatter.least))
        for some, marker in ((inside, "circle"), (below, "inverted_triangle")):
            if some.is_empty():
                continue
            dots = hv.Scatter(some, kdims=["x"], vdims=["y", "name", "text"]).opts(
                size=8, color=color, alpha=0.85, line_color=None, marker=marker, tools=["hover"],
                hover_tooltips=[("", "@name"), ("", "@text")],
            )  # fmt: skip
            drawing = dots if drawing is None else drawing * dots
    across, up = _bounds(scatter, 0), _bounds(scatter, 1)
    return charts.render(
        drawing,
        height=270,
        x_label=scatter.x_label,
        y_label=scatter.y_label,
        logx=True,
        logy=True,
        xlim=across,
        ylim=up,
        xticks=ticks(*across),
        yticks=ticks(*up),
        show_grid=True,
    )


def _bounds(scatter: Scatter, axis: int) -> tuple[float, float]:
    values = scatter.dots["xy"[axis]].to_list()
    values += [point[axis] for line in scatter.lines for point in line]
    if axis == 1:
        values = [max(value, scatter.least) for value in values]
    return min(values) / _ROOM, max(values) * _ROOM


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Marks of a logarithmic axis, at most eight: 1, 2 and 5 of each decade where few decades are shown, else decades."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors, every in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 3)):
        marks = [factor * 10.0**decade for decade in decades for factor in factors if decade % every == 0]
        shown = [mark for mark in marks if low <= mark <= high]
        if len(shown) <= _MOST_MARKS:
            break
    if len(shown) < _LEAST_MARKS:
        rough = (high - low) / 4
        step = next(f * 10.0 ** floor(log10(rough)) for f in (1, 2, 5, 10) if f * 10.0 ** floor(log10(rough)) >= rough)
        shown = [step * at for at in range(ceil(low / step), floor(high / step) + 1)]
        return [(mark, f"{mark:,.6g}") for mark in shown]
    return [(mark, _mark(mark)) for mark in shown]


_LEAST_MARKS, _MOST_MARKS = 3, 8
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _mark(value: float) -> str:
    """The number as one reads it; powers of ten where that is long."""
    power = round(log10(value))
    if -3 <= power <= 4:
        return f"{value:,.10g}"
    factor = round(value / 10.0 ** floor(log10(value) + 1e-9))
    power = floor(log10(value) + 1e-9)
    return f"{'' if factor == 1 else f'{factor}·'}10{str(power).translate(_SUPERSCRIPT)}"
