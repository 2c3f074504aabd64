"""The choice between schedules: bubble against memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.charts.elements import as_ink, holoviews, render
from reports.charts.palette import NEUTRAL_INK, PHASES, RESULT
from reports.page.model import Chart
from traceanalyzer.theory.prediction.comparison import Prediction

_PIXELS = (1100, 330)
"""Room for the picture on a page of full width."""
_FAR = 2.5
"""A bubble of so many times the median one goes beyond the axis."""
Box = tuple[float, float, float, float]
"""Left, right, bottom, top."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name stands."""

    x: float
    y: float
    text: str
    align: str


def bubble_and_memory(predictions: Sequence[Prediction]) -> Chart:
    """Every schedule by the most microbatches in flight on a rank and its bubble; schedules at one place share a name."""
    placed = _placed(predictions)
    bubbles = placed["bubble"].to_list()
    beyond = max(bubbles) > _cap(bubbles)
    return Chart(
        id="choice",
        draw=lambda: _figure(placed),
        title="Bubble against memory",
        label="Every schedule: bubble share over the most activations in flight on a rank.",
        caption="Further left needs less memory, further down idles less. Green: no other schedule needs less of the one "
        f"without more of the other.{' ↑: beyond the axis, so that it does not hide the others.' if beyond else ''}",
        legend=(("a choice", RESULT), ("another is no worse in either", PHASES["F"])),
    )


def _placed(predictions: Sequence[Prediction]) -> pl.DataFrame:
    """held, bubble (percent), name, best (nothing else is at least as good in both), one row per place."""
    rows = [(max(p.peak_in_flight), 100 * p.simulation.bubble_share, p.title) for p in predictions]
    frame = pl.DataFrame(rows, schema={"held": pl.Float64, "bubble": pl.Float64, "name": pl.String}, orient="row")
    frame = frame.with_columns(pl.col("held").round(3), pl.col("bubble").round(2))
    together = frame.group_by("held", "bubble", maintain_order=True).agg(pl.col("name"))
    places = list(together.select("held", "bubble").iter_rows())
    best = [
        not any(h <= held and b <= bubble and (h, b) != (held, bubble) for h, b in places) for held, bubble in places
    ]
    return together.with_columns(pl.col("name").list.join(", "), best=pl.Series(best, dtype=pl.Boolean)).sort(
        "held", "bubble"
    )


def _cap(bubbles: Sequence[float]) -> float:
    """Where the axis ends: at the largest bubble, but at most at twice the median one."""
    ordered = sorted(bubbles)
    usual = ordered[(len(ordered) - 1) // 2]
    return max(2 * usual if ordered[-1] > _FAR * usual else ordered[-1], 1e-3)


def _labels(xs: Sequence[float], ys: Sequence[float], names: Sequence[str], size: tuple[float, float]) -> list[Place]:
    """A place for every name beside its dot that covers no dot and no other name, if there is one; `size` is of the axes."""
    letter, line = 7.2 / _PIXELS[0] * size[0], 17 / _PIXELS[1] * size[1]
    taken = [(x - letter, x + letter, y - 0.45 * line, y + 0.45 * line) for x, y in zip(xs, ys, strict=True)]
    placed = list[Place]()

    def inside(box: Box) -> bool:
        return box[0] > min(xs) - 0.05 * size[0] and box[1] < min(xs) + 0.95 * size[0]

    for x, y, name in zip(xs, ys, names, strict=True):
        options = [(side, y + up * line) for up in (0.0, 0.8, -0.8, 1.7, -1.7, 2.6) for side in (1, -1)]
        boxes = [(_box(x, side, at, letter, line, len(name)), side, at) for side, at in options]
        free = [each for each in boxes if not any(_meet(each[0], other) for other in taken) and inside(each[0])]
        box, side, at = (free or boxes)[0]
        taken.append(box)
        placed.append(Place(x + 1.3 * side * letter, at, name, "left" if side > 0 else "right"))
    return placed


def _box(x: float, side: int, y: float, letter: float, line: float, length: int) -> Box:
    ends = sorted((x + 1.2 * side * letter, x + side * letter * (1.3 + length)))
    return ends[0], ends[1], y - 0.5 * line, y + 0.5 * line


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _figure(placed: pl.DataFrame) -> Any:  # noqa: ANN401 - Bokeh
    hv = holoviews()
    cap = _cap(placed["bubble"].to_list())
    high = pl.col("bubble") > cap
    colored = placed.with_columns(
        color=pl.when("best").then(pl.lit(RESULT)).otherwise(pl.lit(PHASES["F"])),
        shown=pl.min_horizontal("bubble", pl.lit(cap)),
        text=pl.when(high).then(pl.concat_str("name", pl.lit(": "), pl.col("bubble").round(0).cast(pl.Int64), pl.lit("% ↑"))).otherwise("name"),
    )  # fmt: skip
    dots = hv.Scatter(colored, kdims=["held"], vdims=["shown", "bubble", "name", "color"]).opts(
        color="color", size=11, tools=["hover"],
        hover_tooltips=[("", "@name"), ("in flight", "@held{0,0.##}"), ("bubble", "@bubble{0,0.0}%")],
    )  # fmt: skip
    xs, ys = colored["held"].to_list(), colored["shown"].to_list()
    low, wide = min(xs), max(max(xs) - min(xs), 0.2 * max(xs))
    drawing = dots
    labels = _labels(xs, ys, colored["text"].to_list(), (1.12 * wide, 1.15 * cap))
    for align in ("left", "right"):
        some = [(each.x, each.y, each.text) for each in labels if each.align == align]
        if some:
            texts = hv.Labels(some, kdims=["x", "y"], vdims=["text"]).opts(
                text_align=align,
                text_baseline="middle",
                text_font_size="12px",
                text_color=NEUTRAL_INK,
                hooks=[as_ink, _as_names],
            )
            drawing = drawing * texts
    figure = render(
        drawing, height=_PIXELS[1] + 70, x_label="most microbatches in flight on a rank", y_label="bubble, % of phase",
        xlim=(low - 0.06 * wide, low + 1.06 * wide), ylim=(0, 1.15 * cap),
    )  # fmt: skip
    figure.tags = ["dots", 0.55 * _PIXELS[0]]
    return figure


def _as_names(plot: Any, _element: Any) -> None:  # noqa: ANN401 - HoloViews
    """Mark the names, so that the page's script hides them where the picture is too narrow for their places."""
    plot.handles["glyph_renderer"].tags = ["names"]
