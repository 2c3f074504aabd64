"""`review.json`: the one result. The report, comparisons and gates read nothing else (and the tables).

Every field is documented where it is declared; the JSON Schema in the package is made from these declarations. A metric
that cannot be trusted is `null` and listed in `quality.withheld` with the reason. Shares are 0 to 1.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part, measured
from traceanalyzer.review.sections.culprits import RankFault, SequenceBalance
from traceanalyzer.review.sections.efficiency import Mfu, NextConfigurations, RooflineShape, WaterfallStep
from traceanalyzer.review.sections.experts import AllToAll, ExpertSharding
from traceanalyzer.review.sections.headline import Finding, Headline
from traceanalyzer.review.sections.job import JobFacts
from traceanalyzer.review.sections.kernels import Communication, DimensionBytes, Kernels
from traceanalyzer.review.sections.memory import Memory
from traceanalyzer.review.sections.pipeline import Bubble, NextSchedules, StragglerFigures, WhatIfFigures
from traceanalyzer.review.sections.quality import Quality, ValidityFigures
from traceanalyzer.review.sections.recorded import Recorded
from traceanalyzer.review.sections.sample import Figure, Sample
from traceanalyzer.review.sections.step import Accounting, StepFigures

SCHEMA_VERSION = 3


class Term(Part, frozen=True, kw_only=True):
    """A line of the method or provenance."""

    term: str
    text: str


class Tool(Part, frozen=True, kw_only=True):
    """What made the result."""

    name: str
    version: str


class Source(Part, frozen=True, kw_only=True):
    """What the result is of."""

    path: Annotated[str, Meta(description="As it was given.")]


class SourceFile(Part, frozen=True, kw_only=True):
    """One file that was read."""

    rank: int
    file: str


class Review(Part, frozen=True, kw_only=True):
    """Everything that was found out about a run."""

    schema_version: int = SCHEMA_VERSION
    tool: Tool
    created: Annotated[str, Meta(description="ISO 8601, UTC.")]
    source: Source
    files: list[SourceFile]
    headline: Headline
    warnings: Annotated[list[str], Meta(description="What a reader must know first.")]
    quality: Quality
    validity: Annotated[ValidityFigures, measured("what the host recorded beside the steps")]
    job: JobFacts
    step: Annotated[StepFigures, measured("step windows of the captured ranks; the longest rank's")]
    accounting: Annotated[Accounting, measured("owners of every nanosecond of the step windows")]
    bubble: Annotated[Bubble | None, measured("chunk spans and their dependencies")]
    all_to_all: Annotated[AllToAll | None, measured("split sizes, arrivals and durations of all-to-alls")]
    mfu: Annotated[Mfu, measured("the declared job's FLOPs and the captured ranks' step time")]
    waterfall: Annotated[list[WaterfallStep], Meta(description="From peak to measured; empty if MFU is withheld.")]
    findings: list[Finding]
    method: list[Term]
    provenance: list[Term]
    stragglers: Annotated[list[StragglerFigures], Meta(description="Ranks that compute slowly, costliest first.")] = []
    culprits: Annotated[
        list[RankFault], Meta(description="Ranks that lengthen the step beyond their peers, largest first.")
    ] = []
    sequence_balance: Annotated[
        list[SequenceBalance], Meta(description="Groups of context parallelism with uneven causal attention.")
    ] = []
    dimension_bytes: Annotated[
        list[DimensionBytes], Meta(description="Bytes within and between hosts by mesh dimension; most between first.")
    ] = []
    next_schedules: Annotated[
        NextSchedules | None,
        measured(
            "schedules simulated at this run's times", "Other schedules at this run's times; null without a pipeline."
        ),
    ] = None
    next_configurations: Annotated[
        NextConfigurations | None,
        measured(
            "a model of the job with the numbers that were measured",
            "The best changes of the configuration, predicted; null without devices.",
        ),
    ] = None
    memory: Annotated[
        Memory | None,
        measured(
            "chunk spans, the schedule simulated, and what the run metered",
            "Held for backward; null without a measured pipeline.",
        ),
    ] = None
    what_if: Annotated[
        WhatIfFigures | None,
        measured(
            "a replay of all operations of the op table",
            "The published what-if study; of op tables with all operations.",
        ),
    ] = None
    sample: Annotated[Sample | None, Meta(description="Which ranks were captured, and what each says alone.")] = None
    figures: Annotated[
        dict[str, Figure], Meta(description="Bounds, scope and ranks of every single number, by its path in this file.")
    ] = {}
    roofline: Annotated[
        list[RooflineShape], Meta(description="Shapes that lose most time to their roof, from recorded shapes.")
    ] = []
    expert_sharding: Annotated[
        ExpertSharding | None,
        measured(
            "bytes of expert layers, mean over the members of a group",
            "Bytes and matrix multiplications of expert layers, by EP or by TP.",
        ),
    ] = None
    recorded: Annotated[
        Recorded | None,
        measured(
            "records of the communication library", "Flight-recorder dumps and NCCL Inspector records; null without."
        ),
    ] = None
    kernels: Annotated[Kernels | None, measured("kernels of device ranks", "Kernel time; null without devices.")] = None
    communication: Annotated[
        Communication | None,
        measured("kernels that communicate and compute, of device ranks", "By group; null without any."),
    ] = None
