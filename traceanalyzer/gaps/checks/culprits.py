"""Findings and slow ranks from what ranks do beyond their peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from traceanalyzer.gaps.checks.check import Check, Judged, Verdict
from traceanalyzer.gaps.checks.experts import LOAD_MARGIN, load_fault
from traceanalyzer.gaps.checks.sequences import uneven_sequence_ms
from traceanalyzer.review import Finding, RankFault, StragglerFigures
from traceanalyzer.review.vocabulary import RankCause
from traceanalyzer.review.words import counted, ranks_text, times

MIN_SLOWDOWN = 1.005
"""A rank that slows the step by less is shown as 1.00 times, which says nothing."""
_REPLACED = ("pipeline.chunk_comm", "pipeline.stage", "pipeline.straggler", "pipeline.host", "pipeline.jitter")
"""Findings of the pipeline that may name a culprit's victim, or the culprit with another cause."""
_OF_LINKS = ("all_to_all.links", "pipeline.transfer")
_PASSED: dict[RankCause, str] = {
    "computation": "Ranks that do the same work compute equally long",
    "host": "No host launches later than those of its peers",
    "late_starts": "Kernels start as soon after their launch as those of peers",
}
_FAILED: dict[RankCause, str] = {
    "computation": "A rank computes longer than its peers",
    "host": "The host of a rank launches late",
    "late_starts": "Kernels of a rank start late although they were launched in time",
}
_ACTIONS: dict[RankCause, str] = {
    "computation": "look at the device of {who} (clocks, temperature, other processes) and at its input sizes",
    "host": "look at what the host of {who} does before it launches: data loading, garbage collection, allocation",
    "late_starts": "look at what else uses the device of {who}: another process, throttling, copies",
}


def _judge(cause: RankCause, judged: Judged) -> Verdict | None:
    """The fault that costs most; others of the same cause are counted."""
    faults = [fault for fault in judged.faults if fault.cause == cause]
    if not faults:
        evidence = f"{counted(judged.num_compared, 'rank')} compared at every place of the program: none stands out"
        return Verdict(passed=True, evidence=evidence) if judged.num_compared else None
    worst = max(faults, key=lambda fault: (fault.ms or (fault.high if fault.basis == "together" else 0.0), fault.high))
    others = f"; {counted(len(faults) - 1, 'more rank')} likewise" if len(faults) > 1 else ""
    return Verdict(
        passed=False,
        worth_ms=worst.ms,
        evidence=worst.evidence + others,
        action=_ACTIONS[cause].format(who=f"rank {worst.rank}"),
        rank=worst.rank,
        culprit=(who := holder(worst.rank, judged.stages)),
        statement=_statement(worst, who),
        at_most_ms=worst.high if worst.ms is None else None,
        at_most_basis=worst.basis if worst.ms is None or worst.low == 0 else None,
        window=None if worst.start_ns is None or worst.end_ns is None else (worst.start_ns, worst.end_ns),
    )


def holder(rank: int, stages: Mapping[int, Sequence[int]]) -> str:
    """A rank with its stages, for example `rank 4 (stage 1)`."""
    held = stages.get(rank, ())
    listed = ", ".join(map(str, held))
    return f"rank {rank} ({'stage' if len(held) == 1 else 'stages'} {listed})" if held else f"rank {rank}"


def _statement(fault: RankFault, who: str) -> str:
    """A clause of its own where the fault is priced, else one that follows `for rank 3:`."""
    priced = fault.ms is not None or fault.basis == "together"
    if fault.cause == "computation":
        peers = f"as {ranks_text(fault.peers)}" if fault.peers else "as its peers"
        longer = (
            f"computes {times(fault.slowdown)} as long {peers}" if fault.slowdown else "computes longer than its peers"
        )
        hide = f", and {ranks_text(fault.beside)} {'hold' if len(fault.beside) > 1 else 'holds'} up the step as well"
        return f"{who if priced else 'it'} {longer}{hide if fault.beside else ''}"
    if fault.cause == "host":
        return f"{f'the host of {who}' if priced else 'its host'} launches late"
    if fault.cause == "late_starts":
        return (
            f"{f'kernels of {who}' if priced else 'its kernels'} start late on an idle device, and why is not recorded"
        )
    return f"{who if priced else 'it'} comes last, and why is not recorded"


def _judge_links(judged: Judged) -> Verdict | None:
    """The link that costs most; where none does, what is known of links is reported by other checks."""
    faults = [fault for fault in judged.faults if fault.cause == "link"]
    if not faults:
        return None
    worst = max(faults, key=lambda fault: fault.ms or fault.low)
    to = "" if worst.peer is None else f" to rank {worst.peer}"
    return Verdict(
        passed=False,
        worth_ms=worst.ms,
        evidence=worst.evidence + (f"; {counted(len(faults) - 1, 'more link')} likewise" if len(faults) > 1 else ""),
        rank=worst.rank,
        window=None if worst.start_ns is None or worst.end_ns is None else (worst.start_ns, worst.end_ns),
        culprit=(link := f"the link {'of' if worst.peer is None else 'from'} rank {worst.rank}{to}"),
        statement=(f"{link} is slow" if worst.ms is not None else "its link is slow")
        + (" (its reductions are not counted)" if worst.not_all_counted else ""),
        at_most_ms=worst.high if worst.ms is None else None,
    )


_LINKS = Check(
    id="ranks.link",
    passed="No link is slower than the others",
    failed="A link is slower than the others",
    why="What passes a slow link makes its ranks late for everything after. Links of one run are each other's measure.",
    action="check the link (cables, topology, congestion, what else uses it)",
    judge=_judge_links,
    remedy="fault",
)
_OF_CAUSES = tuple(
    Check(
        id=f"ranks.{cause}",
        passed=_PASSED[cause],
        failed=_FAILED[cause],
        why="Members of a group that do the same work wait for the last of them in every collective.",
        action=_ACTIONS[cause].format(who="the rank"),
        judge=partial(_judge, cause),
        remedy="fault",
    )
    for cause in _PASSED
)
CHECKS = (
    *_OF_CAUSES,
    _LINKS,
)


def without_victims(findings: Sequence[Finding], faults: Sequence[RankFault]) -> list[Finding]:
    """`findings` less those that repeat a named rank's or link's fault, or blame one that waits for it."""
    linked = {rank for fault in faults if fault.cause == "link" for rank in (fault.rank, fault.peer)}
    findings = [each for each in findings if each.passed or each.id not in _OF_LINKS or each.rank not in linked]
    told = [fault for fault in faults if fault.ms is not None or fault.basis == "together"]
    named = {rank for fault in told for rank in (fault.rank, *fault.peers)}
    return [each for each in findings if each.passed or each.id not in _REPLACED or each.rank not in named]


def without_loaded(slow: Sequence[StragglerFigures], judged: Judged) -> list[StragglerFigures]:
    """`slow` less ranks that are slow by no more than uneven load (experts, sequence), reported and priced, explains."""
    load = load_fault(judged)
    members = {rank for group in (judged.all_to_all.groups if judged.all_to_all else []) for rank in group.ranks}
    members |= {rank for each in judged.sequences for rank in each.ranks}
    most = LOAD_MARGIN * max(load[1] if load else 0.0, uneven_sequence_ms(judged))
    return [
        each
        for each in slow
        if each.cause not in ("straggler", "stage or rank") or each.rank not in members or each.cost_ms > most
    ]


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
