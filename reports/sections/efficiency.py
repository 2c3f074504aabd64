"""MFU: the way from peak to what was measured, what it is made of, and matrix multiplications against their roof."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import LOSS, REFERENCE, RESULT
from reports.page.grids import figures, grid
from reports.page.model import Chart, Grid, Section, Terms
from reports.page.text import chart_text
from reports.sections.material import Material
from traceanalyzer.review import Fact, Mfu, WaterfallStep
from traceanalyzer.review.vocabulary import Recomputation
from traceanalyzer.review.words import counted_by, digits, flops_rate, percent

CLOSED = 0.05
"""Largest miss, in MFU points, of losses that are said to close the way from peak to measured."""
LEAST_BAR = 0.1
"""MFU points below which losses share one bar."""
BARS = {"name": pl.String, "start": pl.Float64, "end": pl.Float64, "color": pl.String, "text": pl.String}
"""Columns of a waterfall's bars."""


def section(material: Material) -> Section:
    """What the MFU is made of."""
    review = material.review
    parts = [waterfall_chart(review.mfu, review.waterfall), mfu_terms(review.mfu, review.job.recompute)]
    return material.section(
        "mfu",
        "MFU",
        [*parts, convention_grid(review.mfu)] if review.mfu.mfu is not None else [],
        "mfu",
        lead="Model FLOPs utilization: the model's FLOP per step ÷ what the devices could do in that time.",
    )


def losses(waterfall: Sequence[WaterfallStep]) -> list[WaterfallStep]:
    """The waterfall without its ends (peak and measured); gains are negative."""
    return [step for step in waterfall if not step.name.lower().startswith(("peak", "measured", "mfu"))]


def waterfall_rows(mfu: Mfu, waterfall: Sequence[WaterfallStep]) -> pl.DataFrame:
    """Bars from peak to measured: name, start, end, color, text; in percent of peak. Empty without an MFU."""
    if mfu.mfu is None:
        return pl.DataFrame(schema=BARS)
    rows, level = [("peak", 0.0, 100.0, REFERENCE, "100%")], 100.0
    for name, points in _bars(waterfall):
        color, sign = (LOSS, "−") if points >= 0 else (RESULT, "+")
        start, end = sorted((level - points, level))
        rows.append((chart_text(name), start, end, color, f"{sign}{digits(abs(points))}"))
        level -= points
    if not losses(waterfall) and mfu.hfu is not None and mfu.hfu != mfu.mfu:
        rows.append(("HFU (recompute counted)", 0.0, 100 * mfu.hfu, REFERENCE, percent(mfu.hfu)))
    rows.append(("measured MFU", 0.0, 100 * mfu.mfu, RESULT, percent(mfu.mfu)))
    return pl.DataFrame(rows, schema=BARS, orient="row")


def _bars(waterfall: Sequence[WaterfallStep]) -> list[tuple[str, float]]:
    """Losses with their points; those too small to be seen are one bar."""
    lost = losses(waterfall)
    small = [step for step in lost if abs(step.mfu_points) < LEAST_BAR]
    bars = [(step.name, step.mfu_points) for step in lost if len(small) < 2 or step not in small]
    rest = sum(step.mfu_points for step in small)
    return [*bars, (f"{len(small)} smaller losses", rest)] if len(small) > 1 and rest else bars


def waterfall_chart(mfu: Mfu, waterfall: Sequence[WaterfallStep]) -> Chart | None:
    """From peak to measured; None without an MFU."""
    rows = waterfall_rows(mfu, waterfall)
    if mfu.mfu is None or rows.is_empty():
        return None
    lost = sum(step.mfu_points for step in losses(waterfall))
    miss = 100 - lost - 100 * mfu.mfu
    closes = "the losses and the measured MFU sum to 100 points."
    misses = f"the losses and the measured MFU miss 100 points by {digits(abs(miss))}."
    return Chart(
        id="waterfall",
        draw=lambda: charts.floating_bars(rows, x_label="% of peak FLOP/s", x_end=112.0),
        title="From peak to measured",
        label="Bars from the device's peak down to the measured model FLOPs utilization.",
        caption=f"Every loss is counted once; {closes if abs(miss) <= CLOSED else misses}" if lost else "",
        numbers=grid(
            "waterfall-grid",
            "From peak to measured MFU, one step",
            waterfall,
            [
                ("", lambda s: s.name, None),
                ("MFU points", lambda s: f"{s.mfu_points:.2f}", "number"),
                ("time", lambda s: s.ms, "ms"),
            ],
            limit=24,
            few=24,
        ),
    )


def mfu_terms(mfu: Mfu, recompute: Fact[Recomputation | None] | None) -> Terms | None:
    """What the MFU is made of."""
    peak = "" if mfu.peak_flops_per_device is None else flops_rate(mfu.peak_flops_per_device)
    return figures(
        "What it is made of",
        [
            ("MFU, by the trace", mfu.mfu, "share"),
            ("MFU, by the loop's clock", mfu.mfu_wall_clock, "share"),
            ("MFU, without the profiler", mfu.mfu_unprofiled, "share"),
            ("HFU, recompute counted", mfu.hfu, "share"),
            ("Recomputed in backward", _recompute(recompute)),
            ("FLOP per step", mfu.flops_per_step, "flops"),
            ("FLOP per token", mfu.flops_per_token, "flops"),
            ("Tokens per step", mfu.tokens_per_step, "count"),
            ("FLOP counted by", counted_by(mfu.convention)),
            ("Peak of one device", ", ".join(text for text in (peak, mfu.peak_basis) if text)),
            ("Devices", mfu.num_devices, "count"),
            ("Predicted MFU", mfu.predicted_mfu, "share"),
            ("Predicted step", mfu.predicted_step_ms, "ms"),
        ],
    )


def _recompute(fact: Fact[Recomputation | None] | None) -> str:
    if fact is None or fact.value is None:
        return "not known: HFU counts none"
    return f"{fact.value} ({fact.source})"


def convention_grid(mfu: Mfu) -> Grid | None:
    """The same step counted by other conventions; None if the review lists none."""
    return grid(
        "conventions",
        "The same step by other conventions",
        mfu.conventions,
        [
            ("counted by", lambda c: counted_by(c.name), None),
            ("FLOP per step", lambda c: c.flops_per_step, "flops"),
            ("MFU", lambda c: c.mfu, "share"),
        ],
        limit=24,
        few=0,
        half=True,
    )
