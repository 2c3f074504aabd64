"""Matrix multiplications and attention against their roof."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from reports.charts.palette import KERNELS
from reports.charts.plots.scatter import Scatter, scatter_figure
from reports.page.grids import grid
from reports.page.model import Chart, Grid, Section
from reports.page.text import chart_text
from reports.sections.material import Material
from traceanalyzer.review import RooflineShape
from traceanalyzer.review.words import counted, flops_rate, milliseconds, percent

_COLORS = {"gemm": KERNELS["gemm"], "attention": KERNELS["attention"], "unread": KERNELS["other"]}
_LEAST_DOTS = 2
_SPAN = 10_000
"""Dots slower than the fastest by more are drawn at the axis's end: kernels of a few FLOP."""
_WORDS = {"gemm": "matrix multiplication", "attention": "attention", "unread": "other"}


def section(material: Material) -> Section:
    """Every shape under its roof, and the shapes that lose most time to it."""
    shapes = material.review.roofline
    return material.section(
        "roofline",
        "Roofline",
        [roofline_chart(material.table("roofline")), roofline_grid(shapes)],
        "roofline",
        absent="These traces hold no tensor shapes.",
        lead=_lead(shapes),
    )


def _lead(shapes: Sequence[RooflineShape]) -> str:
    lost = [shape for shape in shapes if shape.lost_ms]
    if not lost:
        return ""
    most = max(lost, key=lambda shape: shape.lost_ms or 0.0)
    reached = "" if most.roof_share is None else f", which reaches {percent(most.roof_share)} of it"
    total = sum(shape.lost_ms or 0.0 for shape in lost)
    return (
        f"The listed shapes lose {milliseconds(total)} per rank and step to their roof, most of one shape "
        f"{milliseconds(most.lost_ms or 0.0)} ({most.name} {most.shape}{reached})."
    )


def roofline_chart(table: pl.DataFrame) -> Chart | None:
    """Reached FLOP/s by FLOP per byte, under the roof; None with fewer than two shapes that have both: a table tells one."""
    known = table.drop_nulls(["flops", "bytes", "flops_per_second"]).filter(
        (pl.col("flops") > 0) & (pl.col("bytes") > 0) & (pl.col("flops_per_second") > 0)
    )
    if known.height < _LEAST_DOTS:
        return None
    dots = known.select(
        x=pl.col("flops") / pl.col("bytes"),
        y=pl.col("flops_per_second") / 1e12,
        roof=pl.col("roof_flops_per_second") / 1e12,
        kind=pl.col("kind").cast(pl.String),
        name=pl.struct("name", "shape").map_elements(
            lambda row: chart_text(f"{row['name']} {row['shape']}"), return_dtype=pl.String
        ),
        text=pl.struct("flops_per_second", "roof_share").map_elements(_reached, return_dtype=pl.String),
    )
    used = set(dots["kind"].to_list())
    roofs = _roofs(dots)
    least = max(dots["y"].to_list()) / _SPAN
    num_low = dots.filter(pl.col("y") < least).height
    low = f" ▼: {counted(num_low, 'shape')} more than {_SPAN:,}× below the fastest." if num_low else ""
    drawn = Scatter(
        dots=dots,
        colors=_COLORS,
        lines=roofs,
        least=least,
        x_label="FLOP per byte",
        y_label="TFLOP/s reached",
    )
    return Chart(
        id="roofline-chart",
        draw=lambda: scatter_figure(drawn),
        title="Reached speed under the roof",
        term="Roofline",
        label="Scatter of operators by FLOP per byte and FLOP/s reached, below the roof of memory bandwidth and peak.",
        caption="One dot per operator and shape. "
        + ("Line: the roof, memory bandwidth on the left and the peak on the right." if roofs else "The roof is not known.")
        + low,
        legend=tuple((_WORDS[kind], color) for kind, color in _COLORS.items() if kind in used),
        half=True,
        numbers=grid(
            "roofline-dots",
            "Operators and shapes",
            dots.sort("y", descending=True).to_dicts(),
            [
                ("operator and shape", lambda r: r["name"], None),
                ("FLOP per byte", lambda r: r["x"], "number"),
                ("TFLOP/s", lambda r: r["y"], "number"),
                ("roof, TFLOP/s", lambda r: r["roof"], "number"),
            ],
            limit=200,
            few=0,
            csv="roofline",
        ),
    )  # fmt: skip


def _reached(row: dict[str, float | None]) -> str:
    share = row["roof_share"]
    return flops_rate(row["flops_per_second"] or 0.0) + ("" if share is None else f", {percent(share)} of the roof")


def _roofs(dots: pl.DataFrame) -> list[list[tuple[float, float]]]:
    """The highest roof through the dots: sloped by the memory's bandwidth, then flat at the highest peak."""
    known = dots.drop_nulls("roof").filter(pl.col("roof") > 0)
    if known.is_empty():
        return []
    low, high = min(known["x"].to_list()), max(known["x"].to_list())
    peak = max(known["roof"].to_list())
    slope = max((known["roof"] / known["x"]).to_list())
    ridge = peak / slope
    left, right = min(low, ridge) / 1.5, max(high, ridge) * 1.5
    return [[(left, left * slope), (ridge, peak), (right, peak)]]


def roofline_grid(shapes: Sequence[RooflineShape]) -> Grid | None:
    """Shapes that lose most time to their roof, per rank and step; None without any."""
    return grid(
        "roofline-grid",
        "Operators by time lost to the roof",
        shapes,
        [
            ("time lost", lambda s: s.lost_ms, "ms"),
            ("time", lambda s: s.ms, "ms"),
            ("of the roof", lambda s: s.roof_share, "share"),
            ("bound by", lambda s: s.bound, None),
            ("reached", lambda s: s.flops_per_second, "flops_per_second"),
            ("type", lambda s: s.dtype, None),
            ("operator and shape", lambda s: f"{s.name} {s.shape}", None),
        ],
        note="Per rank and step. The roof is the peak of the number format or the memory's bandwidth, whichever is lower.",
        limit=64,
        few=5,
        csv="roofline",
    )
