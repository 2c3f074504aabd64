"""MFU of the fastest configuration by model size and number of devices, as a heat map with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import GREY_CELL, blend, ink_on
from traceanalyzer.review.words import percent
from traceanalyzer.theory.planning.sizes import SizeCell


def size_map(cells: Sequence[SizeCell]) -> Any:  # noqa: ANN401 - Bokeh
    """Model size upwards, devices to the right."""
    hv = charts.holoviews()
    placed = cell_table(cells)
    columns = placed.sort("x").unique("x", maintain_order=True).select("x", "devices").rows()
    rows = placed.sort("y").unique("y", maintain_order=True).select("y", "size").rows()
    drawing = hv.Rectangles(
        placed, kdims=["left", "bottom", "right", "top"], vdims=["color", "size", "devices", "text", "configuration"]
    ).opts(
        color="color",
        line_width=0,
        tools=["hover"],
        hover_tooltips=[
            ("model", "@size"),
            ("devices", "@devices"),
            ("MFU", "@text"),
            ("configuration", "@configuration"),
        ],
    )
    numbers = hv.Labels(placed, kdims=["x", "y"], vdims=["text", "ink"])
    drawing = drawing * numbers.opts(text_color="ink", text_font_size="12px", text_align="center")
    return charts.render(
        drawing,
        height=300,
        x_label="devices",
        y_label="parameters",
        xlim=(-0.55, len(columns) - 0.45),
        ylim=(-0.55, len(rows) - 0.45),
        xticks=list(columns),
        yticks=list(rows),
    )


def cell_table(cells: Sequence[SizeCell]) -> pl.DataFrame:
    """One row for each cell: its place, colour and words."""
    devices = {count: float(i) for i, count in enumerate(sorted({each.num_devices for each in cells}))}
    layers = {count: float(i) for i, count in enumerate(sorted({each.num_layers for each in cells}))}
    most = max((each.mfu for each in cells if each.mfu is not None), default=0.0)
    rows = [
        {
            "x": devices[each.num_devices],
            "y": layers[each.num_layers],
            "size": f"{each.num_parameters / 1e9:.3g} B",
            "devices": f"{each.num_devices:,}",
            "text": "–" if each.mfu is None else percent(each.mfu),
            "color": GREY_CELL if each.mfu is None or not most else blend(each.mfu / most),
            "configuration": each.configuration,
        }
        for each in cells
    ]
    return pl.DataFrame(rows).with_columns(
        ink=pl.col("color").map_elements(ink_on, return_dtype=pl.String),
        left=pl.col("x") - 0.48,
        right=pl.col("x") + 0.48,
        bottom=pl.col("y") - 0.47,
        top=pl.col("y") + 0.47,
    )
