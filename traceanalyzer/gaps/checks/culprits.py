"""Findings and slow ranks from what ranks do beyond their peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from traceanalyzer.gaps.culprits.culprits import CulpritGap
from traceanalyzer.review.culprits import RankFault
from traceanalyzer.review.pipeline import StragglerFigures
from traceanalyzer.review.result import Finding
from traceanalyzer.review.words import counted

MIN_SLOWDOWN = 1.005
"""A rank that slows the step by less is shown as 1.00 times, which says nothing."""
_REPLACED = ("pipeline.chunk_comm", "pipeline.stage", "pipeline.straggler", "pipeline.host", "pipeline.jitter")
"""Findings of the pipeline that may name a culprit's victim, or the culprit with another cause."""
_TITLES = {
    "computation": "Rank {rank} computes longer than its peers",
    "host": "The host of rank {rank} launches late",
    "late_starts": "Kernels of rank {rank} start late although launched in time",
}
_ACTIONS = {
    "computation": "look at the device of rank {rank} (clocks, temperature, other processes) and at its input sizes",
    "host": "look at what the host of rank {rank} does before it launches: data loading, garbage collection, allocation",
    "late_starts": "look at what else uses the device of rank {rank}: another process, throttling, copies",
}


def culprit_findings(found: CulpritGap) -> list[Finding]:
    """One finding per fault; one that holds where ranks were compared and none stands out."""
    if found.faults:
        return [_finding(fault) for fault in found.faults]
    if not found.num_compared:
        return []
    evidence = (
        f"{counted(found.num_compared, 'rank')} compared at every place of the program: none costs the step anything"
    )
    return [
        Finding(
            id="ranks.alike", title="Ranks that do the same work take equally long", passed=True, worth_ms=None,
            worth_mfu_points=None, evidence=evidence, action=None,
        )
    ]  # fmt: skip


def _finding(fault: RankFault) -> Finding:
    return Finding(
        id=f"ranks.{fault.cause}",
        title=_TITLES[fault.cause].format(rank=fault.rank),
        passed=False,
        worth_ms=fault.ms,
        worth_mfu_points=None,
        evidence=fault.evidence,
        action=_ACTIONS[fault.cause].format(rank=fault.rank),
        rank=fault.rank,
        start_ns=fault.start_ns,
        end_ns=fault.end_ns,
    )


def without_victims(findings: Sequence[Finding], faults: Sequence[RankFault]) -> list[Finding]:
    """`findings` less those of the pipeline that tell a named rank's fault again, or blame one that waits for it."""
    named = {rank for fault in faults if fault.ms is not None for rank in (fault.rank, *fault.peers)}
    return [each for each in findings if each.passed or each.id not in _REPLACED or each.rank not in named]


def slow_ranks(
    known: Sequence[StragglerFigures],
    faults: Sequence[RankFault],
    stages: Mapping[int, list[int]],
    step_ms: float | None,
) -> list[StragglerFigures]:
    """Slow ranks, costliest first: those with a priced fault, and those of the pipeline that no fault explains."""
    priced = {fault.rank: fault.ms for fault in faults if fault.ms is not None and fault.ms > 0}
    explained = {rank for fault in faults if fault.rank in priced for rank in (fault.rank, *fault.peers)}
    found = [
        StragglerFigures(
            rank=fault.rank, stage=stages.get(fault.rank, []), cause=fault.cause,
            slowdown=step_ms / (step_ms - fault.ms), cost_ms=fault.ms,
        )
        for fault in faults
        if fault.ms is not None and step_ms is not None and 0 < fault.ms < step_ms
    ]  # fmt: skip
    found += [each for each in known if each.rank not in explained]
    return sorted((each for each in found if each.slowdown >= MIN_SLOWDOWN), key=lambda each: -each.cost_ms)
