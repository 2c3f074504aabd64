"""Waterfalls of a comparison: the chart from the old step to the new, and a table for every way to cut it."""

from __future__ import annotations

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import LOSS, REFERENCE, RESULT
from reports.page.grids import grid
from reports.page.model import COMPARED, Chart, Grid
from reports.page.text import chart_text
from traceanalyzer.comparison.record import Line, Pair, Waterfall
from traceanalyzer.comparison.story import signed_share
from traceanalyzer.review.words import NOTHING, digits, milliseconds, ranks_text, spaced

_MOST_BARS = 10
_BARS = {"name": pl.String, "start": pl.Float64, "end": pl.Float64, "color": pl.String, "text": pl.String}
_FEW = 6
_LONGEST = 72
"""Characters of a name beside its bar."""


def signed(ns: int) -> str:
    """A change with its sign."""
    return f"{'+' if ns > 0 else ''}{milliseconds(ns / 1e6)}"


def change_waterfall(pair: Pair, chart_id: str, base_ns: int | None, new_ns: int | None) -> Chart | None:
    """From the old step to the new one by cause and culprit; None without steps or changes."""
    if not pair.changes or base_ns is None or new_ns is None:
        return None
    rows = _bars(pair, base_ns, new_ns)
    levels = [*rows["start"].to_list()[1:-1], *rows["end"].to_list()[1:-1], base_ns / 1e6, new_ns / 1e6]
    low, high = min(levels), max(levels)
    room = max(high - low, 0.01 * high)
    start, end = max(0.0, low - 0.25 * room), high + 0.45 * room
    return Chart(
        id=chart_id,
        title="By cause and culprit",
        draw=lambda: charts.floating_bars(rows.with_columns(pl.col("start").clip(lower_bound=start)), x_label="step, ms", x_end=end, x_start=start),
        label="Bars from the old step through every change to the new step.",
        caption="Each bar begins at the end of the one above; they sum to the change exactly. The axis does not begin at zero.",
        numbers=_change_grid(pair, f"{chart_id}-numbers"),
    )  # fmt: skip


def _bars(pair: Pair, base_ns: int, new_ns: int) -> pl.DataFrame:
    rows = [("base", 0.0, base_ns / 1e6, REFERENCE, milliseconds(base_ns / 1e6))]
    level = base_ns
    shown, rest = pair.changes[:_MOST_BARS], pair.changes[_MOST_BARS:]
    steps = [(each.title, each.change_ns) for each in shown]
    steps += [(f"{len(rest)} more", sum(each.change_ns for each in rest))] if rest else []
    for at, (title, change) in enumerate(steps, 1):
        start, end = sorted((level, level + change))
        name = f"{at}. {chart_text(title if len(title) <= _LONGEST else f'{title[: _LONGEST - 1]}…', _LONGEST)}"
        rows.append((name, start / 1e6, end / 1e6, LOSS if change > 0 else RESULT, signed(change)))
        level += change
    rows.append(("new", 0.0, new_ns / 1e6, REFERENCE, milliseconds(new_ns / 1e6)))
    return pl.DataFrame(rows, schema=_BARS, orient="row")


def _change_grid(pair: Pair, grid_id: str) -> Grid | None:
    return grid(
        grid_id,
        "What each change does to the step",
        pair.changes,
        [
            ("change", lambda c: signed(c.change_ns), "number"),
            ("of the step", lambda c: f"{'+' if c.share > 0 else ''}{digits(100 * c.share, 2)}%", "number"),
            ("noise", lambda c: "within noise" if c.is_noise else "", None),
            ("who", lambda c: ranks_text(c.ranks) if c.ranks else "", None),
            ("before", lambda c: _value(c.before, c.unit), "number"),
            ("after", lambda c: _value(c.after, c.unit), "number"),
            ("known by", lambda c: c.basis, None),
            ("what", lambda c: c.title, None),
        ],
        limit=24,
        few=_FEW,
        source=COMPARED,
    )


def _value(value: float | None, unit: str | None) -> str:
    if value is None:
        return NOTHING
    return milliseconds(value) if unit and unit.startswith("ms") else digits(value)


def view_grid(view: Waterfall, grid_id: str) -> Grid | None:
    """One way to cut the change, as a table that sums exactly."""
    return grid(
        grid_id,
        view.title,
        view.lines,
        [
            ("change", lambda line: signed(line.change_ns), "number"),
            ("of the step", lambda line: signed_share(line.change_ns, view.base_ns) if view.base_ns else "", "number"),
            ("before", lambda line: line.base_ns, "ns"),
            ("after", lambda line: line.new_ns, "ns"),
            ("number", _numbers, "number"),
            ("", lambda line: "" if line.change in (None, "same") else spaced(line.change), None),
            ("what", lambda line: line.name, None),
        ],
        limit=40,
        few=_FEW,
        source=COMPARED,
        note=f"{view.meaning} {milliseconds(view.base_ns / 1e6)} → {milliseconds(view.new_ns / 1e6)}.",
        folded=view.by not in ("owner", "kernel"),
    )


def _numbers(line: Line) -> str:
    if line.base_count is None and line.new_count is None:
        return ""
    before, after = line.base_count or 0.0, line.new_count or 0.0
    return f"{before:,.4g}" if before == after else f"{before:,.4g} → {after:,.4g}"
