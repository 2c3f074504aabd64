"""Step time, and where every nanosecond of it went."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import ApartReason, Owner, StepPhase
from traceanalyzer.review.words import milliseconds

MAX_EVEN = 0.25
"""Of the median: typical steps whose lengths differ by more are said to differ."""


class StepDuration(Part, frozen=True, kw_only=True):
    """Milliseconds, over the typical steps."""

    median: Annotated[float | None, Meta(description="Of one real step: of an even number, the shorter middle one.")]
    p05: float | None
    p95: float | None
    values: list[float]
    num_steps: Annotated[int, Meta(description="Typical steps: every figure of this file speaks of them.")]


class StepApart(Part, frozen=True, kw_only=True):
    """A captured step that no figure speaks of."""

    step: int
    duration_ms: float
    reason: ApartReason
    excess_ms: Annotated[
        float | None, Meta(description="Beyond the median of the typical steps; null if it is not whole.")
    ]


class StepFigures(Part, frozen=True, kw_only=True):
    """Step time: the longest rank's window, which is the pace of the job."""

    duration_ms: StepDuration
    open_end: Annotated[bool, Meta(description="A window's end was not bounded by a following step.")]
    unprofiled_ms: Annotated[float | None, Meta(description="Median of the same step without profiler, same run.")]
    wall_clock_ms: Annotated[float | None, Meta(description="The same step by the training loop's clock.")]
    basis: Annotated[
        str | None,
        Meta(
            description="What marks steps: `ProfilerStep`, a range by its name, `Optimizer.step`, `actions`, `optimizer "
            "kernels` or `op table`; null if nothing does and the whole capture is one step."
        ),
    ] = None
    basis_conflict: Annotated[str | None, Meta(description="How many steps another mark shows, if it differs.")] = None
    before_ms: Annotated[
        float | None, Meta(description="CPU time of the capture before its first step, if notable: no figure holds it.")
    ] = None
    after_ms: Annotated[float | None, Meta(description="The same after its last step.")] = None
    num_captured: Annotated[int | None, Meta(description="Steps in the capture, those set apart included.")] = None
    noise_ms: Annotated[
        float | None,
        Meta(description="Half the width of the 95% interval of the median; differences below are chance."),
    ] = None
    noise_basis: Annotated[str | None, Meta(description="Resampled, or assumed for fewer than 5 steps.")] = None
    least_reported_ms: Annotated[
        float | None,
        Meta(description="What a fault or change must be worth to be stated first: 0.5% of the step or its noise."),
    ] = None
    set_apart: Annotated[list[StepApart], Meta(description="Captured steps that are not typical.")] = []
    set_apart_cost_ms: Annotated[
        float | None, Meta(description="Σ excess of whole steps set apart ÷ all whole steps: their price per step.")
    ] = None
    mean_all_ms: Annotated[float | None, Meta(description="Mean over all whole steps, those set apart included.")] = (
        None
    )


def spread(duration: StepDuration) -> str:
    """The shortest and longest typical step, where the median does not represent all of them; else empty."""
    if duration.median is None or len(duration.values) < 2:
        return ""
    shortest, longest = min(duration.values), max(duration.values)
    differ = longest - shortest > MAX_EVEN * duration.median
    return f"{milliseconds(shortest)} to {milliseconds(longest)}" if differ else ""


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
    mean_step_ms: Annotated[
        float | None,
        Meta(description="What the owners share: the mean over ranks of their own windows, none longer than the step."),
    ] = None
    phases: Annotated[list[PhaseShare], Meta(description="The same time by phase of the step too; sums to 1.")]
    ambiguous_ns: Annotated[
        int | None,
        Meta(
            description="Exposed time of all ranks and steps in which communication of several mesh dimensions ran at once "
            "and none released a computation: its owner is by precedence. null without devices."
        ),
    ]
