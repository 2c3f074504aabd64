"""MFU's charts: from peak to what was measured, and what other conventions would say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import LOSS, REFERENCE, RESULT
from reports.page.parts import Chart, Grid, Terms
from reports.page.text import Unit, at, chart_text, number, quantity, records, safe_text, shown

CLOSED = 0.05
"""Largest miss, in MFU points, of losses that are said to close the way from peak to measured."""


def losses(review: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The waterfall's losses as (name, MFU points), without its ends (peak and measured); gains are negative."""
    steps = records(review, "waterfall")
    named = [(chart_text(s.get("name", "")), number(s.get("mfu_points"))) for s in steps]
    return [(name, points) for name, points in named if points is not None and not _is_end(name)]


def _is_end(name: str) -> bool:
    return name.lower().startswith(("peak", "measured", "mfu"))


def waterfall_rows(review: Mapping[str, Any]) -> pl.DataFrame:
    """Bars from peak to measured: name, start, end, color, text; in percent of peak. Empty without an MFU."""
    mfu = number(at(review, "mfu", "mfu"))
    if mfu is None:
        return pl.DataFrame(schema=_BARS)
    rows, level = [("peak", 0.0, 100.0, REFERENCE, f"100{_PERCENT}")], 100.0
    for name, points in losses(review):
        color, sign = (LOSS, "−") if points >= 0 else (RESULT, "+")
        start, end = sorted((level - points, level))
        rows.append((name, start, end, color, f"{sign}{quantity(abs(points), 'number')}"))
        level -= points
    hfu = number(at(review, "mfu", "hfu"))
    if not losses(review) and hfu is not None and hfu != mfu:
        rows.append(("HFU (recompute counted)", 0.0, 100 * hfu, REFERENCE, quantity(hfu, "share")))
    rows.append(("measured MFU", 0.0, 100 * mfu, RESULT, quantity(mfu, "share")))
    return pl.DataFrame(rows, schema=_BARS, orient="row")


_PERCENT = quantity(1.0, "share")[3:]
_BARS = {"name": pl.String, "start": pl.Float64, "end": pl.Float64, "color": pl.String, "text": pl.String}


def waterfall_chart(review: Mapping[str, Any]) -> Chart | None:
    """From peak to measured; None without an MFU."""
    rows = waterfall_rows(review)
    if rows.is_empty():
        return None
    lost = sum(points for _, points in losses(review))
    mfu = 100 * (number(at(review, "mfu", "mfu")) or 0.0)
    closes = abs(100 - lost - mfu) <= CLOSED
    caption = ""
    if lost:
        caption = "Each loss is time counted once"
        caption += (
            "; the losses and the measured MFU sum to 100."
            if closes
            else (f"; together they miss the measured MFU by {quantity(100 - lost - mfu, 'number')} points.")
        )
    return Chart(
        id="waterfall",
        figure=charts.floating_bars(rows, x_label="% of peak FLOP/s", x_end=112.0),
        title="From peak to measured",
        label="Bars from the device's peak down to the measured model FLOPs utilization.",
        caption=caption,
    )


def mfu_terms(review: Mapping[str, Any]) -> Terms:
    """What the MFU is made of."""
    mfu = ("mfu",)
    peak = shown(review, "flops_per_second", *mfu, "peak_flops_per_device")
    basis = safe_text(at(review, *mfu, "peak_basis") or "", 200)
    return Terms(
        title="What it is made of",
        entries=(
            ("MFU, by the trace", shown(review, "share", *mfu, "mfu")),
            ("MFU, by the loop's clock", shown(review, "share", *mfu, "mfu_wall_clock")),
            ("MFU, without the profiler", shown(review, "share", *mfu, "mfu_unprofiled")),
            ("HFU, recompute counted", shown(review, "share", *mfu, "hfu")),
            ("Computed again in backward", _recompute(review)),
            ("FLOP per step", shown(review, "flops", *mfu, "flops_per_step")),
            ("FLOP per token", shown(review, "flops", *mfu, "flops_per_token")),
            ("Tokens per step", shown(review, "count", *mfu, "tokens_per_step")),
            ("Convention", safe_text(at(review, *mfu, "convention") or "not stated", 200)),
            ("Peak of one device", f"{peak}, {basis}" if basis else peak),
            ("Devices", shown(review, "count", *mfu, "num_devices")),
            ("Predicted MFU", shown(review, "share", *mfu, "predicted_mfu")),
            ("Predicted step", shown(review, "ms", *mfu, "predicted_step_ms")),
        ),
        half=True,
    )


def _recompute(review: Mapping[str, Any]) -> str:
    fact = at(review, "job", "recompute")
    known = fact if isinstance(fact, Mapping) else {}
    value = known.get("value")
    if value is None:
        return "not told: HFU counts none"
    return safe_text(f"{value} ({known.get('source')})", 80)


def convention_grid(review: Mapping[str, Any]) -> Grid | None:
    """The same step counted by other conventions; None where the review lists none."""
    rows = tuple(
        (safe_text(c.get("name", ""), 120), quantity(c.get("flops_per_step"), "flops"), quantity(c.get("mfu"), "share"))
        for c in records(review, "mfu", "conventions")
    )
    if not rows:
        return None
    return Grid(
        id="conventions",
        title="The same step by other conventions",
        columns=("convention", "FLOP per step", "MFU"),
        rows=rows,
        numeric=frozenset({1, 2}),
        half=True,
    )


def roofline_grid(review: Mapping[str, Any]) -> Grid | None:
    """Shapes that lose most time to their roof, per rank and step; None where the review lists none."""
    rows = tuple(
        (
            safe_text(row.get("name", ""), 120),
            safe_text(row.get("shape", ""), 120),
            safe_text(row.get("dtype", ""), 60),
            *(quantity(row.get(key), unit) for key, unit in _ROOF_COLUMNS),
            safe_text(row.get("bound", ""), 20),
        )
        for row in records(review, "roofline")
    )
    if not rows:
        return None
    return Grid(
        id="roofline-grid",
        title="Matrix multiplications by time lost to the roof",
        columns=("operator", "shape", "type", "time lost", "time", "reached", "of the roof", "bound by"),
        rows=rows,
        numeric=frozenset({3, 4, 5, 6}),
        note="Per rank and step. The roof is the peak of the number format or the memory's bandwidth, whichever is lower.",
        csv="roofline",
    )


_ROOF_COLUMNS: tuple[tuple[str, Unit], ...] = (
    ("lost_ms", "ms"),
    ("ms", "ms"),
    ("flops_per_second", "flops_per_second"),
    ("roof_share", "share"),
)
