"""The timeline: what every rank does, measured above ideal, on one axis."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from reports.page.model import Section, Timeline, TimelineContent
from reports.sections.material import Material, reason


def section(material: Material) -> Section:
    """The timeline, as far as anything was timed."""
    part = (
        Timeline(id="timeline", make=functools.cache(lambda: _content(material)))
        if material.origin_ns is not None
        else None
    )
    return material.section(
        "timeline-section",
        "Timeline",
        [part],
        absent=f"These traces hold neither timed pipeline actions nor timed kernels: {reason(material.review.quality, 'bubble')}.",
        lead=_lead(material) if part else "",
    )


def _content(material: Material) -> TimelineContent:
    from reports.timeline.layout import lay_out  # noqa: PLC0415 - a terminal does not need arrays
    from reports.timeline.part import content  # noqa: PLC0415

    laid = lay_out(
        material.tables,
        apart=material.set_apart,
        named=material.named,
        windows=material.windows,
        ordered=material.ordered,
    )
    return content(laid, material.named, ordered=material.ordered)


def _lead(material: Material) -> str:
    """What to see, in one sentence."""
    several = material.review.step.duration_ms.num_steps > 1
    opens = f"the view opens on the {'typical step of median length' if several else 'step that was measured'}."
    marked = f" ▲ marks what findings name: {_listed(sorted(material.named))}." if material.named else ""
    if material.table("ideal_actions").is_empty():
        return f"One lane per rank; {opens}{marked}"
    return f"Measured actions above the ideal ones, on one time axis; {opens}{marked}"


def _listed(ranks: Sequence[int]) -> str:
    more = f" and {len(ranks) - 6} more" if len(ranks) > 6 else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks[:6]))}{more}"
