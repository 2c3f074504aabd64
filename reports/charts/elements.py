"""HoloViews elements with one look: what every chart but the timeline is made with."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from reports.charts.palette import BUBBLE_PARTS, LOSS, NEUTRAL_INK, REFERENCE, RESULT

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
ROW_HEIGHT = 26
MOST_HEIGHT = 300
"""Pixels that the rows of one chart take at most; many rows become thin."""
MAX_LABELS = 24
"""Rows that have a name."""
LETTER = 7.0
"""Pixels of a letter beside a bar."""
LOSS_OF_SCHEDULE = BUBBLE_PARTS["warm-up"]
"""The bubble that the schedule itself costs: no fault."""
MAX_ROWS = 64
"""Bars of one chart: more rows than this are cut, and the chart says so."""


@functools.cache
def holoviews() -> Any:  # noqa: ANN401 - HoloViews has no types
    """HoloViews with its Bokeh backend. Imported late: it takes seconds, and only a report needs it.

    The plain extension, also in a notebook: the notebook's own writes scripts into the cell that draws first.
    """
    hv: Any = importlib.import_module("holoviews")
    if "holoviews.plotting.bokeh" not in sys.modules:  # else it is loaded already, without what a notebook needs
        hv.util.extension("bokeh", logo=False)
    return hv


def finish(figure: Any) -> Any:  # noqa: ANN401 - Bokeh has no types
    """Give a Bokeh figure the page's look: transparent, page fonts, no logo; colours come from the page's CSS.

    A figure that has it is returned as it is: walking through its models takes time.
    """
    if figure.background_fill_color is None:
        return figure
    figure.background_fill_color = None
    figure.border_fill_color = None
    figure.outline_line_color = None
    figure.min_border_right = 16
    for drawn in figure.center:
        if "text_font" in drawn.properties():
            drawn.text_font = FONT
    for renderer in figure.renderers:
        for glyph in _glyphs(renderer):
            glyph.text_font = {"value": FONT}  # a plain string would be a column's name
    for axis in (*figure.xaxis, *figure.yaxis):
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
        axis.minor_tick_line_color = None
        axis.major_tick_line_color = None
    return figure


def _glyphs(renderer: Any) -> list[Any]:  # noqa: ANN401 - Bokeh
    """Every form of a renderer's text: as it is, selected, not selected, muted, hovered."""
    if "text_font" not in renderer.glyph.properties():
        return []
    forms = (
        renderer.glyph,
        renderer.selection_glyph,
        renderer.nonselection_glyph,
        renderer.muted_glyph,
        renderer.hover_glyph,
    )
    return [form for form in forms if form is not None and not isinstance(form, str)]


def render(element: Any, *, height: int, x_label: str, y_label: str = "", **opts: Any) -> Any:  # noqa: ANN401
    """A HoloViews element as a Bokeh figure as wide as the page, without tools but hovering."""
    hv = holoviews()
    named = {"xlabel": x_label or " ", "ylabel": y_label or " ", "responsive": True, "height": height}
    element = element.opts(toolbar=None, show_legend=False, show_title=False, **named, **opts)
    figure = hv.render(element, backend="bokeh")
    figure.xaxis.axis_label = x_label or None
    figure.yaxis.axis_label = y_label or None
    if opts.get("gridstyle"):
        figure.ygrid.visible = False
    for tool in list(figure.tools):
        if type(tool).__name__ != "HoverTool":
            figure.remove_tools(tool)
    return finish(figure)


def as_ink(plot: Any, _element: Any) -> None:  # noqa: ANN401
    """Mark a drawn element as text or reference line, so that the page's script gives it the theme's ink."""
    plot.handles["glyph"].tags = ["ink"]


def segments(lines: Sequence[tuple[float, float, float, float]]) -> Any:  # noqa: ANN401
    """Lines from (x0, y0) to (x1, y1). As a Polars frame: for plain lists HoloViews would load pandas."""
    frame = pl.DataFrame(list(lines), schema=dict.fromkeys(("x0", "y0", "x1", "y1"), pl.Float64), orient="row")
    return holoviews().Segments(frame)


