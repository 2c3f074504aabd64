"""Dots on logarithmic axes with lines of theory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        if own.is_empty():
            continue
        dots = hv.Scatter(own, kdims=["x"], vdims=["y", "name", "text"]).opts(
            size=8, color=color, alpha=0.85, line_color=None, tools=["hover"],
            hover_tooltips=[("", "@name"), ("", "@text")],
        )  # fmt: skip
        drawing = dots if drawing is None else drawing * dots
    return charts.render(
        drawing,
        height=270,
        x_label=scatter.x_label,
        y_label=scatter.y_label,
        logx=True,
        logy=True,
        xlim=_bounds(scatter, 0),
        ylim=_bounds(scatter, 1),
        show_grid=True,
    )


def _bounds(scatter: Scatter, axis: int) -> tuple[float, float]:
    values = scatter.dots["xy"[axis]].to_list()
    values += [point[axis] for line in scatter.lines for point in line]
    return min(values) / _ROOM, max(values) * _ROOM
