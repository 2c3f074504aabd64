"""What was checked, worst first: each with its evidence, what it is worth, and what to do."""

from __future__ import annotations

from collections.abc import Iterable

from traceanalyzer.analysis.headline import BUBBLE_TOLERANCE, theory_share
from traceanalyzer.gaps.checks.causes import cause_findings
from traceanalyzer.gaps.checks.experts import expert_findings
from traceanalyzer.review.result import AllToAll, Bubble, Finding, ValidityFigures
from traceanalyzer.review.words import milliseconds, percent

MAX_OVERHEAD_SHARE = 0.02


def findings(
    bubble: Bubble | None, all_to_all: AllToAll | None, validity: ValidityFigures, step_ms: float | None
) -> list[Finding]:
    """Checks that apply to this run; failed ones first, by worth."""
    found = [
        *_validity(validity),
        *_bubble(bubble),
        *_overhead(bubble),
        *cause_findings(bubble),
        *expert_findings(all_to_all, step_ms),
    ]
    return by_worth(found)


def by_worth(found: Iterable[Finding]) -> list[Finding]:
    """Failed checks first, by worth."""
    return sorted(found, key=lambda item: (item.passed, -(item.worth_ms or 0.0)))


def _validity(validity: ValidityFigures) -> list[Finding]:
    if validity.verdict == "unknown":
        return []
    passed = validity.verdict == "faithful"
    figures = [
        f"{name} {percent(value)}"
        for name, value in (
            ("CPU pressure", validity.cpu_pressure_share),
            ("spread of equal actions", validity.action_spread),
        )
        if value is not None
    ]
    return [
        Finding(
            id="timeline.faithful",
            title="The host let the ranks run when they wanted to" if passed else "The host distorted the timeline",
            passed=passed,
            worth_ms=None,
            worth_mfu_points=None,
            evidence="; ".join(validity.reasons) or ", ".join(figures),
            action=None if passed else "repeat the run on idle cores, with at most one rank per core, or paced",
        )
    ]


def _bubble(bubble: Bubble | None) -> list[Finding]:
    theory = theory_share(bubble) if bubble else None
    if bubble is None or bubble.measured_share is None or bubble.phase_ms is None or theory is None:
        return []
    share, name = theory
    excess = bubble.measured_share - share
    passed = excess <= BUBBLE_TOLERANCE * share
    slowest = max(bubble.stages, key=lambda stage: stage.chunk_ms)
    mean = sum(stage.chunk_ms for stage in bubble.stages) / len(bubble.stages)
    return [
        Finding(
            id="bubble.is_the_schedules",
            title="The bubble is the schedule's own" if passed else "The bubble is larger than the schedule's",
            passed=passed,
            worth_ms=None if passed else excess * bubble.phase_ms,
            worth_mfu_points=None,
            evidence=(
                f"dependency {percent(bubble.measured_share)} of the pipeline phase, {name} {percent(share)}; rank "
                f"{slowest.ranks[0]} computes {milliseconds(slowest.chunk_ms)} per step, the mean rank {milliseconds(mean)}"
            ),
            action=None if passed else f"even out the stages: rank {slowest.ranks[0]} computes longest",
            rank=slowest.ranks[0],
        )
    ]


def _overhead(bubble: Bubble | None) -> list[Finding]:
    if bubble is None or bubble.overhead_share is None or bubble.phase_ms is None:
        return []
    passed = bubble.overhead_share <= MAX_OVERHEAD_SHARE
    worst = max(bubble.stages, key=lambda stage: stage.overhead_ms)
    return [
        Finding(
            id="pipeline.starts_on_time",
            title="Actions start when they can" if passed else "Actions start later than they could",
            passed=passed,
            worth_ms=None if passed else bubble.overhead_share * bubble.phase_ms,
            worth_mfu_points=None,
            evidence=(
                f"{percent(bubble.overhead_share)} of the pipeline phase lies between an action's inputs being there "
                f"and its start; most on rank {worst.ranks[0]}, {milliseconds(worst.overhead_ms)} per step"
            ),
            action=None if passed else "look at what the host does between actions: sends, receives, logging",
            rank=worst.ranks[0],
        )
    ]
