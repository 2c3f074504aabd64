"""What a capture covers, in a sentence, and what its ranks did with their time."""

from __future__ import annotations

from collections.abc import Sequence

from traceanalyzer.gaps.review import OwnerShare, Quality, StepFigures
from traceanalyzer.gaps.wording import counted, milliseconds, percent

_OWNERS = {
    "compute": "computes",
    "transfer": "transfers exposed data",
    "wait": "waits for other ranks",
    "communication": "is in exposed communication (wait and transfer cannot be told apart without the other ranks)",
    "copy": "copies",
    "queued": "is held back by other work on the device",
    "launch_gap": "is between launches",
    "host": "waits for its host",
    "unknown": "is unaccounted for",
}
MIN_SHARE = 0.01


def ledger_sentences(
    step: StepFigures, owners: Sequence[OwnerShare], quality: Quality, ranks: Sequence[int]
) -> list[str]:
    """Coverage, step time and where the time went: what can be said of any capture."""
    if step.duration_ms.median is None:
        return ["These traces hold no step that could be measured."]
    shown = [row for row in sorted(owners, key=lambda row: -row.share) if row.share >= MIN_SHARE]
    if not shown:
        return [f"{who(quality, ranks)}: the captured steps have no length."]
    spent = ", ".join(f"{_OWNERS[row.owner]} for {percent(row.share)}" for row in shown)
    steps = f"{counted(step.duration_ms.num_steps, 'step')} of {milliseconds(step.duration_ms.median)}"
    return [f"{who(quality, ranks)}, {steps}: {subject(ranks)} {spent} of its time."]


def who(quality: Quality, ranks: Sequence[int]) -> str:
    """Which ranks of how many, for example `Rank 12 only (1 of 1,024)`."""
    total = f"{quality.num_ranks_expected:,}" if quality.num_ranks_expected else "an unknown number"
    if len(ranks) == quality.num_ranks_expected:
        return "All ranks" if len(ranks) > 1 else "The only rank"
    if len(ranks) == 1:
        return f"Rank {ranks[0]} only (1 of {total})"
    return f"{len(ranks)} of {total} ranks"


def subject(ranks: Sequence[int]) -> str:
    """Whose time the ledger is."""
    return "it" if len(ranks) == 1 else "the mean rank"
