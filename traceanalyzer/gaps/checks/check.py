"""A check: what is asked of a run, why it matters, what to do if it fails, and the function that judges.

Checks are data. Each subject has a file with its checks in `CHECKS`; `registry` gathers them, and the page of all findings
in the documentation is made from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from traceanalyzer.measurements.efficiency.recompute import Recomputed
from traceanalyzer.review import (
    AllToAll,
    Bubble,
    DimensionBytes,
    NextSchedules,
    RankFault,
    RankMemory,
    SequenceBalance,
    ValidityFigures,
)
from traceanalyzer.review.vocabulary import FaultBasis, RemedyClass

Window = Literal["longest_action", "beyond_usual", "late_start", "sent_message", "collective_inside", "held_up"]
"""Which moment of the rank shows a failed check best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What checks look at; None if it does not apply to a run."""

    validity: ValidityFigures
    bubble: Bubble | None = None
    all_to_all: AllToAll | None = None
    next_schedules: NextSchedules | None = None
    step_ms: float | None = None
    noise_share: float = 0.02
    """Half-width of the confidence interval of the step time over the step time."""
    memory: Sequence[RankMemory] = ()
    faults: Sequence[RankFault] = ()
    stages: Mapping[int, Sequence[int]] = field(default_factory=lambda: MappingProxyType({}))
    """The stages that each rank holds; empty without a pipeline."""
    sees_launches: bool = True
    """Whether the traces show when the host launched; op tables and marks do not."""
    num_compared: int = 0
    """Ranks that were compared with peers."""
    sequences: Sequence[SequenceBalance] = ()
    dimension_bytes: Sequence[DimensionBytes] = ()
    flops: tuple[float, float] | None = None
    """Of one step: by the recorded shapes, and as declared."""
    recompute: tuple[str, Recomputed] | None = None
    """What the job declares to compute again, and what the traces show."""

    @property
    def least_ms(self) -> float:
        """Savings below max(0.5% of the step, noise) are not reported as faults or changes."""
        return (self.step_ms or 0.0) * max(0.005, self.noise_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check found."""

    passed: bool
    evidence: str
    worth_ms: float | None = None
    rank: int | None = None
    action: str | None = None
    """For this run; else the check's own."""
    title: str | None = None
    """Where the check's own titles do not say it."""
    window: tuple[int, int] | None = None
    """The moment that shows it, where the judge knows it."""
    culprit: str | None = None
    """Who or what, in words: `rank 3 (stage 1)`."""
    statement: str | None = None
    """Of a fault: who does what, as a clause (`the host of rank 2 launches late`); if it is only bounded, the clause that
    follows its culprit (`its host launches late`). Of a change: what would save time."""
    at_most_ms: float | None = None
    """What others wait for it per step, where only this bound of its worth is known."""
    at_most_basis: FaultBasis | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check."""

    id: str
    passed: str
    """Title if it passed."""
    failed: str
    """Title if it failed."""
    why: str
    """Why it matters, and the limit."""
    action: str
    """What to do, in general."""
    judge: Callable[[Judged], Verdict | None]
    """None if the check does not apply."""
    remedy: RemedyClass | None = None
    """The class of its remedy; None: nothing to repair in the job itself."""
    window: Window | None = None
