"""The page's sections, in reading order, from the review and the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from reports import pipeline
from reports.parts import Finding, Part, Section, Terms
from reports.text import WITHHELD, at, quantity, records, safe_text, shown, withheld_reason
from reports.timeline import Timeline, draw
from traceanalyzer.schema import ACCOUNTING, BUBBLE

Tables = Mapping[str, pl.DataFrame]


def table(tables: Tables, name: str, schema: pl.Schema) -> pl.DataFrame:
    """The table called `name`; an empty one of `schema` where it is missing."""
    return tables.get(name, pl.DataFrame(schema=schema))


def _section(section_id: str, title: str, parts: list[Part | None], absent: str, lead: str = "") -> Section:
    kept = tuple(part for part in parts if part is not None)
    return Section(id=section_id, title=title, lead=lead if kept else "", parts=kept, absent=absent)


def all_sections(
    review: Mapping[str, Any], tables: Tables, timeline: Timeline | None, findings: list[Finding]
) -> list[Section]:
    """Every section of the page; those that do not apply hold one line saying why."""
    return [
        _findings_section(findings),
        _timeline_section(timeline),
        _bubble_section(review, tables),
        _owner_section(review, tables),
        _step_section(review),
        _quality_section(review),
        _method_section(review),
        _provenance_section(review),
    ]


def _findings_section(findings: list[Finding]) -> Section:
    lead = (
        "What the gaps come from, the worthiest first. Savings are each alone; they do not add up." if findings else ""
    )
    return Section(id="findings", title="Findings", lead=lead, absent="No finding: nothing was checked for this run.")


def _timeline_section(timeline: Timeline | None) -> Section:
    return _section(
        "timeline-section",
        "Timeline",
        [draw(timeline) if timeline else None],
        "No timed pipeline actions in these traces.",
        "Every compute action of the most ordinary step; hover for exact values.",
    )


def _bubble_section(review: Mapping[str, Any], tables: Tables) -> Section:
    facts = [
        ("Measured, dependency ÷ pipeline phase", shown(review, "share", "bubble", "measured_share")),
        ("Same, as ratio to ideal compute", shown(review, "share", "bubble", "measured_ratio")),
        ("Share of the whole step", shown(review, "share", "bubble", "share_of_step")),
        ("Inside each rank's own span", shown(review, "share", "bubble", "span_share")),
        ("Theory, closed form", _closed_form(review)),
        ("Theory, simulated order", shown(review, "share", "bubble", "theory", "simulated_share")),
    ]
    chart = pipeline.bubble_chart(review, table(tables, "bubble", BUBBLE))
    known = at(review, "bubble") is not None or chart is not None
    parts: list[Part | None] = [chart, pipeline.bubble_step_chart(review), pipeline.stage_grid(review)]
    parts += [Terms(title="Both windows, both forms", entries=tuple(facts)), _attribution(review)]
    return _section(
        "bubble",
        "Pipeline bubble",
        parts if known else [],
        f"{WITHHELD.capitalize()}: {withheld_reason(review, 'bubble')}.",
        "Time of the pipeline phase in which a stage runs no chunk.",
    )


def _closed_form(review: Mapping[str, Any]) -> str:
    text = shown(review, "share", "bubble", "theory", "closed_form_share")
    formula, domain = (at(review, "bubble", "theory", key) for key in ("formula", "domain"))
    said = [safe_text(part, 200) for part in (formula, domain) if part]
    return f"{text} — {'; '.join(said)}" if said else text


def _attribution(review: Mapping[str, Any]) -> Terms | None:
    causes = at(review, "bubble", "attribution_ms")
    if not isinstance(causes, Mapping):
        return None
    entries = [(safe_text(cause, 40).replace("_", " "), quantity(ms, "ms")) for cause, ms in causes.items()]
    return Terms(title="Where the bubble comes from, ms per step", entries=tuple(entries))


def _owner_section(review: Mapping[str, Any], tables: Tables) -> Section:
    chart = pipeline.owner_chart(table(tables, "accounting", ACCOUNTING))
    return _section(
        "owners", "Owners of time", [chart], f"{WITHHELD.capitalize()}: {withheld_reason(review, 'accounting')}."
    )


def _step_section(review: Mapping[str, Any]) -> Section:
    duration = ("step", "duration_ms")
    facts = [("Median", shown(review, "ms", *duration, "median"))]
    facts += [
        (f"{word} percentile", shown(review, "ms", *duration, key)) for word, key in (("5th", "p05"), ("95th", "p95"))
    ]
    facts.append(("Without the profiler", shown(review, "ms", "mfu", "unprofiled_step_ms")))
    if at(review, "step", "open_end"):
        facts.append(("End of the step", "open: no following step bounds it, so there is no spread"))
    known = at(review, *duration, "median") is not None
    return _section(
        "steps",
        "Step time",
        [pipeline.step_chart(review), Terms(entries=tuple(facts))] if known else [],
        f"{WITHHELD.capitalize()}: {withheld_reason(review, 'step')}.",
    )


def _quality_section(review: Mapping[str, Any]) -> Section:
    entries = [
        (str(entry.get("metric", "")), safe_text(entry.get("reason", "")))
        for entry in records(review, "quality", "withheld")
    ]
    return _section(
        "quality", "Data quality", [Terms(entries=tuple(entries), title="Withheld")], "No data-quality record."
    )


def _terms(review: Mapping[str, Any], name: str) -> list[Part | None]:
    entries = [(safe_text(e.get("term", ""), 120), safe_text(e.get("text", ""), 2000)) for e in records(review, name)]
    return [Terms(entries=tuple(entries))] if entries else []


def _method_section(review: Mapping[str, Any]) -> Section:
    return _section("method", "Method and definitions", _terms(review, "method"), "The review states no method.")


def _provenance_section(review: Mapping[str, Any]) -> Section:
    return _section("provenance", "Provenance", _terms(review, "provenance"), "The review states no provenance.")
