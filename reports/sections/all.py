"""The page's sections, in reading order, from the review and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.charts import exchanges, timeline
from reports.page.grids import Columns, record_grid
from reports.page.parts import Finding, Part, Section, Terms
from reports.page.text import WITHHELD, at, number, records, safe_text, shown, withheld_reason
from reports.sections import causes, efficiency, experts, owners, pipeline, quality, recorded, sample
from reports.sections.expert_chain import chain_grid
from reports.sections.headline import declared, tiles
from reports.sections.job import job_facts
from reports.sections.missing import with_missing
from reports.sections.tables import grids
from traceanalyzer.schema import ACCOUNTING, ACTIONS, BUBBLE, COLLECTIVE_SPLITS, EXPERT_CHAIN, ROUTING

Review = Mapping[str, Any]
Tables = Mapping[str, pl.DataFrame]

_SCHEMAS = {
    "actions": ACTIONS,
    "ideal_actions": ACTIONS,
    "bubble": BUBBLE,
    "accounting": ACCOUNTING,
    "collectives": COLLECTIVE_SPLITS,
    "expert_chain": EXPERT_CHAIN,
    "routing": ROUTING,
}


@dataclass(frozen=True, slots=True)
class Timelines:
    """What the timeline section draws; either may be missing."""

    actions: timeline.Timeline | None
    exchanges: exchanges.Exchanges | None

    @property
    def origin_ns(self) -> int | None:
        """Zero of the time axis, on the tables' clock."""
        first = self.actions or self.exchanges
        return first.origin_ns if first else None


def lay_out(tables: Tables) -> Timelines:
    """The timelines of the tables, on one axis."""
    actions = timeline.lay_out(table(tables, "actions"), table(tables, "ideal_actions"))
    return Timelines(actions, exchanges.lay_out(table(tables, "collectives"), actions.origin_ns if actions else None))


def table(tables: Tables, name: str) -> pl.DataFrame:
    """The table called `name`; an empty one of its schema where it is missing."""
    return tables.get(name, pl.DataFrame(schema=_SCHEMAS[name]))


def all_sections(review: Review, tables: Tables, timelines: Timelines, findings: Sequence[Finding]) -> list[Section]:
    """Every section of the page; those that do not apply hold one line saying why."""
    sections = [
        *_sample_section(review),
        _findings_section(review, findings),
        _timeline_section(review, timelines),
        _bubble_section(review, tables),
        _expert_section(review, tables),
        *_recorded_section(review),
        _mfu_section(review),
        _roofline_section(review),
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
    return [with_missing(section, review, tables) for section in sections]


def _section(section_id: str, title: str, parts: Sequence[Part | None], absent: str, lead: str = "") -> Section:
    kept = tuple(part for part in parts if part is not None)
    return Section(id=section_id, title=title, lead=lead if kept else "", parts=kept, absent=absent)


def _because(review: Review, *metrics: str) -> str:
    return f"{WITHHELD.capitalize()}: {withheld_reason(review, *metrics)}."


def _sample_section(review: Review) -> list[Section]:
    """Of a capture that lacks ranks; a complete one needs no such section."""
    if not sample.is_sample(review):
        return []
    lead = "Not all ranks are here. What each captured rank says, what it cannot say, and where to look next."
    return [_section("sample", "Ranks that were captured", sample.parts(review), "", lead)]


def _findings_section(review: Review, findings: Sequence[Finding]) -> Section:
    lead = "What the gaps come from, the worthiest first. Savings are each alone; they do not add up."
    return Section(
        id="findings",
        title="Findings",
        lead=lead if any(not finding.passed for finding in findings) else "",
        parts=tuple(part for part in (causes.stragglers(review), causes.worth(review)) if part is not None),
        absent="No check was made of this run.",
    )


def _timeline_section(review: Review, timelines: Timelines) -> Section:
    ordered = declared(review, "schedule") != "unknown"
    actions = timeline.draw(timelines.actions, ordered=ordered) if timelines.actions else None
    parts = [actions]
    if timelines.exchanges is not None:
        parts.append(exchanges.draw(timelines.exchanges, actions.figure if actions else None))
    lead = "Measured, and above its ideal where there is one, on one time axis; it opens on the step of median length."
    absent = f"No timed pipeline actions and no timed all-to-alls: {withheld_reason(review, 'bubble')}."
    return _section("timeline-section", "Timeline", parts, absent, lead)


def _bubble_section(review: Review, tables: Tables) -> Section:
    if at(review, "bubble", "measured_share") is None and table(tables, "bubble").is_empty():
        told = [causes.excess_chart(review), causes.culprits(review), causes.waiting(review)]
        why = _because(review, "bubble" if at(review, "bubble") is None else "bubble.measured_share")
        return _section("bubble", "Pipeline bubble", told, why, why if any(told) else "")
    parts: list[Part | None] = [pipeline.bubble_chart(review, table(tables, "bubble"))]
    parts += [pipeline.bubble_step_chart(review), _bubble_terms(review), pipeline.stage_grid(review)]
    parts += [
        causes.excess_chart(review),
        causes.culprits(review),
        causes.waiting(review),
        *causes.what_if(review),
        *causes.next_schedules(review),
    ]
    lead = "Time of the pipeline phase in which a stage runs no chunk."
    return _section("bubble", "Pipeline bubble", parts, _because(review, "bubble"), lead)


def _recorded_section(review: Review) -> list[Section]:
    """Only where a communication library recorded something."""
    if not records(review, "recorded", "sources"):
        return []
    lead = "What flight recorder and NCCL Inspector wrote themselves, joined across ranks."
    return [_section("recorded", "Recorded by the library", recorded.recorded(review), "Nothing was recorded.", lead)]


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
            ("Theory in each rank's own span", shown(review, "share", *path, "simulated_span_share")),
            ("Actions that start late", shown(review, "share", "bubble", "overhead_share")),
            ("Exposed transfer", shown(review, "share", "bubble", "transfer_share")),
            ("All idle time of the phase", shown(review, "share", "bubble", "idle_share")),
            ("Pipeline phase", shown(review, "ms", "bubble", "phase_ms")),
            ("Pipeline phase, simulated", shown(review, "ms", *path, "simulated_phase_ms")),
        ),
        half=True,
    )


