"""What a section says where a table that it draws did not come with the review."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from reports.page.parts import Note, Section
from reports.page.text import at

_NEEDED = {
    "timeline-section": (("bubble", "actions"), ("bubble", "ideal_actions"), ("all_to_all", "collectives")),
    "bubble": (("bubble", "bubble"),),
    "all-to-all": (("all_to_all", "routing"), ("all_to_all", "collectives"), ("all_to_all", "expert_chain")),
    "owners": (("accounting", "accounting"),),
}
"""Tables by section, each with the part of the review that says whether there is anything to draw."""


def with_missing(section: Section, review: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> Section:
    """The section with a line naming the tables that it would draw and that are not here."""
    needed = _NEEDED.get(section.id, ())
    names = [name for part, name in needed if at(review, part) is not None and name not in tables]
    if not names:
        return section
    listed = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    plural = "s" if len(names) > 1 else ""
    line = f"This section needs the table{plural} {listed}, which did not come with this review."
    return replace(section, parts=(*section.parts, Note(text=line))) if section.parts else replace(section, absent=line)
