"""The timeline: pipeline actions above their ideal, and all-to-alls, on one axis."""

from __future__ import annotations

from reports.charts import exchanges, timeline
from reports.page.model import Section
from reports.sections.material import Material, reason


def section(material: Material) -> Section:
    """Both timelines, as far as they could be measured."""
    schedule = material.review.job.schedule
    ordered = schedule is None or schedule.value != "unknown"
    actions = timeline.chart(material.actions, ordered=ordered) if material.actions else None
    collectives = exchanges.chart(material.exchanges, actions) if material.exchanges else None
    return material.section(
        "timeline-section",
        "Timeline",
        [actions, collectives],
        absent=f"These traces hold neither timed pipeline actions nor timed all-to-alls: {reason(material.review.quality, 'bubble')}.",
        lead="Measured actions above the ideal ones, on one time axis. The view opens on the step of median length.",
    )