def _expert_section(review: Review, tables: Tables) -> Section:
    routing, collectives = table(tables, "routing"), table(tables, "collectives")
    exchanged = experts.exchanges(routing, collectives)
    parts: list[Part | None] = [
        experts.matrix_chart(exchanged),
        experts.load_chart(experts.rank_loads(exchanged), review),
        experts.load_chart(experts.expert_loads(routing), review),
        experts.split_chart(collectives),
    ]
    if isinstance(at(review, "all_to_all"), Mapping):
        parts += [experts.facts(review), *causes.expert_causes(review), experts.group_grid(review)]
    parts += [chain_grid(table(tables, "expert_chain")), *causes.sharding(review)]
    lead = "Tokens travel to the ranks that hold their experts, and back."
    return _section("all-to-all", "Experts and all-to-all", parts, _because(review, "all_to_all"), lead)


def _mfu_section(review: Review) -> Section:
    if number(at(review, "mfu", "mfu")) is None:
        return _section("mfu", "MFU", [], _because(review, "mfu"))
    parts = [efficiency.waterfall_chart(review), efficiency.mfu_terms(review), efficiency.convention_grid(review)]
    lead = "Model FLOPs utilization: the model's FLOP per step ÷ what the devices could do in that time."
    return _section("mfu", "MFU", parts, "", lead)


def _roofline_section(review: Review) -> Section:
    is_withheld = any(entry.get("metric") == "roofline" for entry in records(review, "quality", "withheld"))
    absent = _because(review, "roofline") if is_withheld else "These traces hold no tensor shapes."
    return _section("roofline", "Roofline", [efficiency.roofline_grid(review)], absent)


def _owner_section(review: Review, tables: Tables) -> Section:
    account = table(tables, "accounting")
    parts = [owners.owner_chart(account), owners.phase_chart(account), owners.phase_grid(review)]
    return _section("owners", "Owners of time", parts, _because(review, "accounting"))


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
    facts.append(("By the loop's clock, same steps", shown(review, "ms", "step", "wall_clock_ms")))
    facts.append(("Without the profiler", shown(review, "ms", "step", "unprofiled_ms")))
    if at(review, "step", "open_end"):
        facts.append(("End", "open: no following step bounds it, so it has no spread"))
    return _section("steps", "Step time", [pipeline.step_chart(review), Terms(entries=tuple(facts), half=True)], "")


def _memory_section(review: Review) -> Section:
    columns: Columns = (
        ("rank", "rank", "count"),
        ("stages", "stage", None),
        ("microbatches in flight", "in_flight", "count"),
        ("simulated", "predicted_in_flight", "count"),
        ("kept for backward", "peak_bytes", "bytes"),
        ("theory", "predicted_bytes", "bytes"),
        ("allocated, all tensors", "peak_allocated_bytes", "bytes"),
    )
    said = at(review, "memory", "formula")
    note = (
        f"Most at once. Theory: microbatches in flight of the simulated order × {safe_text(said, 300)}." if said else ""
    )
    grid = record_grid(review, ("memory", "stages"), columns, title="By rank", note=note, limit=64)
    return _section("memory", "Memory", [grid], _because(review, "memory"))


def _quality_section(review: Review) -> Section:
    parts = [
        quality.capture_checks(review),
        quality.coverage(review),
        quality.validity(review),
        quality.defects(review),
        quality.clock_effects(review),
        quality.withheld(review),
    ]
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
    parts += [Terms(entries=(("Source", safe_text(path, 300)),)) if path else None]
    parts += [job_facts(review), quality.source_files(review)]
    return _section("provenance", "Provenance", parts, "The review states no provenance.")
