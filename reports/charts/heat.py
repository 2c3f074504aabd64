"""A heat map of ranks against ranks, with its numbers where they fit."""

from __future__ import annotations

from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import blend, ink_on
from traceanalyzer.review.words import quantity

MAX_NUMBERED_RANKS = 10
"""Ranks up to which a cell has room for its number."""


def matrix_figure(cells: pl.DataFrame, ranks: list[int]) -> Any:  # noqa: ANN401 - Bokeh
    """Cells (source, destination, tokens) as a heat map, source downwards, destination to the right."""
    hv = charts.holoviews()
    place = {rank: float(i) for i, rank in enumerate(ranks)}
    most = max(cells["tokens"].to_list())
    color = pl.col("tokens").map_elements(lambda tokens: blend(tokens / most if most else 0.0), return_dtype=pl.String)
    text = pl.col("tokens").map_elements(lambda tokens: quantity(round(tokens), "count"), return_dtype=pl.String)
    placed = cells.with_columns(
        x=pl.col("destination").replace_strict(place), y=pl.col("source").replace_strict(place), color=color, text=text
    ).with_columns(
        ink=pl.col("color").map_elements(ink_on, return_dtype=pl.String),
        left=pl.col("x") - 0.48,
        right=pl.col("x") + 0.48,
        top=pl.col("y") - 0.47,
        bottom=pl.col("y") + 0.47,
    )
    drawing = hv.Rectangles(
        placed, kdims=["left", "top", "right", "bottom"], vdims=["color", "source", "destination", "tokens"]
    ).opts(
        color="color",
        line_width=0,
        tools=["hover"],
        hover_tooltips=[("rank", "@source → @destination"), ("tokens", "@tokens{0,0.0}")],
    )  # fmt: skip
    if len(ranks) <= MAX_NUMBERED_RANKS:
        numbers = hv.Labels(placed, kdims=["x", "y"], vdims=["text", "ink"])
        drawing = drawing * numbers.opts(text_color="ink", text_font_size="12px", text_align="center")
    every = max(1, -(-len(ranks) // 16))
    ticks = [(float(i), str(rank)) for i, rank in enumerate(ranks)][::every]
    return charts.render(
        drawing,
        height=300,
        x_label="to rank",
        y_label="from rank",
        xlim=(-0.55, len(ranks) - 0.45),
        ylim=(len(ranks) - 0.45, -0.55),
        xticks=ticks,
        yticks=ticks,
    )
