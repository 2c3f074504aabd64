"""`review.json`: the one result. The report, comparisons and gates read nothing else (and the tables).

Every field is documented where it is declared; the JSON Schema in the package is made from these declarations. A metric
that cannot be trusted is `null` and listed in `quality.withheld` with the reason. Shares are 0 to 1.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from traceanalyzer.gaps.step_review import StepFigures
from traceanalyzer.review.capture import CaptureCheckFigures
from traceanalyzer.review.efficiency import RooflineShape
from traceanalyzer.review.experts import AllToAll, ExpertSharding
from traceanalyzer.review.memory import Memory
from traceanalyzer.review.pipeline import (
    AttributionMs,
    BubbleTheory,
    Culprit,
    NextSchedules,
    RemedyWorth,
    StageBubble,
    StepBubble,
    StragglerFigures,
    WaiterBlame,
    WhatIfFigures,
)
from traceanalyzer.review.recorded import Recorded
from traceanalyzer.review.sample import Figure, Sample

SCHEMA_VERSION = 1


class Withheld(Struct, frozen=True, kw_only=True):
    """A metric that is not given, and why."""

    metric: Annotated[str, Meta(description="Path of the field in this file, for example `mfu.mfu`.")]
    reason: str


class Fact(Struct, frozen=True, kw_only=True):
    """A property of the job and how it is known."""

    value: Any
    source: Annotated[
        str,
        Meta(description="`declared` (run.json, a job's file or an option), `recorded` (in the traces) or `inferred`."),
    ]
    confidence: Annotated[float, Meta(description="0 to 1; 1 unless inferred.")] = 1.0
    basis: Annotated[str | None, Meta(description="What says so, in words; null where the source says it all.")] = None


class Tile(Struct, frozen=True, kw_only=True):
    """One headline number beside its theory."""

    id: Annotated[str, Meta(description="`bubble`, `all_to_all`, `mfu` or `step_time`.")]
    title: str
    value_text: Annotated[str | None, Meta(description="Measured value with unit; null if withheld.")]
    theory_text: Annotated[str | None, Meta(description="What theory says, with the name of the theory.")]
    gap_text: Annotated[str | None, Meta(description="Measured against theory in words.")]
    status: Annotated[str, Meta(description="`good`, `bad`, `neutral` or `withheld`.")]
    note: Annotated[str | None, Meta(description="Reason if withheld, else what to know when reading it.")]
    definition: str


class Headline(Struct, frozen=True, kw_only=True):
    """The first screen."""

    sentences: list[str]
    tiles: list[Tile]


class ClockEffect(Struct, frozen=True, kw_only=True):
    """How far the clocks' uncertainty reaches into a figure that compares ranks; summed over ranks and steps."""

    metric: Annotated[str, Meta(description="Path of a field, or the wait of a kind of communication.")]
    value_ms: float
    uncertainty_ms: Annotated[float | None, Meta(description="null: one host's clock, whose error was not measured.")]
    withheld: Annotated[
        bool, Meta(description="The uncertainty is over half the wait, or a quarter of the bubble: not given.")
    ]


class Quality(Struct, frozen=True, kw_only=True):
    """What the result rests on."""

    representative: Annotated[
        bool | None, Meta(description="Whether no check of the capture failed; null where none could be made.")
    ] = None
    capture_sentence: Annotated[str, Meta(description="The verdict on the capture in words.")] = ""
    capture_checks: list[CaptureCheckFigures] = []
    verdict: Annotated[str, Meta(description="`complete`, `sampled`, `partial` or `unusable`.")]
    num_ranks_expected: int | None
    num_ranks_found: int
    ranks_lost: Annotated[
        list[int], Meta(description="Promised by the run's description and not here; not sampled out.")
    ]
    num_steps_used: int
    events_seen: int
    events_kept: int
    events_dropped: Annotated[dict[str, int], Meta(description="Events left out, by reason; they add up with kept.")]
    clock_residual_ns: Annotated[int | None, Meta(description="Largest uncertainty of a rank's clock offset.")]
    clock_basis: Annotated[
        str, Meta(description="`single_rank`, `same_boot`, `same_host`, `recorded`, `matched` or `unknown`.")
    ]
    defects: list[dict[str, Any]]
    withheld: list[Withheld]
    clock_effects: list[ClockEffect] = []


