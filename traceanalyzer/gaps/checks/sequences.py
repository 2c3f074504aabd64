"""Whether the members of a context-parallel group attend to equally much."""

from __future__ import annotations

from traceanalyzer.gaps.checks.check import Check, Judged, Verdict
from traceanalyzer.review.words import counted, milliseconds, ranks_text, times


def _judge(judged: Judged) -> Verdict | None:
    """The contiguous groups; worth is that of all of them together."""
    if not judged.sequences:
        return None
    first = judged.sequences[0]
    more = f" and {counted(len(judged.sequences) - 1, 'more group')}" if len(judged.sequences) > 1 else ""
    others = f",{more} likewise" if more else ""
    evidence = (
        f"attention of ranks {ranks_text(first.ranks).removeprefix('ranks ')} grows along the group{others}: the last member attends for "
        f"{times(first.max_over_mean)} the mean, and contiguous parts of a causal sequence give "
        f"{times(first.closed_form_max_over_mean)}"
    )
    worth = None if first.ms is None else max(first.ms, 0.0)
    passed = worth is not None and worth <= judged.least_ms
    if worth is not None:
        evidence += f"; replayed, the zig-zag layout saves {milliseconds(worth)} per step"
    return Verdict(
        passed=passed,
        worth_ms=None if passed else worth,
        evidence=evidence,
        rank=first.ranks[-1],
        culprit=f"contiguous parts on {ranks_text(first.ranks)}",
        statement=f"a zig-zag layout of the sequence on {ranks_text(first.ranks)}{more}",
    )


def uneven_sequence_ms(judged: Judged) -> float:
    """What the zig-zag layout would save per step; 0 where that is not known, or too little to be told."""
    verdict = _judge(judged)
    return 0.0 if verdict is None or verdict.passed else verdict.worth_ms or 0.0


CHECKS = (
    Check(
        id="sequence.balanced",
        passed="How the sequence is cut costs next to nothing",
        failed="A zig-zag layout of the sequence would shorten the step",
        why="With causal attention a later part of the sequence has more to attend to, and the group waits for the last one.",
        action="give member i of c the parts i and 2c - 1 - i of 2c (zig-zag, load-balanced context parallelism)",
        judge=_judge,
        remedy="change",
    ),
)