def rows_height(num_rows: int) -> int:
    """Pixels of some rows of bars."""
    return min(MOST_HEIGHT, ROW_HEIGHT * num_rows)


def time_scale(longest_ms: float) -> tuple[float, str]:
    """What milliseconds are multiplied by for an axis up to `longest_ms`, and the axis's unit."""
    return next(
        (scale, unit)
        for least, scale, unit in ((1e3, 1e-3, "s"), (1.0, 1.0, "ms"), (0.0, 1e3, "µs"))
        if longest_ms >= least
    )


def loss_color(amount: float) -> str:
    """The colour of a bar that makes a step longer, or shorter."""
    return LOSS if amount >= 0 else RESULT


def stacked_bars(
    values: pl.DataFrame,
    rows: Sequence[str],
    colors: Mapping[str, str],
    *,
    x_label: str,
    unit: str,
    x_end: float | None = None,
    reference: tuple[float, str] | None = None,
    ticks: Sequence[tuple[int, float]] = (),
) -> Any:  # noqa: ANN401
    """Horizontal stacked bars of `values` (row: position in `rows`; part: key of `colors`; value ≥ 0).

    Parts are stacked in the order of `colors`; `reference` is a dashed line across all rows with its
    name on top; `ticks` are lines across single rows, (row, value). Hovering shows the value followed by `unit`.
    """
    hv = holoviews()
    placed = _stacked(values, rows, list(colors))
    bars = hv.Rectangles(
        placed, kdims=["start", "below", "end", "above"], vdims=["part", "value", "name"]
    ).opts(
        color="part",
        cmap=dict(colors),
        line_width=0,
        tools=["hover"],
        hover_tooltips=[("", "@name"), ("", "@part"), ("", "@value{0,0.000} " + unit)],
        colorbar=False,
    )  # fmt: skip
    chart = bars
    widest = float(placed["end"].max() or 0.0)  # type: ignore[arg-type] - Float64
    if reference is not None:
        level, text = reference
        line = segments([(level, -0.5, level, len(rows) - 0.5)])
        named = hv.Labels(pl.DataFrame({"x": [level], "y": [-0.78], "text": [text]}), kdims=["x", "y"], vdims=["text"])
        chart = (
            bars
            * line.opts(line_dash="dashed", line_width=2, color=NEUTRAL_INK, hooks=[as_ink])
            * named.opts(text_font_size="12px", text_color=NEUTRAL_INK, text_align="center", hooks=[as_ink])
        )
        widest = max(widest, level)
    if ticks:
        lines = segments([(at, row - 0.45, at, row + 0.45) for row, at in ticks])
        chart = chart * lines.opts(line_width=3, color=NEUTRAL_INK, hooks=[as_ink])
        widest = max(widest, *(at for _, at in ticks))
    return render(
        chart,
        height=(64 if reference is None else 80) + rows_height(len(rows)),
        x_label=x_label,
        xlim=(0, x_end if x_end is not None else 1.1 * max(widest, 1e-9)),
        ylim=(len(rows) - 0.4, -0.6 if reference is None else -1.1),
        yticks=list(enumerate(rows))[:: max(1, -(-len(rows) // MAX_LABELS))],
        show_grid=True,
        gridstyle={"ygrid_line_color": None},
    )


def _stacked(values: pl.DataFrame, rows: Sequence[str], order: Sequence[str]) -> pl.DataFrame:
    """Corners of every part's rectangle, parts of a row one after the other in the order given."""
    return (
        values.with_columns(order=pl.col("part").replace_strict({part: i for i, part in enumerate(order)}))
        .sort("row", "order")
        .with_columns(end=pl.col("value").cum_sum().over("row"))
        .with_columns(start=pl.col("end") - pl.col("value"), below=pl.col("row") - 0.38, above=pl.col("row") + 0.38)
        .filter(pl.col("value") > 0)
        .with_columns(name=pl.col("row").replace_strict(dict(enumerate(rows)), return_dtype=pl.String))
    )


def floating_bars(values: pl.DataFrame, *, x_label: str, x_end: float, x_start: float = 0.0) -> Any:  # noqa: ANN401
    """Horizontal bars from `start` to `end` with a name, a colour and a text at their end: a waterfall.

    The page's script keeps room for the texts, however narrow the figure is: its tags say how many pixels.

    Columns: name, start, end, color, text.
    """
    hv = holoviews()
    names = values["name"].to_list()
    placed = values.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Float64),
        below=pl.col("row").cast(pl.Float64) - 0.36,
        above=pl.col("row").cast(pl.Float64) + 0.36,
        at=pl.max_horizontal("start", "end") + 0.008 * (values["end"].max() - x_start),  # type: ignore[operator] - Float64
    )
    bars = hv.Rectangles(placed, kdims=["start", "below", "end", "above"], vdims=["color", "name", "text"]).opts(
        color="color",
        line_width=0,
        tools=["hover"],
        hover_tooltips=[("", "@name"), ("", "@text")],
    )
    texts = hv.Labels(placed, kdims=["at", "row"], vdims=["text"]).opts(
        text_align="left", text_baseline="middle", text_font_size="12px", text_color=NEUTRAL_INK, hooks=[as_ink]
    )
    figure = render(
        bars * texts,
        height=60 + rows_height(len(names)),
        x_label=x_label,
        xlim=(x_start, x_end),
        ylim=(len(names) - 0.4, -0.6),
        yticks=list(enumerate(names)),
        show_grid=True,
        gridstyle={"ygrid_line_color": None},
    )
    longest = max(map(len, values["text"].to_list()), default=0)
    figure.tags = ["room", max(values["end"].to_list()), LETTER * longest + 12]
    return figure


def points(
    values: pl.DataFrame,
    *,
    x_label: str,
    y_label: str,
    color: str,
    references: Mapping[str, float],
    y_unit: str,
    outliers: pl.DataFrame | None = None,
) -> Any:  # noqa: ANN401
    """Values (columns x, y) as dots, `outliers` as crosses, with horizontal reference lines; the y axis starts at zero."""
    hv = holoviews()
    dots = hv.Scatter(values, kdims=["x"], vdims=["y"]).opts(
        size=9, color=color, tools=["hover"], hover_tooltips=[(x_label, "@x"), ("", "@y{0,0.000} " + y_unit)]
    )
    chart = dots
    if outliers is not None and not outliers.is_empty():
        crosses = hv.Scatter(outliers, kdims=["x"], vdims=["y"])
        chart = chart * crosses.opts(
            size=11,
            marker="x",
            line_width=3,
            color=LOSS,
            tools=["hover"],
            hover_tooltips=[("", "@y{0,0.000} " + y_unit)],
        )
        values = pl.concat([values, outliers])
    low, high = float(values["x"].min()), float(values["x"].max())  # type: ignore[arg-type] - Float64
    for index, level in enumerate(references.values()):
        line = segments([(low - 0.5, level, high + 0.5, level)])
        dash = "dashed" if index == 0 else "dotted"
        chart = chart * line.opts(line_dash=dash, line_width=2, color=REFERENCE)
    top = max([float(values["y"].max()), *references.values()])  # type: ignore[arg-type] - Float64
    ticks = sorted(set(values["x"].to_list()))
    return render(
        chart,
        height=220,
        x_label=x_label,
        y_label=y_label,
        xlim=(low - 0.5, high + 0.5),
        ylim=(0, 1.15 * top or 1.0),
        xticks=[(x, f"{x:.0f}") for x in ticks[:: max(1, len(ticks) // 20)]],
    )
