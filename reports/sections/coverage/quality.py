"""How far the data can be trusted: coverage, losses, defects, validity, and what is withheld."""

from __future__ import annotations

from collections.abc import Sequence

from reports.page.grids import figures, grid
from reports.page.model import Grid, Section, Terms
from reports.sections.material import Material, withheld
from traceanalyzer.review import CaptureCheckFigures, ClockEffect, Defect, Quality, ValidityFigures
from traceanalyzer.review.words import NOTHING, counted, milliseconds, n_of_n, percent, quantity, spaced

MAX_DEFECTS = 100
_SEVERITIES = ("info", "repair", "loss", "error")
_EFFECTS = {
    "bubble.measured_share": "dependency (the bubble)",
    "wait of p2p": "waits for messages",
    "wait of all_to_all": "waits at all-to-alls",
}
"""What a clock effect is of, in words."""
_RESULTS = {True: "passed", False: "failed", None: "not known"}


def section(material: Material) -> Section:
    """What the result rests on."""
    review = material.review
    return material.section(
        "quality",
        "Data quality",
        [
            coverage(review.quality),
            validity(review.validity),
            capture_checks(review.quality),
            defects(review.quality),
            clock_effects(review.quality),
            overlaps(review.quality),
            withheld_grid(review.quality),
        ],
        lead=_lead(review.quality),
    )


def _lead(quality: Quality) -> str:
    """How much was found and kept, what is wrong with it, and how much is withheld for it."""
    ranks = n_of_n(quality.num_ranks_found, quality.num_ranks_expected)
    lost = quality.events_seen - quality.events_kept
    share = lost / quality.events_seen if quality.events_seen else 0.0
    kept = (
        "with every event"
        if not lost
        else f"with all but {lost:,} of {quality.events_seen:,} events ({percent(share)})"
    )
    defects = sorted(quality.defects, key=lambda each: _SEVERITIES.index(each.severity))
    noun = "remark" if defects and defects[-1].severity == "info" else "defect"
    gravest = defects[-1].message.partition(": ")[0] if defects else ""
    wrong = (
        f"; {counted(len(defects), noun)}, the gravest: {gravest}"
        if len(defects) > 1
        else f"; 1 {noun}: {gravest}"
        if defects
        else "; without a defect"
    )
    missing = f"; {counted(len(quality.withheld), 'figure')} withheld" if quality.withheld else "; nothing withheld"
    return f"{ranks}, {kept}{wrong}{missing}."


def coverage(quality: Quality) -> Terms | None:
    """What was found of what was expected."""
    lost = [f"{count:,} {spaced(cause)}" for cause, count in quality.events_dropped.items() if count]
    residual = quality.clock_residual_ns
    clocks = (
        spaced(quality.clock_basis) if not residual else f"{quantity(residual, 'ns')} ({spaced(quality.clock_basis)})"
    )
    expected = "an unknown number" if quality.num_ranks_expected is None else f"{quality.num_ranks_expected:,}"
    return figures(
        f"Capture {quality.verdict}",
        [
            ("Ranks", f"{quality.num_ranks_found:,} of {expected}"),
            ("Steps used", quality.num_steps_used, "count"),
            ("Events kept", f"{quality.events_kept:,} of {quality.events_seen:,}"),
            ("Events dropped", ", ".join(lost)),
            ("Clocks agree within" if residual else "Clocks", clocks),
        ],
    )


def validity(found: ValidityFigures) -> Terms | None:
    """Whether the machine disturbed the measurement."""
    return figures(
        f"Timeline {found.verdict}",
        [
            ("Time under CPU pressure", found.cpu_pressure_share, "share"),
            ("Involuntary switches per second", found.involuntary_switches_per_second, "number"),
            ("Spread of equal actions", found.action_spread, "share"),
            *(("Because", reason) for reason in found.reasons),
        ],
    )


def capture_checks(quality: Quality) -> Grid | None:
    """Whether the capture shows what the job does without a profiler."""
    return grid(
        "capture",
        "Is the capture representative?",
        quality.capture_checks,
        [
            ("check", lambda c: spaced(c.check), None),
            ("result", _result, None),
            ("measured", lambda c: c.value, "share"),
            ("at most", lambda c: c.limit, "share"),
            ("what was found", lambda c: c.text, None),
        ],
        note=quality.capture_sentence,
        few=0,
    )


def _result(check: CaptureCheckFigures) -> str:
    return _RESULTS[check.passed]


def defects(quality: Quality) -> Grid | None:
    """Problems of the data, as the reader reported them; what several files share is one row."""
    alike = dict[tuple[str, str, str], list[Defect]]()
    for each in quality.defects:
        alike.setdefault((each.code, each.action, each.hint), []).append(each)
    return grid(
        "defects",
        "Defects of the data",
        list(alike.values()),
        [
            ("severity", lambda d: d[0].severity, None),
            ("code", lambda d: d[0].code, None),
            ("where", _places, None),
            ("events", lambda d: sum(each.events_affected for each in d), "count"),
            ("what", _what, None),
            ("done", lambda d: d[0].action, None),
            ("affects", lambda d: d[0].affects, None),
            ("remedy", lambda d: d[0].hint, None),
        ],
        limit=MAX_DEFECTS,
        few=0,
    )


def _places(alike: Sequence[Defect]) -> str:
    first, more = alike[0], len(alike) - 1
    rank = "" if first.rank is None else f"rank {first.rank}"
    place = "" if first.byte_from is None else f"bytes {first.byte_from} to {first.byte_to}"
    return ", ".join(part for part in (first.file, rank, place) if part) + (f" and {more} more" if more else "")


def _what(alike: Sequence[Defect]) -> str:
    """The message; of several files what their messages share."""
    messages = {each.message for each in alike}
    return alike[0].message if len(messages) == 1 else alike[0].message.partition(": ")[0]


def overlaps(quality: Quality) -> Terms | None:
    """Compute actions of one rank that overlap: by rounding, and by more."""
    found = quality.overlaps
    if found is None:
        return None
    cut = f"{counted(found.num_clipped, 'overlap')} of at most 0.5% of the shorter action, {milliseconds(found.clipped_ms)} in all"
    apart = f"{counted(found.num_steps_apart, 'step')} with larger overlaps"
    return Terms(
        title="Actions that overlap", entries=(("Cut at the later start", cut), ("Left out of the bubble", apart))
    )


def clock_effects(quality: Quality) -> Grid | None:
    """How far the clocks' uncertainty reaches into figures that compare ranks."""
    return grid(
        "clock-effects",
        "Uncertainty from clocks",
        quality.clock_effects,
        [
            ("time", lambda e: _EFFECTS.get(e.metric, e.metric), None),
            ("over all ranks and steps", lambda e: e.value_ms, "ms"),
            ("clocks", _uncertainty, "ms"),
            ("result", lambda e: "withheld" if e.withheld else "given", None),
        ],
    )


def _uncertainty(effect: ClockEffect) -> str:
    return "error not measured" if effect.uncertainty_ms is None else f"± {milliseconds(effect.uncertainty_ms)}"


def withheld_grid(quality: Quality) -> Grid | None:
    """Metrics without a value, once for each reason."""
    rows = withheld(quality)
    return grid(
        "withheld",
        "Withheld",
        rows,
        [("metric", lambda r: r[0], None), ("reason", lambda r: r[1] or NOTHING, None)],
        limit=max(1, len(rows)),
        few=0,
    )
