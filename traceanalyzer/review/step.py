"""Step time, and where every nanosecond of it went."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import Owner, StepPhase


class StepDuration(Part, frozen=True, kw_only=True):
    """Milliseconds, over the captured steps whose end is known (of all, where none is)."""

    median: Annotated[float | None, Meta(description="Of one real step: of an even number, the shorter middle one.")]
    p05: float | None
    p95: float | None
    values: list[float]
    num_steps: int


class StepFigures(Part, frozen=True, kw_only=True):
    """Step time: the longest rank's window, which is the pace of the job."""

    duration_ms: StepDuration
    open_end: Annotated[bool, Meta(description="A window's end was not bounded by a following step.")]
    unprofiled_ms: Annotated[float | None, Meta(description="Median of the same step without profiler, same run.")]
    wall_clock_ms: Annotated[float | None, Meta(description="The same step by the training loop's clock.")]


class OwnerShare(Part, frozen=True, kw_only=True):
    """Time of one owner, over all ranks and steps."""

    owner: Owner
    share: float
    ms: Annotated[float, Meta(description="Mean per rank and step.")]


class PhaseShare(Part, frozen=True, kw_only=True):
    """Time of one owner in one phase of the step, over all ranks and steps."""

    phase: Annotated[StepPhase, Meta(description="`F`, `B`, `I` and `W` are inside chunks.")]
    owner: Owner
    share: Annotated[float, Meta(description="Of all time of all ranks.")]
    ms: Annotated[float, Meta(description="Mean per rank and step.")]


class Accounting(Part, frozen=True, kw_only=True):
    """Where every nanosecond went; shares sum to 1. By rank and step in the table `accounting`."""

    owners: list[OwnerShare]
    phases: Annotated[list[PhaseShare], Meta(description="The same time by phase of the step too; sums to 1.")]
    ambiguous_ns: Annotated[
        int | None,
        Meta(
            description="Exposed time of all ranks and steps in which communication of several mesh dimensions ran at once "
            "and none released a computation: its owner is by precedence. null without devices."
        ),
    ]