class ValidityFigures(Struct, frozen=True, kw_only=True):
    """Whether the host let the ranks run when they wanted to."""

    verdict: Annotated[str, Meta(description="`faithful`, `distorted` or `unknown`.")]
    cpu_pressure_share: Annotated[float | None, Meta(description="Time in which some task waited for a core.")]
    involuntary_switches_per_second: Annotated[float | None, Meta(description="Of the worst rank.")]
    action_spread: Annotated[float | None, Meta(description="Largest coefficient of variation of equal actions.")]
    reasons: list[str]


class OwnerShare(Struct, frozen=True, kw_only=True):
    """Time of one owner, over all ranks and steps."""

    owner: str
    share: float
    ms: Annotated[float, Meta(description="Mean per rank and step.")]


class PhaseShare(Struct, frozen=True, kw_only=True):
    """Time of one owner in one phase of the step, over all ranks and steps."""

    phase: Annotated[
        str,
        Meta(
            description="`F`, `B`, `I`, `W` (inside chunks), `optimizer`, `grad_sync`, `before_chunks`, `between_chunks`, `other`."
        ),
    ]
    owner: str
    share: Annotated[float, Meta(description="Of all time of all ranks.")]
    ms: Annotated[float, Meta(description="Mean per rank and step.")]


class Accounting(Struct, frozen=True, kw_only=True):
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


class Bubble(Struct, frozen=True, kw_only=True):
    """The pipeline bubble. Medians over steps; shares summed over the ranks of a pipeline."""

    measured_share: Annotated[
        float | None, Meta(description="Dependency ÷ pipeline phase: the one set against theory.")
    ]
    measured_ratio: Annotated[float | None, Meta(description="Dependency ÷ chunk spans.")]
    span_share: Annotated[float | None, Meta(description="Dependency inside the ranks' own windows ÷ these windows.")]
    idle_share: Annotated[float | None, Meta(description="All time outside chunk spans ÷ pipeline phase.")]
    transfer_share: Annotated[float | None, Meta(description="Exposed transfer ÷ pipeline phase; null on gloo.")]
    share_of_step: Annotated[float | None, Meta(description="Dependency ÷ step; never set against a closed form.")]
    overhead_share: Annotated[float | None, Meta(description="Overhead ÷ pipeline phase.")]
    phase_ms: float | None
    theory: BubbleTheory | None
    stages: list[StageBubble]
    steps: list[StepBubble]
    attribution_ms: Annotated[
        AttributionMs | None, Meta(description="Why steps are longer than their ideal; null where not told.")
    ] = None
    culprits: Annotated[list[Culprit], Meta(description="What the attribution consists of, largest first.")] = []
    blame: Annotated[list[WaiterBlame], Meta(description="What each rank's waiting consists of, largest first.")] = []
    worth: Annotated[list[RemedyWorth], Meta(description="What each remedy alone would save, largest first.")] = []
    stragglers_separable: Annotated[
        bool | None, Meta(description="Every stage has 3 replicas or more; else `stage` means rank or stage.")
    ] = None
    replay_error: Annotated[
        float | None, Meta(description="|replay - measured| ÷ measured; beyond 0.02 worth is withheld.")
    ] = None


class WaterfallStep(Struct, frozen=True, kw_only=True):
    """One bar on the way from peak to measured, of the step of median duration."""

    name: Annotated[str, Meta(description="`peak`, a loss, or `measured MFU`.")]
    ms: Annotated[float, Meta(description="Per rank; the losses and the measured MFU sum to the step.")]
    mfu_points: Annotated[float, Meta(description="100 · ms ÷ step.")]


class ConventionMfu(Struct, frozen=True, kw_only=True):
    """MFU in one convention of counting FLOPs."""

    name: str
    flops_per_step: float
    mfu: float | None


