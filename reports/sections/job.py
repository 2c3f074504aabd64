"""What is known of the job, what each number means, and what the review was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from reports.page.glossary import GLOSSARY
from reports.page.grids import grid
from reports.page.model import Grid, Section, Terms
from reports.sections.headline import tiles
from reports.sections.material import Material
from reports.sections.revealed import revealed
from traceanalyzer.review import DimensionBytes, JobFacts, SourceFile, Term
from traceanalyzer.review.words import counted, digits, percent, spaced

MAX_FILES = 64
_DEGREES = ("pp", "dp", "tp", "cp", "ep")
_MOST_PLACES = 8
_SOURCES = ("declared", "recorded", "inferred")
_MOST_NAMES = 4


def job(material: Material) -> Section:
    """Every property of the job, with how it is known."""
    facts = material.review.job
    parts = [job_facts(facts), bytes_by_dimension(material.review.dimension_bytes)]
    return material.section(
        "job", "The job", parts, absent="Nothing is known of the job.", lead=_job_lead(facts), folded=True
    )


def _job_lead(job: JobFacts) -> str:
    """How much is known of the job, and what of it is an inference."""
    stated = [(name, fact) for name, fact in job.known() if fact_text(name, fact.value)]
    by_source = {source: [name for name, fact in stated if fact.source == source] for source in _SOURCES}
    counts = [f"{len(names)} {source}" for source, names in by_source.items() if names]
    inferred = by_source["inferred"]
    least = min((fact.confidence for _, fact in stated), default=1.0)
    guessed = f": {', '.join(spaced(name) for name in inferred[:_MOST_NAMES])}" if inferred else ""
    sure = f", the least certain of them {percent(least)} sure" if inferred and least < 1 else ""
    return (
        f"What is known of the job: {counted(len(stated), 'fact')}, {', '.join(counts)}{guessed}{sure}."
        if stated
        else ""
    )


def bytes_by_dimension(sent: Sequence[DimensionBytes]) -> Grid | None:
    """What every dimension of the mesh sends within hosts and between them."""
    return grid(
        "dimension-bytes",
        "Bytes that a rank sends, by dimension and place",
        sent,
        [
            ("dimension", lambda r: r.dimension, None),
            ("groups", lambda r: r.num_groups, "count"),
            ("of them on several hosts", lambda r: r.num_crossing, "count"),
            ("within a host", lambda r: r.within_bytes, "bytes"),
            ("between hosts", lambda r: r.between_bytes, "bytes"),
            ("host not known", lambda r: r.unplaced_bytes, "bytes"),
        ],
        note="Per step, mean over captured ranks; what the algorithm has to send, collectives as a ring in the order of ranks.",
        csv="placed_bytes",
        few=0 if any(each.between_bytes for each in sent) else len(sent),
    )


def job_facts(job: JobFacts) -> Grid | None:
    """What the traces say first; a terminal leaves out what the run's own description says."""
    known = [(name, fact, fact_text(name, fact.value)) for name, fact in job.known()]
    stated = sorted((row for row in known if row[2]), key=lambda row: row[1].basis == "run.json")
    return grid(
        "job-facts",
        "Properties",
        stated,
        [
            ("property", lambda r: spaced(r[0]), None),
            ("value", lambda r: r[2], None),
            ("known by", lambda r: r[1].source, None),
            ("certainty", lambda r: digits(r[1].confidence), "number"),
            ("basis", lambda r: r[1].basis or "", None),
        ],
        note="Certainty is 1 for what was declared or recorded, and less for an inference.",
        limit=64,
        few=sum(fact.basis != "run.json" for _, fact, _ in stated),
    )


def fact_text(name: str, value: object) -> str:
    """The value of one property in words; empty if there is none."""
    plain: Any = msgspec.to_builtins(value)
    if plain is None:
        return ""
    if name == "layout" and isinstance(plain, Mapping):
        degrees = cast("Mapping[str, object]", plain)
        return " ".join(
            f"{name.upper()}={fact_text(name, degrees.get(name))}" for name in _DEGREES if degrees.get(name)
        )
    if name == "places" and isinstance(plain, list):
        places = cast("list[Mapping[str, object]]", plain)
        few = [f"rank {row['rank']} is {row['pipeline_rank']} of {row['of']}" for row in places[:_MOST_PLACES]]
        return ", ".join(few) + (", …" if len(places) > _MOST_PLACES else "")
    if isinstance(plain, Mapping):
        parts = cast("Mapping[str, object]", plain)
        return ", ".join(f"{key} {fact_text(key, part)}" for key, part in parts.items() if part)
    if isinstance(plain, int) and not isinstance(plain, bool):
        return f"{plain:,}"
    return digits(plain) if isinstance(plain, float) else str(plain)


def method(material: Material) -> Section:
    """What each number means."""
    defined = tuple((tile.title, tile.definition) for tile in tiles(material.review) if tile.definition)
    own = _terms(material.review.method)
    said = {term.lower() for term, _ in (*defined, *(own.entries if own else ()))}
    words = tuple((term, text) for term, text in GLOSSARY.items() if term.lower() not in said)
    numbers = Terms(entries=defined, title="The numbers on top") if defined else None
    parts = [own, numbers, Terms(entries=words, title="Words of this report")] if own or numbers else []
    return material.section(
        "method",
        "Method and definitions",
        parts,
        absent="The review states no method.",
        lead=f"How {counted(len(defined) + len(said - {term.lower() for term, _ in defined}), 'number')} of this run are made, "
        f"and what {counted(len(words), 'word')} of this report mean.",
        in_terminal=False,
        folded=True,
    )


def provenance(material: Material) -> Section:
    """Which files, versions and seeds the review rests on."""
    review = material.review
    path = review.source.path
    is_listed = any(each.term == "Source" for each in review.provenance)
    source = Terms(entries=(("Source", path),)) if path and not is_listed else None
    parts = [_terms(review.provenance), source, revealed(material), source_files(review.files)]
    known = {each.term: each.text for each in review.provenance}
    by = f" by {known['Tool']}" if "Tool" in known else ""
    by += f"; recorded by torch {known['torch']}" if "torch" in known else ""
    lead = f"Made from {counted(len(review.files), 'trace file')}{by}."
    return material.section(
        "provenance",
        "Provenance",
        parts,
        absent="The review states no provenance.",
        lead=lead,
        in_terminal=False,
        folded=True,
    )


def _terms(terms: Sequence[Term]) -> Terms | None:
    return Terms(entries=tuple((each.term, each.text) for each in terms)) if terms else None


def source_files(files: Sequence[SourceFile]) -> Grid | None:
    """The trace files behind the review."""
    return grid(
        "files",
        counted(len(files), "trace file"),
        files,
        [("rank", lambda f: f.rank, None), ("file", lambda f: f.file, None)],
        limit=MAX_FILES,
        few=0,
        folded=True,
    )
