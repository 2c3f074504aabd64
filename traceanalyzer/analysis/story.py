"""One story: the largest fault and its culprit, then the largest change and its price.

Priced remedies are of three classes (`RemedyClass`). An ideal is never in a sentence. A fault or change is told above
max(0.5% of the step, noise); below that the first sentence says that there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from traceanalyzer.review import Finding
from traceanalyzer.review.vocabulary import RemedyClass
from traceanalyzer.review.words import milliseconds, percent

LEAST_SHARE = 0.005
"""Of the step: what is smaller is no fault worth a sentence."""


def story_sentences(findings: Sequence[Finding], step_ms: float | None, noise_share: float = 0.0) -> list[str]:
    """The largest fault, else that none was found; and the largest change. Nothing where nothing could be priced.

    Args:
        findings: all of the review.
        step_ms: the median step.
        noise_share: half-width of the step time's confidence interval over the step time.
    """
    if not step_ms:
        return []
    least = step_ms * max(LEAST_SHARE, noise_share)
    fault, change = largest(findings, "fault", least), largest(findings, "change", least)
    told = [_fault_sentence(fault, step_ms)] if fault else _no_fault(findings, least)
    return [*told, *([_change_sentence(change, step_ms)] if change else [])]


def largest(findings: Sequence[Finding], remedy: RemedyClass, least_ms: float) -> Finding | None:
    """The failed finding of this class that is worth most, if it is worth more than `least_ms`."""
    priced = [
        each for each in findings if each.remedy == remedy and not each.passed and (each.worth_ms or 0.0) > least_ms
    ]
    return max(priced, key=lambda each: each.worth_ms or 0.0, default=None)


def _fault_sentence(fault: Finding, step_ms: float) -> str:
    worth = fault.worth_ms or 0.0
    who = fault.culprit or (f"rank {fault.rank}" if fault.rank is not None else "")
    cause = f": {who}" if who else ""
    return f"{fault.title}{cause}. Its repair saves {_of_step(worth, step_ms)}."


def _change_sentence(change: Finding, step_ms: float) -> str:
    worth = change.worth_ms or 0.0
    what = f" ({change.culprit})" if change.culprit else ""
    return f"{change.title}{what}: it would save {_of_step(worth, step_ms)}."


def _of_step(ms: float, step_ms: float) -> str:
    return f"{milliseconds(ms)} of a step of {milliseconds(step_ms)} ({percent(ms / step_ms)})"


def _no_fault(findings: Sequence[Finding], least_ms: float) -> list[str]:
    """Said only where faults were looked for: ranks were compared, or a pipeline's causes were told; none is unpriced."""
    unpriced = any(each.remedy == "fault" and not each.passed and each.worth_ms is None for each in findings)
    looked = not unpriced and any(each.id in _OF_FAULTS and each.passed for each in findings)
    return [f"No fault above {milliseconds(least_ms)} per step was found."] if looked else []


_OF_FAULTS = ("pipeline.host", "ranks.computation")
"""Checks that are made only where the ranks were compared."""
