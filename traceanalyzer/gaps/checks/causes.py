"""Why pipeline steps are longer than their ideal: findings, and one sentence for the first screen."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from traceanalyzer.review.pipeline import AttributionMs, Culprit, RemedyWorth
from traceanalyzer.review.result import Bubble, Finding
from traceanalyzer.review.words import milliseconds, percent

MIN_SHARE = 0.01
"""A cause below this share of the pipeline phase is none worth a finding."""

_TITLES = {
    "stage": ("Stages take equally long", "A stage is slower than the others"),
    "straggler": ("No rank falls behind its stage", "A rank is slower than its stage's other ranks"),
    "transfer": ("Messages between stages cost nothing", "Messages between stages delay the step"),
    "chunk_comm": ("Communication inside chunks is even", "Communication inside chunks delays the step"),
    "host": ("The host keeps up", "The host starts actions late"),
    "jitter": ("Equal actions take equally long", "Equal actions vary in length"),
}
_ACTIONS = {
    "stage": "move layers from stage {stages} to others, or look at what its device does",
    "straggler": "look at the device of rank {rank}: clocks, temperature, neighbours",
    "transfer": "look at the link that rank {rank} sends over, or overlap its messages",
    "chunk_comm": "look at the collectives inside the actions of rank {rank}",
    "host": "look at what the host of rank {rank} does between actions",
    "jitter": "look for what disturbs rank {rank}: garbage collection, other processes, varying sequence lengths",
}

_PHRASES = {
    "stage": "slow computation on {who}",
    "straggler": "slow computation on {who}",
    "transfer": "messages that {who} sends",
    "chunk_comm": "communication inside the chunks of {who}",
    "host": "late starts by the host of {who}",
    "jitter": "varying durations on {who}",
    "slack": "waiting of the schedule's own on {who}",
    "outside_sample": "waiting for {who}",
    "unexplained": "late starts without a known reason on {who}",
}


def cause_findings(bubble: Bubble | None) -> list[Finding]:
    """One finding per cause: the rank that adds most, what it adds, and what its remedy alone would save."""
    if bubble is None or bubble.attribution_ms is None:
        return []
    told = [cause for cause in _TITLES if cause != "straggler" or bubble.stragglers_separable]
    return [_finding(cause, bubble, bubble.attribution_ms) for cause in told]


def _finding(cause: str, bubble: Bubble, attribution: AttributionMs) -> Finding:
    total: float = getattr(attribution, cause)
    share = total / attribution.measured
    worst = next((each for each in _merged(bubble.culprits) if each.cause == cause), None)
    passed = share < MIN_SHARE or worst is None
    saved = _best(cause, worst, bubble.worth)
    evidence = f"adds {milliseconds(total)} to a phase of {milliseconds(attribution.measured)} ({percent(share)})"
    action = None
    if not passed and worst is not None:
        evidence += f", {milliseconds(worst.ms)} of it by {_who(worst)}"
        if cause == "stage" and not bubble.stragglers_separable:
            evidence += ": the stage or its rank, not separable with fewer than 3 replicas"
        stages = ", ".join(map(str, worst.stages)) or "?"
        action = _ACTIONS[cause].format(rank=worst.culprit, stages=stages)
        if saved is not None:
            evidence += f"; replayed, '{saved.remedy}' saves {milliseconds(saved.ms)}"
    return Finding(
        id=f"pipeline.{cause}",
        title=_TITLES[cause][not passed],
        passed=passed,
        worth_ms=None if passed or saved is None else saved.ms,
        worth_mfu_points=None,
        evidence=evidence,
        action=action,
        rank=worst.culprit if worst is not None and not passed else None,
    )


def _best(cause: str, worst: Culprit | None, worth: Iterable[RemedyWorth]) -> RemedyWorth | None:
    """The worth of repairing the worst culprit: of its stage or of the rank, else of the whole cause."""
    remedies = [each for each in worth if each.cause == cause]
    if worst is None:
        return None
    own = [each for each in remedies if each.rank == worst.culprit or each.stage in worst.stages]
    overall = [each for each in remedies if each.rank is None and each.stage is None]
    return max(own or overall, key=lambda each: each.ms, default=None)


def _merged(culprits: Iterable[Culprit]) -> list[Culprit]:
    """Culprits by size, those of one slow stage taken together: which of its ranks is on the longest path is chance."""
    merged: dict[tuple[str, object], Culprit] = {}
    for each in culprits:
        key = (each.cause, tuple(each.stages) if each.cause == "stage" else each.culprit)
        known = merged.get(key)
        merged[key] = replace(known, ms=known.ms + each.ms, culprit=None) if known else each
    return sorted(merged.values(), key=lambda each: -each.ms)


def _who(culprit: Culprit) -> str:
    stages = ", ".join(map(str, culprit.stages))
    if culprit.culprit is None:
        return f"stage {stages}" if stages else "ranks that were not captured"
    return f"rank {culprit.culprit} (stage {stages})" if stages else f"rank {culprit.culprit}"


def cause_sentences(bubble: Bubble | None) -> list[str]:
    """What lengthens the pipeline step most, if anything does."""
    attribution = bubble.attribution_ms if bubble else None
    if bubble is None or attribution is None or not bubble.culprits:
        return []
    if attribution.outside_sample:
        return []  # with stages missing it holds the schedule's own waiting for them, which is no fault
    late = attribution.measured - attribution.ideal
    worst = _merged(bubble.culprits)[0]
    if min(worst.ms, late) < MIN_SHARE * attribution.measured:
        return []
    saved = _best(worst.cause, worst, bubble.worth)
    worth = f"; '{saved.remedy}' alone would save {milliseconds(saved.ms)}" if saved is not None else ""
    cause = f"{_PHRASES[worst.cause].format(who=_who(worst))}, {milliseconds(worst.ms)}{worth}"
    return [f"Steps take {milliseconds(late)} longer than this order at median times; the largest cause is {cause}."]


def with_mfu_points(findings: list[Finding], mfu: float | None, step_ms: float | None) -> list[Finding]:
    """Fill `worth_mfu_points`: MFU is work over time, so a step shorter by `worth_ms` reaches mfu · step ÷ (step - worth)."""
    if mfu is None or not step_ms:
        return findings
    return [
        replace(each, worth_mfu_points=100 * mfu * (step_ms / (step_ms - each.worth_ms) - 1))
        if each.worth_ms is not None and each.worth_mfu_points is None and 0 < each.worth_ms < step_ms
        else each
        for each in findings
    ]
