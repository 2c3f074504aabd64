"""Why steps are longer than their ideal, and who waits for whom."""

from __future__ import annotations

import msgspec
import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import LOSS, REFERENCE, RESULT
from reports.page.grids import grid
from reports.page.model import Chart, Grid
from traceanalyzer.review import AttributionMs, Bubble, Culprit
from traceanalyzer.review.words import milliseconds, spaced

_ENDS = ("measured", "ideal", "schedule")
"""Fields of the attribution that are not causes: its ends, and the bubble inside the ideal."""
_LEAST_MS = 0.005


def causes_of(attribution: AttributionMs) -> dict[str, float]:
    """Cause to milliseconds per step, without those that add nothing."""
    amounts = msgspec.structs.asdict(attribution)
    return {name: ms for name, ms in amounts.items() if name not in _ENDS and ms}


def excess_rows(attribution: AttributionMs) -> pl.DataFrame:
    """Bars from the ideal step (0) to the measured one, one for each cause: name, start, end, color, text; in ms."""
    schema = {"name": pl.String, "start": pl.Float64, "end": pl.Float64, "color": pl.String, "text": pl.String}
    rows, level = list[tuple[str, float, float, str, str]](), 0.0
    for name, ms in causes_of(attribution).items():
        bar = sorted((level, level + ms))
        rows.append((spaced(name), bar[0], bar[1], LOSS if ms > 0 else RESULT, milliseconds(ms)))
        level += ms
    if rows:
        rows.append(("in all", min(0.0, level), max(0.0, level), REFERENCE, milliseconds(level)))
    return pl.DataFrame(rows, schema=schema, orient="row")


def excess(bubble: Bubble) -> Chart | Grid | None:
    """What makes the steps longer than their ideal; only numbers if nothing does, None if that is not known."""
    attribution = bubble.attribution_ms
    if attribution is None:
        return None
    rows, numbers = excess_rows(attribution), cause_grid(attribution, bubble.culprits)
    if rows.is_empty():
        return numbers
    low, high = min(0.0, *rows["start"].to_list()), max(0.0, *rows["end"].to_list())
    room = 0.16 * max(high - low, 1e-9)
    return Chart(
        id="excess",
        draw=lambda: charts.floating_bars(
            rows, x_label="ms beyond the ideal step", x_start=low - 0.02 * room, x_end=high + room
        ),
        title="Why steps are longer than their ideal",
        label="Causes of the difference between the measured and the ideal pipeline phase.",
        caption=f"Measured {milliseconds(attribution.measured)}, ideal {milliseconds(attribution.ideal)}, mean over steps. The "
        "causes sum to the difference exactly; slack is the part of a delay that waiting in the ideal absorbs.",
        third=True,
        half=True,
        numbers=numbers,
    )


def cause_grid(attribution: AttributionMs, culprits: list[Culprit]) -> Grid | None:
    """From the ideal phase to the measured one, cause by cause, with the ranks that add most."""
    causes = sorted(causes_of(attribution).items(), key=lambda item: -abs(item[1]))
    computing = attribution.ideal - attribution.schedule
    ideal = f"computation {milliseconds(computing)} + bubble of the schedule {milliseconds(attribution.schedule)}"
    rows = [
        ("measured phase", milliseconds(attribution.measured), ""),
        ("ideal", milliseconds(attribution.ideal), ideal),
        *((name, _signed(ms), _largest(culprits, name)) for name, ms in causes if abs(ms) >= _LEAST_MS),
    ]
    return grid(
        "cause-grid",
        "Why steps are longer than their ideal",
        rows,
        [("", lambda r: spaced(r[0]), None), ("per step", lambda r: r[1], "ms"), ("most by", lambda r: r[2], None)],
        note="The ideal and the causes sum to the measured phase.",
        limit=len(rows),
        few=len(rows),
        half=True,
    )


def _largest(culprits: list[Culprit], cause: str) -> str:
    of_cause = [each for each in culprits if each.cause == cause and abs(each.ms) >= _LEAST_MS]
    largest = sorted(of_cause, key=lambda each: -abs(each.ms))[:3]
    return ", ".join(f"{_rank(each.culprit)} {_signed(each.ms)}" for each in largest)


def _signed(ms: float) -> str:
    return f"{'+' if ms > 0 else ''}{milliseconds(ms)}"


def _rank(rank: int | None) -> str:
    return "not captured" if rank is None else f"rank {rank}"


def culprits(bubble: Bubble) -> Grid | None:
    """Which rank adds how much, by cause."""
    return grid(
        "culprits",
        "Which rank adds it",
        bubble.culprits,
        [
            ("cause", lambda c: spaced(c.cause), None),
            ("rank", lambda c: c.culprit, None),
            ("stages", lambda c: c.stages, None),
            ("per step", lambda c: c.ms, "ms"),
        ],
        few=0,
        half=True,
    )


def waiting(bubble: Bubble) -> Grid | None:
    """Who waits for whom, and why."""
    return grid(
        "waiting",
        "Who waits for whom",
        bubble.blame,
        [
            ("waits", lambda b: b.waiter, None),
            ("for", lambda b: b.culprit, None),
            ("because of", lambda b: spaced(b.cause), None),
            ("per step", lambda b: b.ms, "ms"),
        ],
        few=0,
        csv="blame",
        half=True,
    )
