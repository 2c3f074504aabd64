"""The page of a review: the first screen, then its sections in reading order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from reports.page.model import Page, Section
from reports.sections import (
    efficiency,
    findings,
    headline,
    job,
    owners,
    recorded,
    tables,
    timeline,
)
from reports.sections.coverage import quality, sample
from reports.sections.coverage.missing import with_missing
from reports.sections.devices import kernels, roofline
from reports.sections.experts import all_to_all
from reports.sections.material import Material
from reports.sections.opening import opening
from reports.sections.pipeline import bubble, memory, next_configurations, what_if
from traceanalyzer.review import Review

SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    sample.section,
    findings.section,
    timeline.section,
    bubble.section,
    what_if.section,
    next_configurations.section,
    all_to_all.section,
    recorded.section,
    efficiency.section,
    roofline.section,
    owners.section,
    kernels.section,
    memory.steps,
    memory.memory,
    job.job,
    tables.section,
    quality.section,
    job.method,
    job.provenance,
)
"""In reading order. One that does not apply is a line saying why, or None if nobody would miss it."""


def review_page(review: Review, frames: Mapping[str, pl.DataFrame]) -> Page:
    """Everything that a reader of `review` sees. Tables are known by name, and any may be missing."""
    material = Material(review, frames)
    made = [section(material) for section in SECTIONS]
    known = [with_missing(section, material) for section in made if section is not None]
    tool = f"{review.tool.name} {review.tool.version}"
    checked = review.quality.capture_sentence if review.quality.representative else ""  # what failed is a warning
    return Page(
        title="Performance review",
        subject=headline.subject(review),
        path=review.source.path,
        warnings=tuple(review.warnings),
        verdict=headline.verdict(review),
        following=headline.following(review),
        preface=checked,
        tiles=headline.tiles(review),
        opening=opening(material),
        sections=tuple(known),
        withheld_causes=headline.withheld_causes(review),
        footer=f"Made by {tool}, {review.created}.",
    )
