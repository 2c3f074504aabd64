"""The three figures of the timeline. They are empty but for the busy map: the page's script fills them for the window in view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reports.charts.palette import NEUTRAL_INK, REFERENCE, SEQUENTIAL
from reports.charts.time_axis import AXIS

FRAME = "timeline-frame"
"""The range of the window in view, as strip and map have it."""
LEFT = 112
"""Pixels left of every frame, so that the three figures stand on one axis."""
_TOOLTIP = (
    '<div style="display:grid;grid-template-columns:auto auto;gap:1px 12px;font-size:13px;max-width:460px">'
    '<b style="grid-column:1/3;overflow-wrap:anywhere">@name</b>'
    '<span style="color:var(--soft)">where</span><span>@place</span>'
    '<span style="color:var(--soft)">when</span><span>@when</span>'
    '<span style="color:var(--soft)">duration</span><span>@lasts</span></div>'
)
_SHADES = [f"{SEQUENTIAL[1]}{round(12 + 243 * i / 31):02x}" for i in range(32)]
"""From almost clear to full, so that the page shows through on light and dark alike."""
BARS = ("y", "left", "right", "height", "color", "alpha", "name", "place", "when", "lasts")


@dataclass(frozen=True, slots=True)
class Overview:
    """The busy share of all captured ranks."""

    busy: Any
    """Array of (rows, bins), 0 to 1, first row on top."""
    what: str
    """What busy ranks do."""
    start_ms: float
    end_ms: float
    labels: dict[float, str]
    """Names at some rows."""


def figures(overview: Overview, window_ms: tuple[float, float], height: int, x_label: str) -> tuple[Any, Any, Any]:
    """Strip, map and lanes; `window_ms` is what the lanes open on."""
    from bokeh.models import Range1d  # noqa: PLC0415 - lazy: 0.5 s

    # The axis of the lanes counts from the start of a step. Strip and map count from the start of the page's first one, always, so that
    # another step moves only the frame on them; the page's script keeps frame and axis together.
    seen = Range1d(start=window_ms[0], end=window_ms[1], name=AXIS)
    frame = Range1d(start=window_ms[0], end=window_ms[1], name=FRAME)
    full = Range1d(start=overview.start_ms, end=overview.end_ms)
    return _strip(overview, full, frame), _map(overview, full, frame), _lanes(seen, height, x_label)


def _bare(name: str, height: int, x_range: Any, y_range: Any, **more: Any) -> Any:  # noqa: ANN401 - Bokeh
    from bokeh.plotting import figure  # noqa: PLC0415 - lazy: 0.5 s

    made = figure(
        height=height, x_range=x_range, y_range=y_range, sizing_mode="stretch_width", toolbar_location=None,
        output_backend="canvas", min_border_left=LEFT, min_border_top=2, min_border_bottom=2, **more,
    )  # fmt: skip
    made.name = name
    made.xgrid.visible = made.ygrid.visible = False
    return made


def _navigates(figure: Any, frame: Any) -> None:  # noqa: ANN401 - Bokeh
    """A frame around the window in view, to drag."""
    from bokeh.models import RangeTool  # noqa: PLC0415 - lazy: 0.5 s

    tool = RangeTool(x_range=frame)
    tool.overlay.update(fill_color=NEUTRAL_INK, fill_alpha=0.18, line_color=NEUTRAL_INK, line_alpha=0.9, line_width=1)
    figure.add_tools(tool)


def _strip(overview: Overview, full: Any, frame: Any) -> Any:  # noqa: ANN401 - Bokeh
    """The mean busy share over time."""
    from bokeh.models import ColumnDataSource, FixedTicker, Range1d  # noqa: PLC0415 - lazy: 0.5 s

    made = _bare("timeline-strip", 46, full, Range1d(start=0, end=1.02), tools=[])
    mean = overview.busy.mean(axis=0)
    width = (overview.end_ms - overview.start_ms) / len(mean)
    middles = [overview.start_ms + (i + 0.5) * width for i in range(len(mean))]
    source = ColumnDataSource({"x": middles, "low": [0.0] * len(mean), "high": mean.tolist()})
    made.varea(x="x", y1="low", y2="high", source=source, fill_color=SEQUENTIAL[1], fill_alpha=0.55)
    made.xaxis.visible = False
    made.yaxis.ticker = FixedTicker(ticks=[0, 0.5, 1])
    made.yaxis.major_label_overrides = {0: "0%", 0.5: overview.what, 1: "100%"}
    _navigates(made, frame)
    return made


def map_height(rows: int) -> int:
    """Pixels of the busy map."""
    return min(110, max(26, 9 * rows))


def _map(overview: Overview, full: Any, frame: Any) -> Any:  # noqa: ANN401 - Bokeh
    """Busy share of rank against time."""
    import numpy as np  # noqa: PLC0415 - with Bokeh
    from bokeh.models import ColumnDataSource, FixedTicker, LinearColorMapper, Range1d  # noqa: PLC0415

    rows = len(overview.busy)
    made = _bare("timeline-map", map_height(rows), full, Range1d(start=rows - 0.5, end=-0.5), tools=[])
    busy: Any = overview.busy
    shades: Any = np.asarray(255 * busy + 0.5, dtype=np.uint8)  # rounded
    source = ColumnDataSource({"image": [shades]})
    colors = LinearColorMapper(palette=_SHADES, low=0, high=255)
    made.image(
        image="image",
        x=overview.start_ms,
        y=-0.5,
        dw=overview.end_ms - overview.start_ms,
        dh=rows,
        source=source,
        color_mapper=colors,
    )
    made.xaxis.visible = False
    made.yaxis.ticker = FixedTicker(ticks=list(overview.labels))
    made.yaxis.major_label_overrides = overview.labels
    _navigates(made, frame)
    return made


def _lanes(seen: Any, height: int, x_label: str) -> Any:  # noqa: ANN401 - Bokeh
    from bokeh.models import FixedTicker, HoverTool, PanTool, Range1d, WheelZoomTool  # noqa: PLC0415 - lazy: 0.5 s

    pan, zoom = PanTool(dimensions="width"), WheelZoomTool(dimensions="width", modifiers="ctrl")
    hover = HoverTool(point_policy="follow_mouse", tooltips=_TOOLTIP)
    made = _bare("timeline", height, seen, Range1d(start=1.0, end=-0.6), tools=[pan, zoom, hover], x_axis_label=x_label)
    made.toolbar.active_drag, made.toolbar.active_scroll = pan, zoom
    made.xgrid.visible = True
    made.xaxis.name, made.yaxis.name = "timeline-time", "timeline-ranks"
    made.yaxis.ticker = FixedTicker(ticks=[])
    _add_background(made)
    hover.renderers = [_add_bars(made)]
    _add_marks(made)
    return made


def _source(name: str, columns: tuple[str, ...]) -> Any:  # noqa: ANN401 - Bokeh
    from bokeh.models import ColumnDataSource  # noqa: PLC0415 - lazy: 0.5 s

    return ColumnDataSource({column: [] for column in columns}, name=name)


def _add_background(made: Any) -> None:  # noqa: ANN401 - Bokeh
    """Tracks that idle time shows through, and collectives as bands across their members."""
    made.hbar(
        y="y", left="left", right="right", height=0.88, fill_color=REFERENCE, fill_alpha=0.15, line_color=None,
        source=_source("timeline-tracks", ("y", "left", "right")),
    )  # fmt: skip
    made.quad(
        left="left", right="right", top="top", bottom="bottom", fill_color="color", fill_alpha=0.16, line_color="color",
        line_alpha=0.5, source=_source("timeline-bands", ("left", "right", "top", "bottom", "color")),
    )  # fmt: skip


def _add_bars(made: Any) -> Any:  # noqa: ANN401 - Bokeh
    from bokeh.models import Text  # noqa: PLC0415 - lazy: 0.5 s

    drawn = made.hbar(
        y="y", left="left", right="right", height="height", fill_color="color", fill_alpha="alpha", line_color=None,
        source=_source("timeline-bars", BARS),
    )  # fmt: skip
    glyph = Text(x="x", y="y", text="text", text_color="ink", text_align="center", text_baseline="middle")
    glyph.update(text_font_size="11px")
    made.add_glyph(_source("timeline-numbers", ("x", "y", "text", "ink")), glyph)
    return drawn


def _add_marks(made: Any) -> None:  # noqa: ANN401 - Bokeh
    """Ends of phases, lines from waiting to who is waited for, names of the halves, and the window of a finding."""
    from bokeh.models import BoxAnnotation, Label  # noqa: PLC0415 - lazy: 0.5 s

    for name, dash in (("timeline-ends", "solid"), ("timeline-ideal-ends", "dashed")):
        made.segment(
            x0="x0", x1="x0", y0="y0", y1="y1", line_dash=dash, line_color=REFERENCE, line_width=1.5,
            source=_source(name, ("x0", "y0", "y1")),
        )  # fmt: skip
    lines = _source("timeline-culprits", ("x0", "y0", "x1", "y1", "color"))
    made.segment(x0="x0", x1="x1", y0="y0", y1="y1", line_color="color", line_width=1.6, source=lines)
    made.scatter(x="x1", y="y1", size=7, color="color", source=lines)
    for name in ("timeline-measured-name", "timeline-ideal-name"):
        label = Label(x=4, x_units="screen", y=-0.5, text="", text_baseline="bottom", tags=["ink"], name=name)
        label.update(text_font_size="12px", text_color=NEUTRAL_INK)
        made.add_layout(label)
    box = BoxAnnotation(name="timeline-moment", visible=False, left=0, right=0, level="overlay")
    box.update(fill_color="#e0a800", fill_alpha=0.13, line_color="#c4841d", line_width=2, line_alpha=0.9)
    made.add_layout(box)
