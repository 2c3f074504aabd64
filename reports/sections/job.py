"""What is known of the job, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.page.parts import Grid
from reports.page.text import at, quantity, safe_text


def job_facts(review: Mapping[str, Any]) -> Grid | None:
    """Every property with its source, how sure it is, and what says so; None without one."""
    facts = at(review, "job")
    if not isinstance(facts, Mapping) or not facts:
        return None
    return Grid(
        id="job",
        title="The job",
        columns=("property", "value", "known by", "sure", "what says so"),
        rows=tuple(_row(name, fact) for name, fact in facts.items() if isinstance(fact, Mapping)),
        note="Sure: 1 where it was declared or recorded; below, an inference.",
    )


def _row(name: str, fact: Mapping[str, Any]) -> tuple[str, ...]:
    value = fact.get("value")
    places = [_place(entry) for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
    return (
        safe_text(name.replace("_", " "), 60),
        safe_text(places or value, 300),
        safe_text(fact.get("source"), 40),
        quantity(fact.get("confidence"), "number"),
        safe_text(fact.get("basis"), 300),
    )


def _place(entry: Mapping[str, Any]) -> str:
    return f"rank {entry.get('rank')}: {entry.get('pipeline_rank')} of {entry.get('of')}"
