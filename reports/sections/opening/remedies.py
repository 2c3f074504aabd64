"""What to do first: the faults and changes that save most, each with its culprit and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence

from reports.page.model import Remedy
from reports.sections.findings import Viewer
from reports.sections.material import Material
from reports.sections.opening.identity import num_devices
from traceanalyzer.review import Finding, Review
from traceanalyzer.review.words import digits, milliseconds, percent

MAX_REMEDIES = 3
_NS_PER_MS = 1e6
_HOURS = 24.0


def remedies(material: Material) -> tuple[Remedy, ...]:
    """The priced faults and changes, largest first; what is known only as a bound is marked with ≤."""
    return tuple(_remedy(material, each) for each in _largest(material.review)[:MAX_REMEDIES])


def _largest(review: Review) -> Sequence[Finding]:
    """Failed findings with a remedy that is worth more than the noise."""
    least = review.step.least_reported_ms or 0.0
    failed = [each for each in review.findings if not each.passed and each.remedy in ("fault", "change")]
    return sorted((each for each in failed if _worth(each) > least), key=lambda each: -_worth(each))


def _worth(found: Finding) -> float:
    return found.worth_ms or found.at_most_ms or 0.0


def _remedy(material: Material, found: Finding) -> Remedy:
    origin, bound = material.origin_ns, "" if found.worth_ms and not found.at_most_basis else "≤ "
    viewer = Viewer(material.review.source.path, material.table("steps"))
    share, placed = share_of_step(material.review, found), origin is not None and found.start_ns is not None
    hours = device_hours(material, share)
    return Remedy(
        finding=found.id,
        kind="fault" if found.remedy == "fault" else "change",
        title=found.title,
        what=_what(found),
        todo="" if found.culprit and found.action == f"try {found.culprit}" else found.action or "",
        culprit=_culprit(found),
        saves=f"{bound}{milliseconds(_worth(found))}",
        share="" if share is None else f"{bound}{percent(share)}",
        device_hours="" if hours is None else f"{bound}{digits(hours)}",
        start_ms=(found.start_ns - origin) / _NS_PER_MS if placed and found.start_ns and origin is not None else None,
        end_ms=(found.end_ns - origin) / _NS_PER_MS if placed and found.end_ns and origin is not None else None,
        rank=found.rank,
        command=viewer.command(found),
    )


def _what(found: Finding) -> str:
    """What is the matter, or what to change to, as a sentence; the title where the statement repeats the culprit."""
    said = found.statement or ""
    if not said or said.startswith(found.culprit or "\0"):
        said = found.title if found.culprit else ""
    return f"{said[:1].upper()}{said[1:]}"


def _culprit(found: Finding) -> str:
    if found.culprit:
        return found.culprit
    return "" if found.rank is None else f"rank {found.rank}"


def share_of_step(review: Review, found: Finding) -> float | None:
    """The saving's share of the median step."""
    if found.share_of_step is not None:
        return found.share_of_step
    step = review.step.duration_ms.median
    return _worth(found) / step if step else None


def device_hours(material: Material, share: float | None) -> float | None:
    """Device-hours that a day of the whole job would save; None without a share, without GPUs or without their number.

    A job of N devices that trains all day spends 24 N device-hours; the saved share of its steps is that share of them.
    """
    number = num_devices(material.review)
    if share is None or not number or not runs_on_devices(material):
        return None
    return share * number * _HOURS


def runs_on_devices(material: Material) -> bool:
    """Whether the traces hold device work: time of CPU ranks is no GPU's."""
    return material.review.kernels is not None


def remedies_note(material: Material) -> str:
    """What the savings are of, or why there is none."""
    review, shown = material.review, _largest(material.review)
    if review.step.duration_ms.median is None:
        return ""
    if not shown:
        least = review.step.least_reported_ms
        floor = f" worth more than {milliseconds(least)} per step" if least else ""
        return f"No priced fault or change{floor} was found."
    number = num_devices(review)
    hours = ""
    if runs_on_devices(material) and number:
        hours = f" GPU-hours: the share of the step × {number:,} devices × 24 h."
    elif runs_on_devices(material):
        hours = " GPU-hours are not given: the number of the job's devices is not known."
    more = len(shown) - MAX_REMEDIES
    others = f" {more} more in the findings." if more > 0 else ""
    return f"Each saving is for that remedy alone; savings do not add up.{hours}{others}"