class Mfu(Struct, frozen=True, kw_only=True):
    """Model FLOPs utilisation."""

    mfu: Annotated[float | None, Meta(description="flops_per_step ÷ (step × peak per device × devices).")]
    hfu: Annotated[float | None, Meta(description="The same with recomputed FLOPs counted.")]
    mfu_wall_clock: Annotated[float | None, Meta(description="From the loop's clock over the same profiled step.")]
    mfu_unprofiled: Annotated[float | None, Meta(description="From the unprofiled step time.")]
    flops_per_step: float | None
    hardware_flops_per_step: float | None
    flops_per_token: float | None
    tokens_per_step: int | None
    peak_flops_per_device: float | None
    peak_basis: Annotated[str | None, Meta(description="`measured GEMM` with its shape, or a datasheet's figure.")]
    num_devices: int | None
    convention: str | None
    conventions: list[ConventionMfu]
    predicted_mfu: Annotated[
        float | None,
        Meta(
            description="With equal stages, nobody waiting beyond the schedule and no host delay, at this run's own speeds."
        ),
    ]
    predicted_step_ms: Annotated[float | None, Meta(description="The step that `predicted_mfu` is of.")]
    tokens_per_second: Annotated[float | None, Meta(description="Of the median step.")] = None
    tokens_per_second_all_steps: Annotated[
        float | None, Meta(description="Over all whole steps, those set apart included.")
    ] = None


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was checked."""

    id: str
    title: str
    passed: bool
    worth_ms: float | None
    worth_mfu_points: float | None
    evidence: str
    action: str | None
    rank: int | None = None
    start_ns: Annotated[
        int | None, Meta(description="Where to look: the moment of the rank that shows it best, on the tables' clock.")
    ] = None
    end_ns: int | None = None


class Term(Struct, frozen=True, kw_only=True):
    """A line of the method or provenance."""

    term: str
    text: str


class Source(Struct, frozen=True, kw_only=True):
    """One file that was read."""

    rank: int
    file: str


class Review(Struct, frozen=True, kw_only=True):
    """Everything that was found out about a run."""

    schema_version: int = SCHEMA_VERSION
    tool: dict[str, str]
    created: Annotated[str, Meta(description="ISO 8601, UTC.")]
    source: dict[str, str]
    files: list[Source]
    headline: Headline
    warnings: Annotated[list[str], Meta(description="What a reader must know first.")]
    quality: Quality
    validity: ValidityFigures
    job: dict[str, Fact]
    step: StepFigures
    accounting: Accounting
    bubble: Bubble | None
    all_to_all: AllToAll | None
    mfu: Mfu
    waterfall: Annotated[list[WaterfallStep], Meta(description="From peak to measured; empty where MFU is withheld.")]
    findings: list[Finding]
    method: list[Term]
    provenance: list[Term]
    stragglers: Annotated[list[StragglerFigures], Meta(description="Ranks that compute slowly, costliest first.")] = []
    next_schedules: Annotated[
        NextSchedules | None, Meta(description="Other schedules at this run's times; null without a pipeline.")
    ] = None
    memory: Annotated[Memory | None, Meta(description="Held for backward; null without a measured pipeline.")] = None
    what_if: Annotated[
        WhatIfFigures | None, Meta(description="The published what-if study; of op tables with all operations.")
    ] = None
    sample: Annotated[Sample | None, Meta(description="Which ranks were captured, and what each says alone.")] = None
    figures: Annotated[
        dict[str, Figure], Meta(description="Bounds, scope and ranks of every single number, by its path in this file.")
    ] = {}
    roofline: Annotated[
        list[RooflineShape], Meta(description="Shapes that lose most time to their roof, from recorded shapes.")
    ] = []
    expert_sharding: Annotated[
        ExpertSharding | None, Meta(description="Bytes and matrix multiplications of expert layers, by EP or by TP.")
    ] = None
    recorded: Annotated[
        Recorded | None, Meta(description="Flight-recorder dumps and NCCL Inspector records; null without.")
    ] = None


def to_builtins(review: Review) -> dict[str, Any]:
    """The review as plain dictionaries and lists."""
    plain: dict[str, Any] = msgspec.to_builtins(review)
    return plain


def to_json(review: Review) -> bytes:
    """The review as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(review), indent=2) + b"\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema of `review.json`."""
    return msgspec.json.schema(Review)


if __name__ == "__main__":
    import json
    import sys

    json.dump(json_schema(), sys.stdout, indent=1)
    sys.stdout.write("\n")
