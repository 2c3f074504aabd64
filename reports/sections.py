"""The page's sections, in reading order, from the review and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from reports import efficiency, experts, pipeline, quality
from reports.headline import tiles
from reports.parts import Finding, Grid, Part, Section, Terms
from reports.tables import grids
from reports.text import WITHHELD, at, number, quantity, records, safe_text, shown, withheld_reason
from reports.timeline import Timeline, draw
from traceanalyzer.schema import ACCOUNTING, ACTIONS, BUBBLE, COLLECTIVE_SPLITS, ROUTING

Review = Mapping[str, Any]
Tables = Mapping[str, pl.DataFrame]

_SCHEMAS = {
    "actions": ACTIONS,
    "ideal_actions": ACTIONS,
    "bubble": BUBBLE,
    "accounting": ACCOUNTING,
    "collectives": COLLECTIVE_SPLITS,
    "routing": ROUTING,
}


def table(tables: Tables, name: str) -> pl.DataFrame:
    """The table called `name`; an empty one of its schema where it is missing."""
    return tables.get(name, pl.DataFrame(schema=_SCHEMAS[name]))


def all_sections(
    review: Review, tables: Tables, timeline: Timeline | None, findings: Sequence[Finding]
) -> list[Section]:
    """Every section of the page; those that do not apply hold one line saying why."""
    return [
        _findings_section(review, findings),
        _timeline_section(review, timeline),
        _bubble_section(review, tables),
        _expert_section(review, tables, timeline),
        _mfu_section(review),
        _owner_section(review, tables),
        _step_section(review),
        _memory_section(review),
        _section(
            "tables", "Tables", grids(tables), "No tables came with this review.", "The numbers behind the charts."
        ),
        _quality_section(review),
        _method_section(review),
        _provenance_section(review),
    ]


def _section(section_id: str, title: str, parts: Sequence[Part | None], absent: str, lead: str = "") -> Section:
    kept = tuple(part for part in parts if part is not None)
    return Section(id=section_id, title=title, lead=lead if kept else "", parts=kept, absent=absent)


def _because(review: Review, *metrics: str) -> str:
    return f"{WITHHELD.capitalize()}: {withheld_reason(review, *metrics)}."


def _findings_section(review: Review, findings: Sequence[Finding]) -> Section:
    lead = "What the gaps come from, the worthiest first. Savings are each alone; they do not add up."
    return Section(
        id="findings",
        title="Findings",
        lead=lead if any(not finding.passed for finding in findings) else "",
        parts=tuple(part for part in (_stragglers(review), _worth(review)) if part is not None),
        absent="No check was made of this run.",
    )


def _stragglers(review: Review) -> Grid | None:
    rows = tuple(
        (
            *(
                safe_text(entry.get(key) if entry.get(key) is not None else "–", 120)
                for key in ("rank", "stage", "cause")
            ),
            quantity(entry.get("slowdown"), "ratio"),
            quantity(entry.get("cost_ms"), "ms"),
        )
        for entry in records(review, "stragglers")
    )
    columns = ("rank", "stage", "cause", "slowdown", "cost per step")
    numeric = frozenset({3, 4})
    return (
        Grid(id="stragglers", title="Slow ranks", columns=columns, rows=rows, numeric=numeric, half=True)
        if rows
        else None
    )


def _worth(review: Review) -> Grid | None:
    rows = tuple(
        (safe_text(entry.get("remedy", ""), 200), quantity(entry.get("ms"), "ms"))
        for entry in records(review, "bubble", "worth")
        if number(entry.get("ms"))
    )
    columns = ("remedy", "saved per step")
    return (
        Grid(id="worth", title="What if", columns=columns, rows=rows, numeric=frozenset({1}), half=True)
        if rows
        else None
    )


def _timeline_section(review: Review, timeline: Timeline | None) -> Section:
    return _section(
        "timeline-section",
        "Timeline",
        [draw(timeline) if timeline else None],
        f"No timed pipeline actions: {withheld_reason(review, 'bubble')}.",
        "Every compute action, measured above ideal on one axis; the view opens on the step of median length.",
    )


def _bubble_section(review: Review, tables: Tables) -> Section:
    if at(review, "bubble", "measured_share") is None and table(tables, "bubble").is_empty():
        return _section("bubble", "Pipeline bubble", [], _because(review, "bubble"))
    parts: list[Part | None] = [pipeline.bubble_chart(review, table(tables, "bubble"))]
    parts += [
        pipeline.bubble_step_chart(review),
        _bubble_terms(review),
        pipeline.stage_grid(review),
        _attribution(review),
    ]
    lead = "Time of the pipeline phase in which a stage runs no chunk."
    return _section("bubble", "Pipeline bubble", parts, _because(review, "bubble"), lead)


def _bubble_terms(review: Review) -> Terms:
    path = ("bubble", "theory")
    said = [safe_text(at(review, *path, key), 200) for key in ("formula", "domain", "source") if at(review, *path, key)]
    closed = " — ".join([shown(review, "share", *path, "closed_form_share"), "; ".join(said)]).removesuffix(" — ")
    return Terms(
        title="Both windows, both forms",
        entries=(
            ("Measured: dependency ÷ pipeline phase", shown(review, "share", "bubble", "measured_share")),
            ("Theory, closed form", closed),
            ("Theory, this order simulated", shown(review, "share", *path, "simulated_share")),
            ("Measured, as ratio to ideal compute", shown(review, "share", "bubble", "measured_ratio")),
            ("Measured, in each rank's own span", shown(review, "share", "bubble", "span_share")),
            ("Measured, of the whole step", shown(review, "share", "bubble", "share_of_step")),
        ),
        half=True,
    )


def _attribution(review: Review) -> Terms | None:
    causes = at(review, "bubble", "attribution_ms")
    if not isinstance(causes, Mapping):
        return None
    entries = [
        (safe_text(cause, 40).replace("_", " "), quantity(ms, "ms")) for cause, ms in causes.items() if number(ms) != 0
    ]
    return Terms(title="Where it comes from, per step", entries=tuple(entries), half=True) if entries else None


def _expert_section(review: Review, tables: Tables, timeline: Timeline | None) -> Section:
    routing, collectives = table(tables, "routing"), table(tables, "collectives")
    exchanged = experts.exchanges(routing, collectives)
    parts: list[Part | None] = [
        experts.matrix_chart(exchanged),
        experts.load_chart(experts.rank_loads(exchanged), review),
        experts.load_chart(experts.expert_loads(routing), review),
        experts.split_chart(collectives),
        experts.exchange_timeline(collectives, timeline.origin_ns if timeline else None),
    ]
    if isinstance(at(review, "all_to_all"), Mapping):
        parts += [_exchange_terms(review), experts.group_grid(review)]
    lead = "Tokens travel to the ranks that hold their experts, and back."
    return _section("all-to-all", "Experts and all-to-all", parts, _because(review, "all_to_all"), lead)


def _exchange_terms(review: Review) -> Terms:
    def of(unit: Any, name: str) -> str:  # noqa: ANN401 - a Unit
        return shown(review, unit, "all_to_all", name)

    slowest = number(at(review, "all_to_all", "slowest_rank"))
    return Terms(
        title="In numbers",
        entries=(
            ("Rank load, max ÷ mean", of("ratio", "rank_load_max_over_mean")),
            ("Expert load, max ÷ mean", of("ratio", "expert_load_max_over_mean")),
            ("The same by chance", of("ratio", "chance_max_over_mean")),
            ("Most waited-for rank", WITHHELD if slowest is None else f"rank {slowest:.0f}"),
            ("Cost of the imbalance, per step", of("ms", "imbalance_cost_ms")),
            ("Waiting, share of rank time", of("share", "wait_share")),
            ("Transfer, share of rank time", of("share", "transfer_share")),
            ("Exposed, share of rank time", of("share", "exposed_share")),
        ),
        half=True,
    )


def _mfu_section(review: Review) -> Section:
    if number(at(review, "mfu", "mfu")) is None:
        return _section("mfu", "MFU", [], _because(review, "mfu"))
    parts = [efficiency.waterfall_chart(review), efficiency.mfu_terms(review), efficiency.convention_grid(review)]
    lead = "Model FLOPs utilization: the model's FLOP per step ÷ what the devices could do in that time."
    return _section("mfu", "MFU", parts, "", lead)


def _owner_section(review: Review, tables: Tables) -> Section:
    chart = pipeline.owner_chart(table(tables, "accounting"))
    return _section("owners", "Owners of time", [chart], _because(review, "accounting"))


def _step_section(review: Review) -> Section:
    path = ("step", "duration_ms")
    if number(at(review, *path, "median")) is None:
        return _section("steps", "Step time", [], _because(review, "step"))
    facts = [
        ("Median", shown(review, "ms", *path, "median")),
        ("5th percentile", shown(review, "ms", *path, "p05")),
        ("95th percentile", shown(review, "ms", *path, "p95")),
        ("Steps", shown(review, "count", *path, "num_steps")),
    ]
    if number(at(review, "mfu", "unprofiled_step_ms")) is not None:
        facts.append(("Without the profiler", shown(review, "ms", "mfu", "unprofiled_step_ms")))
    if at(review, "step", "open_end"):
        facts.append(("End", "open: no following step bounds it, so it has no spread"))
    return _section("steps", "Step time", [pipeline.step_chart(review), Terms(entries=tuple(facts), half=True)], "")


def _memory_section(review: Review) -> Section:
    rows = tuple(
        (
            safe_text(entry.get("stage", "?"), 20),
            *(quantity(entry.get(key), "bytes") for key in ("peak_bytes", "predicted_bytes")),
            *(quantity(entry.get(key), "count") for key in ("in_flight", "predicted_in_flight")),
        )
        for entry in records(review, "memory", "stages")
    )
    columns = ("stage", "peak", "predicted", "microbatches in flight", "predicted in flight")
    grid = Grid(id="memory-grid", title="By stage", columns=columns, rows=rows, numeric=frozenset(range(1, 5)))
    return _section("memory", "Memory", [grid] if rows else [], _because(review, "memory"))


def _quality_section(review: Review) -> Section:
    parts = [quality.coverage(review), quality.validity(review), quality.defects(review), quality.withheld(review)]
    return _section("quality", "Data quality", parts, "This review holds no record of the data's quality.")


def _terms(review: Review, name: str) -> list[Part | None]:
    entries = [(safe_text(e.get("term", ""), 120), safe_text(e.get("text", ""), 2000)) for e in records(review, name)]
    return [Terms(entries=tuple(entries))] if entries else []


def _method_section(review: Review) -> Section:
    defined = tuple((tile.title, tile.definition) for tile in tiles(review) if tile.definition)
    parts = [*_terms(review, "method"), Terms(entries=defined, title="The numbers on top") if defined else None]
    return _section("method", "Method and definitions", parts, "The review states no method.")


def _provenance_section(review: Review) -> Section:
    parts: list[Part | None] = _terms(review, "provenance")
    path = at(review, "source", "path")
    parts += [Terms(entries=(("Source", safe_text(path, 300)),)) if path else None, quality.source_files(review)]
    return _section("provenance", "Provenance", parts, "The review states no provenance.")
