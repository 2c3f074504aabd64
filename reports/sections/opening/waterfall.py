"""Where the time went, from peak or from computation alone to what was measured."""

from __future__ import annotations

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import OWNERS, REFERENCE, RESULT
from reports.page.grids import grid
from reports.page.model import Bar, Chart
from reports.page.text import chart_text
from reports.sections import efficiency
from reports.sections.material import Material
from reports.sections.pipeline import causes
from traceanalyzer.review import Accounting, Bubble
from traceanalyzer.review.words import milliseconds, percent, spaced

_LEAST = 0.002
"""Share of the step below which an owner gets no bar of its own; they are summed as `other`."""


Waterfall = tuple[Chart, pl.DataFrame]
"""The picture, and its bars (`efficiency.BARS`)."""


def waterfall(material: Material) -> tuple[Chart | None, tuple[Bar, ...]]:
    """By MFU where it is known, else by the causes of a long pipeline phase, else by owners of the step; None without any."""
    review = material.review
    by_mfu = efficiency.waterfall_chart(review.mfu, review.waterfall)
    if by_mfu is not None:
        return by_mfu, _plain(efficiency.waterfall_rows(review.mfu, review.waterfall))
    found = phase_waterfall(review.bubble) or ledger_waterfall(review.accounting)
    return (found[0], _plain(found[1])) if found else (None, ())


def _plain(bars: pl.DataFrame) -> tuple[Bar, ...]:
    longest = max(bars["end"].to_list()) or 1.0
    return tuple(
        Bar(name=name, start=start / longest, end=end / longest, color=color, text=text)
        for name, start, end, color, text in bars.iter_rows()
    )


def phase_waterfall(bubble: Bubble | None) -> Waterfall | None:
    """From the computation of the pipeline phase over the schedule's bubble and each cause to the measured phase."""
    parts = bubble.attribution_ms if bubble else None
    if bubble is None or parts is None or not parts.measured:
        return None
    lost = sorted(causes.causes_of(parts).items(), key=lambda item: -item[1])
    rows = [
        ("computation", parts.ideal - parts.schedule, OWNERS["compute"]),
        ("bubble of the schedule", parts.schedule, charts.LOSS_OF_SCHEDULE),
        *((spaced(name), ms, charts.loss_color(ms)) for name, ms in lost if abs(ms) >= _LEAST * parts.measured),
    ]
    rest = parts.measured - sum(ms for _, ms, _ in rows)
    if abs(rest) >= 1e-3 * parts.measured:
        rows.append(("other causes", rest, charts.loss_color(rest)))
    return _chart(
        "From computation to the measured pipeline phase",
        rows,
        parts.measured,
        "measured phase",
        "Mean over steps. The bars sum to the measured phase.",
    )


def ledger_waterfall(accounting: Accounting) -> Waterfall | None:
    """From computation over each loss to the mean rank's step; None without owners."""
    owners = {row.owner: row.ms for row in accounting.owners}
    step = sum(owners.values())
    if not step:
        return None
    compute = owners.pop("compute", 0.0)
    large = {owner: ms for owner, ms in owners.items() if ms >= _LEAST * step}
    rest = step - compute - sum(large.values())
    rows = [("computation", compute, OWNERS["compute"])]
    rows += [(spaced(owner), ms, OWNERS[owner]) for owner, ms in sorted(large.items(), key=lambda item: -item[1])]
    if rest >= 1e-4 * step:
        rows.append(("other", rest, REFERENCE))
    return _chart(
        "From computation to the measured step",
        rows,
        step,
        "measured step",
        "Mean over ranks and steps. Every nanosecond has one owner, so the bars sum to the step.",
    )


def _chart(title: str, rows: list[tuple[str, float, str]], whole: float, last: str, caption: str) -> Waterfall:
    bars, level = list[tuple[str, float, float, str, str]](), 0.0
    for name, ms, color in rows:
        start, end = sorted((level, level + ms))
        bars.append((chart_text(name), start, end, color, f"{milliseconds(ms)} · {percent(ms / whole)}"))
        level += ms
    bars.append((last, 0.0, whole, RESULT, milliseconds(whole)))
    frame = pl.DataFrame(bars, schema=efficiency.BARS, orient="row")
    scale, unit = charts.time_scale(whole)
    scaled = frame.with_columns(pl.col("start") * scale, pl.col("end") * scale)
    widest = max(frame["end"].to_list()) * scale
    chart = Chart(
        id="time-waterfall",
        title=title,
        draw=lambda: charts.floating_bars(scaled, x_label=unit, x_end=1.3 * widest),
        label=f"Waterfall. {'; '.join(f'{name} {text}' for name, _, _, _, text in bars)}.",
        caption=caption,
        numbers=grid(
            "time-waterfall-grid",
            title,
            [*rows, (last, whole, "")],
            [
                ("", lambda r: r[0], None),
                ("per step", lambda r: r[1], "ms"),
                ("share", lambda r: r[1] / whole, "share"),
            ],
            limit=32,
            few=0,
        ),
    )
    return chart, frame
