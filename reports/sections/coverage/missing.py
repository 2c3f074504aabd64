"""What a section says if a table that it draws did not come with the review."""

from __future__ import annotations

from dataclasses import replace

from reports.page.model import Note, Section
from reports.sections.material import Material

_DRAWN = {
    "timeline-section": ("actions", "ideal_actions", "collectives"),
    "bubble": ("bubble",),
    "all-to-all": ("routing", "collectives", "expert_chain"),
    "owners": ("accounting",),
}
"""The tables that a section draws."""


def with_missing(section: Section, material: Material) -> Section:
    """The section with a line that names the tables it would draw and that are not here."""
    names = [name for name in _DRAWN.get(section.id, ()) if name not in material.tables and _measured(name, material)]
    if not names:
        return section
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    line = f"This section needs the table{'s' if len(names) > 1 else ''} {listed}, which did not come with this review."
    return replace(section, parts=(*section.parts, Note(text=line))) if section.parts else replace(section, absent=line)


def _measured(name: str, material: Material) -> bool:
    """Whether the review measured what the table holds: else nobody misses it."""
    review = material.review
    if name == "accounting":
        return bool(review.accounting.owners)
    if name in {"actions", "ideal_actions", "bubble"}:
        return review.bubble is not None
    return review.all_to_all is not None
