"""One story: the largest fault and its culprit, then the largest change and what it saves.

Priced remedies are of three classes (`RemedyClass`). An ideal is never in a sentence. A fault or change is reported above
max(0.5% of the step, noise), whether its worth is known or only a bound of it; below that the first sentence says that no
rank stands out, if ranks were compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from traceanalyzer.gaps.checks.culprits import holder
from traceanalyzer.review import Bubble, Fault, Finding, WhatIfFigures
from traceanalyzer.review.vocabulary import PipelineCause, RemedyClass
from traceanalyzer.review.words import milliseconds, percent

LEAST_SHARE = 0.005
"""Of the step: what is smaller is not a fault worth a sentence."""
MAX_NOISE_SHARE = 0.1
"""Of the step: where steps vary by more, silence about ranks says little."""
_COMPARED = {
    "pipeline.host": "rank, stage or host",
    "pipeline.stage": "rank or stage",
    "ranks.computation": "rank",
}
"""Checks that are made only where the ranks were compared, with who then is not at fault; the first that passed is said."""
_ADDS: dict[PipelineCause, str] = {
    "stage": "computes longer than the other stages",
    "straggler": "computes longer than its stage's other ranks",
    "chunk_comm": "communicates longer inside its chunks",
    "host": "starts actions late because of its host",
    "unexplained": "starts actions late, and why is not recorded",
}
"""Causes of a fault that was blamed but could not be replayed."""


def least_reported_ms(step_ms: float | None, noise_ms: float | None) -> float | None:
    """What a fault or change must be worth to be reported."""
    return None if not step_ms else max(LEAST_SHARE * step_ms, noise_ms or 0.0)


def story_sentences(
    findings: Sequence[Finding],
    step_ms: float | None,
    least: float | None,
    bubble: Bubble | None = None,
    study: WhatIfFigures | None = None,
) -> list[str]:
    """The largest fault, else that none was found; and the largest change. Nothing where nothing could be judged.

    Args:
        findings: all of the review.
        step_ms: the median step.
        least: what a fault or change must be worth to be reported (`least_reported_ms`).
        bubble: whose largest fault is reported where replays do not price it.
        study: the what-if study, reported beside a slow stage.
    """
    if not step_ms or least is None:
        return []
    change = largest(findings, "change", least)
    sentences = _fault_sentences(findings, step_ms, least, bubble) or _nobody(findings, step_ms, least)
    sentences += _study_sentences(study, least)
    return [*sentences, *([_change_sentence(change, step_ms)] if change else [])]


def largest(findings: Sequence[Finding], remedy: RemedyClass, least_ms: float) -> Finding | None:
    """The failed finding of this class that is worth most, if it is worth more than `least_ms`."""
    priced = [
        each for each in findings if each.remedy == remedy and not each.passed and (each.worth_ms or 0.0) > least_ms
    ]
    return max(priced, key=lambda each: each.worth_ms or 0.0, default=None)


def first_fault(findings: Sequence[Finding], least_ms: float) -> Finding | None:
    """The fault that the first sentence names: the priced one that is worth most, else the one with the largest bound."""
    return largest(findings, "fault", least_ms) or _bounded(findings, least_ms)


def _fault_sentences(findings: Sequence[Finding], step_ms: float, least: float, bubble: Bubble | None) -> list[str]:
    """The priced fault that is worth most; the one that others wait for longest, where that may be more."""
    priced, bounded = largest(findings, "fault", least), _bounded(findings, least)
    sentences = [_priced_sentence(priced, step_ms)] if priced else []
    if bounded is not None and (priced is None or (bounded.at_most_ms or 0.0) > (priced.worth_ms or 0.0)):
        sentences.append(_bounded_sentence(bounded, step_ms))
    if sentences or bubble is None or bubble.worth:
        return sentences
    blamed = bubble.largest_fault
    return [_blamed_sentence(blamed, step_ms, bubble)] if blamed and blamed.ms > least else []


def _study_sentences(study: WhatIfFigures | None, least: float) -> list[str]:
    """What the last stage is worth by the study, which a stage's own price leaves out: it moves a stage's level only."""
    if study is None or study.last_stage_share is None or len(study.by_stage) < 2:
        return []
    saved = study.last_stage_share * (study.replayed_ms - study.ideal_ms)
    if saved <= least:
        return []
    usual = f"Were every operation of stage {max(study.by_stage)} as long as is usual for its kind in the job"
    shorter = f"{milliseconds(saved)} shorter ({percent(saved / study.replayed_ms)}; what-if study of stragglers)"
    return [f"{usual}, without its variation, steps would be {shorter}."]


def _bounded(findings: Sequence[Finding], least_ms: float) -> Finding | None:
    bounded = [
        each
        for each in findings
        if each.remedy == "fault" and not each.passed and each.worth_ms is None and (each.at_most_ms or 0.0) > least_ms
    ]
    return max(bounded, key=lambda each: each.at_most_ms or 0.0, default=None)


def _priced_sentence(fault: Finding, step_ms: float) -> str:
    most = "up to " if fault.at_most_basis else ""
    return f"{_sentence(fault.statement or fault.title)}: this costs {most}{_of_step(fault.worth_ms or 0.0, step_ms)}."


def _bounded_sentence(fault: Finding, step_ms: float) -> str:
    if fault.at_most_basis == "excess":
        longer = fault.at_most_ms or 0.0
        share = (
            f"{percent(longer / step_ms)} of a step of {milliseconds(step_ms)}; what its repair would save is not known"
        )
        who = _sentence(fault.culprit or "a rank")
        return f"{who} needs {milliseconds(longer)} per step longer than its peers ({share}): {fault.statement}."
    if fault.at_most_basis == "together":
        return f"{_sentence(fault.statement or fault.title)}: repairing them together saves {_of_step(fault.at_most_ms or 0.0, step_ms)}."
    waited = f"up to {_of_step(fault.at_most_ms or 0.0, step_ms, '; a bound')}"
    return f"Others wait {waited} for {fault.culprit}: {fault.statement}."


def _blamed_sentence(fault: Fault, step_ms: float, bubble: Bubble) -> str:
    stages = {rank: row.stage for row in bubble.stages for rank in row.ranks}
    who = _sentence(holder(fault.rank, stages))
    late = (
        f"{_ADDS.get(fault.cause, 'is late')}: this adds {milliseconds(fault.ms)} to a step of {milliseconds(step_ms)}"
    )
    return f"{who} {late} ({percent(fault.ms / step_ms)}; what its repair would save is not known)."


def _change_sentence(change: Finding, step_ms: float) -> str:
    what = change.statement or change.culprit or change.title
    return f"{_sentence(what)} would save {_of_step(change.worth_ms or 0.0, step_ms)}."


def _sentence(clause: str) -> str:
    return clause[:1].upper() + clause[1:]


def _of_step(ms: float, step_ms: float, kind: str = "") -> str:
    return f"{milliseconds(ms)} of a step of {milliseconds(step_ms)} ({percent(ms / step_ms)}{kind})"


def _nobody(findings: Sequence[Finding], step_ms: float, least_ms: float) -> list[str]:
    """Said only where ranks were compared, or a pipeline's causes were reported, and no fault lacks its size."""
    unpriced = any(each.remedy == "fault" and not each.passed and each.worth_ms is None for each in findings)
    passed = {each.id for each in findings if each.passed}
    who = next((who for check, who in _COMPARED.items() if check in passed), None)
    if unpriced or who is None:
        return []
    if least_ms > MAX_NOISE_SHARE * step_ms:
        limit = _of_step(least_ms, step_ms)
        return [f"Steps vary so much that a {who} would stand out only beyond {limit}: none does."]
    return [f"No {who} holds up the others by more than {_of_step(least_ms, step_ms)}."]
