"""Measured points over theory: along a swept number, or one row per point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.charts.elements import MAX_ROWS, holoviews, render
from reports.charts.palette import NEUTRAL_INK, SERIES
from reports.page.model import Chart


@dataclass(frozen=True, slots=True)
class Metric:
    """What a chart shows of every point, and what theory says of it."""

    id: str
    measured: str
    theory: str | None
    factor: float
    title: str
    unit: str


METRICS = (
    Metric("bubble", "bubble_share", "simulated_share", 100.0, "Bubble", "% of the pipeline phase"),
    Metric("load", "rank_load_max_over_mean", None, 1.0, "Load of the fullest rank", "× the mean"),
    Metric("imbalance", "imbalance_cost_ms", None, 1.0, "Cost of the imbalance", "ms per step"),
    Metric("mfu", "mfu", None, 100.0, "MFU", "%"),
    Metric("step", "step_ms", None, 1.0, "Step", "ms"),
)


def numeric_axes(table: pl.DataFrame, axes: Sequence[str]) -> list[str]:
    """Swept options of which every value is a number, with more than one value."""
    numbers = {axis: table[axis].cast(pl.Float64, strict=False) for axis in axes}
    return [axis for axis, values in numbers.items() if values.null_count() == 0 and values.n_unique() > 1]


def series_names(table: pl.DataFrame, axes: Sequence[str], along: str) -> pl.Series:
    """For each point the values of the other swept options, as text; only those that differ."""
    others = [axis for axis in axes if axis != along and table[axis].n_unique() > 1]
    if not others:
        return pl.Series(["all points"] * len(table))
    parts = [pl.col(axis) if axis == "schedule" else pl.concat_str(pl.lit(f"{axis} "), pl.col(axis)) for axis in others]
    return table.select(pl.concat_str(parts, separator=", ").alias("series"))["series"]


def along_chart(table: pl.DataFrame, axes: Sequence[str], along: str, metric: Metric) -> Chart | None:
    """Measured points and theory's line of every series over one swept number; None without two measured points."""
    points = table.with_columns(series=series_names(table, axes, along), x=pl.col(along).cast(pl.Float64)).drop_nulls(
        metric.measured
    )
    if points["x"].n_unique() < 2:
        return None
    names = points["series"].unique(maintain_order=True).to_list()[: len(SERIES)]
    theory = (
        " Lines: theory, the simulated order with equal stages. Dots: measured; equal ones cover each other."
        if metric.theory
        else ""
    )
    cut = points["series"].n_unique() - len(names)
    left_out = f" {cut} more series are in the table." if cut > 0 else ""
    return Chart(
        id=f"{metric.id}-over-{along}",
        draw=lambda: _along(points, names, along, metric),
        title=f"{metric.title} over {along}",
        label=f"{metric.title} of every point over {along}, measured{' and by theory' if metric.theory else ''}.",
        caption=f"{metric.title} in {metric.unit}.{theory}{left_out}",
        legend=tuple(zip(names, SERIES, strict=False)),
        half=True,
    )


def _along(points: pl.DataFrame, names: Sequence[str], along: str, metric: Metric) -> Any:  # noqa: ANN401 - Bokeh
    hv = holoviews()
    drawing: Any = None
    most = 0.0
    for color, name in zip(SERIES, names, strict=False):
        of = points.filter(pl.col("series") == name).sort("x")
        values = of.select("x", "series", y=metric.factor * pl.col(metric.measured))
        most = max([most, *values["y"].to_list()])
        dots = hv.Scatter(values, kdims=["x"], vdims=["y", "series"]).opts(
            color=color, size=9, tools=["hover"],
            hover_tooltips=[("", "@series"), (along, "@x"), ("measured", f"@y{{0,0.00}} {metric.unit}")],
        )  # fmt: skip
        layers = dots
        known = of.drop_nulls(metric.theory) if metric.theory else of.clear()
        if len(known):
            line = known.group_by("x", maintain_order=True).agg(y=metric.factor * pl.col(metric.theory or "").mean())
            most = max([most, *line["y"].to_list()])
            layers = hv.Curve(line, kdims=["x"], vdims=["y"]).opts(color=color, line_width=2, alpha=0.75) * dots
        elif not metric.theory:
            layers = hv.Curve(values, kdims=["x"], vdims=["y"]).opts(color=color, line_width=1, alpha=0.4) * dots
        drawing = layers if drawing is None else drawing * layers
    places = sorted(set(points["x"].to_list()))
    ticks = [(x, f"{x:g}") for x in places[:: max(1, len(places) // 12)]]
    low, high = places[0], places[-1]
    margin = 0.06 * (high - low)
    return render(
        drawing, height=300, x_label=along, y_label=metric.unit, ylim=(0, 1.1 * most or 1.0), xticks=ticks,
        xlim=(low - margin, high + margin),
    )  # fmt: skip


def rows_chart(table: pl.DataFrame, axes: Sequence[str], metric: Metric) -> Chart | None:
    """One row per point, the smallest first, with theory's mark; None without a measured point."""
    points = table.drop_nulls(metric.measured).sort(metric.measured)
    if len(points) < 2:
        return None
    named = points.with_columns(series=series_names(points, axes, "")).head(MAX_ROWS)
    cut = len(points) - len(named)
    theory = " The line leads from theory, the mark, to what was measured." if metric.theory else ""
    return Chart(
        id=f"{metric.id}-by-point",
        draw=lambda: _rows(named, metric),
        title=f"{metric.title} of every point",
        label=f"{metric.title} of every point, the smallest first.",
        caption=f"{metric.title} in {metric.unit}.{theory}{f' {cut} more points are in the table.' if cut else ''}",
        half=True,
    )


def _rows(named: pl.DataFrame, metric: Metric) -> Any:  # noqa: ANN401 - Bokeh
    hv = holoviews()
    known = metric.theory or metric.measured
    placed = named.with_row_index("row").select(
        "series",
        row=pl.col("row").cast(pl.Float64),
        measured=metric.factor * pl.col(metric.measured),
        theory=metric.factor * pl.col(known).fill_null(pl.col(metric.measured)),
    )
    lines = hv.Segments(
        placed.select("theory", "row", "measured", end="row"), kdims=["theory", "row", "measured", "end"]
    )
    dots = hv.Scatter(placed, kdims=["measured"], vdims=["row", "series", "theory"]).opts(
        size=10, color=SERIES[0], tools=["hover"],
        hover_tooltips=[("", "@series"), ("measured", "@measured{0,0.00}"), ("theory", "@theory{0,0.00}")],
    )  # fmt: skip
    drawing = lines.opts(color=NEUTRAL_INK, line_width=2)
    if metric.theory:
        marks = hv.Scatter(placed, kdims=["theory"], vdims=["row"]).opts(
            size=13, marker="dash", angle=90, color=NEUTRAL_INK, line_width=2
        )
        drawing = drawing * marks
    most = max((value for name in ("measured", "theory") for value in placed[name].drop_nulls().to_list()), default=0.0)
    return render(
        drawing * dots, height=70 + 24 * len(placed), x_label=metric.unit, xlim=(0, 1.08 * float(most) or 1.0),
        ylim=(len(placed) - 0.4, -0.6), yticks=[(row, name) for row, name in placed.select("row", "series").iter_rows()],
    )  # fmt: skip
