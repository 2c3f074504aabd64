"""What the result rests on: coverage, losses, clocks, the host, and whether the capture is representative."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import (
    AffectedMetric,
    CaptureCheckName,
    CaptureVerdict,
    ClockBasis,
    DefectAction,
    HostVerdict,
    Severity,
    WithheldCode,
)


class Withheld(Part, frozen=True, kw_only=True):
    """A metric that is not given, and why."""

    metric: Annotated[str, Meta(description="Path of the field in this file, for example `mfu.mfu`.")]
    reason: str
    code: Annotated[WithheldCode | None, Meta(description="Its kind, if metrics share it.")] = None


class ClockEffect(Part, frozen=True, kw_only=True):
    """How far the clocks' uncertainty reaches into a figure that compares ranks; summed over ranks and steps."""

    metric: Annotated[str, Meta(description="Path of a field, or the wait of a kind of communication.")]
    value_ms: float
    uncertainty_ms: Annotated[float | None, Meta(description="null: one host's clock, whose error was not measured.")]
    withheld: Annotated[
        bool, Meta(description="The uncertainty is over half the wait, or a quarter of the bubble: not given.")
    ]


class Defect(Part, frozen=True, kw_only=True):
    """One thing that was wrong with the data, and what was done about it: a row of the table `defects`."""

    code: Annotated[str, Meta(description="Stable, for example `json.truncated`.")]
    severity: Severity
    file: str
    rank: int | None
    byte_from: int | None
    byte_to: int | None
    events_affected: int
    action: DefectAction
    affects: list[AffectedMetric]
    message: str
    hint: str

    @property
    def is_loss(self) -> bool:
        """Whether data was lost: what `--strict` refuses."""
        return self.severity in {"loss", "error"}


class CaptureCheckFigures(Part, frozen=True, kw_only=True):
    """One check of the capture."""

    check: CaptureCheckName
    passed: Annotated[bool | None, Meta(description="null if unknown.")]
    value: Annotated[float | None, Meta(description="A share; null if unknown.")]
    limit: Annotated[float, Meta(description="The largest value that passes.")]
    text: Annotated[str, Meta(description="What was found, or why the check could not be made.")]


class OverlapFigures(Part, frozen=True, kw_only=True):
    """Compute actions of one rank that overlap."""

    num_clipped: Annotated[
        int, Meta(description="Overlaps of at most 0.5% of the shorter action: cut at the later start.")
    ]
    clipped_ms: Annotated[float, Meta(description="What was cut in all.")]
    largest_us: Annotated[float, Meta(description="The largest cut.")]
    num_steps_apart: Annotated[int, Meta(description="Steps with a larger overlap: no bubble is measured on them.")]


class Quality(Part, frozen=True, kw_only=True):
    """What the result rests on."""

    representative: Annotated[
        bool | None, Meta(description="Whether no check of the capture failed; null if none could be made.")
    ] = None
    capture_sentence: Annotated[str, Meta(description="The verdict on the capture in words.")] = ""
    capture_checks: list[CaptureCheckFigures] = []
    verdict: CaptureVerdict
    num_ranks_expected: int | None
    num_ranks_found: int
    ranks_lost: Annotated[
        list[int],
        Meta(
            description="Named by the run's description and missing. What a sample leaves out on purpose does not count."
        ),
    ]
    num_steps_used: int
    events_seen: int
    events_kept: int
    events_dropped: Annotated[dict[str, int], Meta(description="Events left out, by reason; they add up with kept.")]
    clock_residual_ns: Annotated[int | None, Meta(description="Largest uncertainty of a rank's clock offset.")]
    clock_basis: ClockBasis
    defects: list[Defect]
    withheld: list[Withheld]
    clock_effects: list[ClockEffect] = []
    overlaps: Annotated[OverlapFigures | None, Meta(description="null if no compute actions overlap.")] = None


class ValidityFigures(Part, frozen=True, kw_only=True):
    """Whether the host let the ranks run when they wanted to."""

    verdict: Annotated[HostVerdict, Meta(description="`unknown`: the host recorded nothing.")]
    cpu_pressure_share: Annotated[float | None, Meta(description="Time in which some task waited for a core.")]
    involuntary_switches_per_second: Annotated[float | None, Meta(description="Of the worst rank.")]
    action_spread: Annotated[float | None, Meta(description="Largest coefficient of variation of equal actions.")]
    reasons: list[str]
