"""Load over mean around 1: the chart of ranks and of experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import DIVERGING, NEUTRAL_INK, REFERENCE

_WORDS = 12
"""Words that stand side by side above the bars of the narrowest picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """How evenly token copies arrive at the places of one kind."""

    word: str
    """rank or expert."""
    ratios: pl.DataFrame
    """One row per place: place, mean, low, high; 1 is an even share."""
    chance: float
    """Half width of the band that even, independent choice gives one place in one layer of one step."""
    copies: int
    """Token copies per layer and step."""
    num_samples: int
    """Layers times steps."""


def _apart(hot: pl.DataFrame, least: float) -> pl.DataFrame:
    """The fullest of the hot places that stand at least so far from each other: their marks do not touch."""
    kept: list[float] = []
    for at in hot.sort("mean", descending=True)["at"].to_list():
        if all(abs(at - other) >= least for other in kept):
            kept.append(at)
    return hot.filter(pl.col("at").is_in(kept))


def load_figure(loads: Loads) -> Any:  # noqa: ANN401 - Bokeh
    """Bars from 1 to each place's mean load, whiskers of its range, and the band of chance."""
    hv = charts.holoviews()
    place = pl.col("place").cast(pl.Float64)
    frame = loads.ratios.with_columns(
        name=pl.format(f"{loads.word} {{}}", "place"),
        at=place,
        left=place - 0.36,
        right=place + 0.36,
        below=pl.min_horizontal(pl.col("mean"), pl.lit(1.0)),
        above=pl.max_horizontal(pl.col("mean"), pl.lit(1.0)),
        color=pl.when(pl.col("mean") - 1 > loads.chance)
        .then(pl.lit(DIVERGING[1]))
        .when(1 - pl.col("mean") > loads.chance)
        .then(pl.lit(DIVERGING[0]))
        .otherwise(pl.lit(REFERENCE)),
    )
    first, last = min(frame["at"].to_list()) - 0.6, max(frame["at"].to_list()) + 0.6
    edges = {"x0": [first], "y0": [1 - loads.chance], "x1": [last], "y1": [1 + loads.chance]}
    band = hv.Rectangles(pl.DataFrame(edges)).opts(color=REFERENCE, alpha=0.22, line_width=0)
    even = charts.segments([(first, 1.0, last, 1.0)]).opts(color=NEUTRAL_INK, line_width=1, hooks=[charts.as_ink])
    bars = hv.Rectangles(
        frame, kdims=["left", "below", "right", "above"], vdims=["color", "name", "mean", "low", "high"]
    ).opts(
        color="color",
        line_width=0,
        tools=["hover"],
        hover_tooltips=[("", "@name"), ("mean", "@mean{0.000}×"), ("range", "@low{0.000}× to @high{0.000}×")],
    )  # fmt: skip
    whiskers = hv.Segments(frame.select("at", "low", pl.col("at").alias("same"), "high")).opts(
        color=NEUTRAL_INK, line_width=1.5, hooks=[charts.as_ink]
    )
    hot = _apart(frame.filter(pl.col("mean") - 1 > loads.chance), (last - first) / _WORDS)
    named = hv.Labels(hot.select("at", "high", text=pl.lit("hot")), kdims=["at", "high"], vdims=["text"]).opts(
        text_baseline="bottom", text_font_size="11px", text_color=NEUTRAL_INK, hooks=[charts.as_ink]
    )
    drawing = band * bars * even * whiskers
    places = loads.ratios["place"].to_list()
    return charts.render(
        drawing if hot.is_empty() else drawing * named,
        height=270,
        x_label=loads.word,
        y_label="load ÷ mean",
        xlim=(first, last),
        ylim=(0, 1.14 * max(*frame["high"].to_list(), 1 + loads.chance)),
        xticks=[(float(p), str(p)) for p in places[:: max(1, -(-len(places) // 10))]],
    )
