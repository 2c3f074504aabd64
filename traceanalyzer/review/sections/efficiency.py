"""The parts of `review.json` about efficiency: MFU, shapes against their roof, peak to measured, other configurations."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import Bound, OperatorKind


class RooflineShape(Part, frozen=True, kw_only=True):
    """One shape of a matrix multiplication or attention against its roof; times are means per rank and step."""

    name: Annotated[str, Meta(description="Operator, as the profiler recorded it.")]
    kind: OperatorKind
    dtype: str | None
    shape: Annotated[str, Meta(description="Sizes of the factors, or of query, key and value.")]
    num_calls: Annotated[float, Meta(description="Per rank and step.")]
    ms: float
    flops_per_second: float
    bound: Annotated[Bound | None, Meta(description="null if the roof is not known.")]
    roof_share: Annotated[float | None, Meta(description="Reached share of the roof.")]
    lost_ms: Annotated[float | None, Meta(description="Time beyond what the roof allows.")]


class ConventionMfu(Part, frozen=True, kw_only=True):
    """MFU in one convention of counting FLOPs."""

    name: str
    flops_per_step: float
    mfu: float | None


class Mfu(Part, frozen=True, kw_only=True):
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


class WaterfallStep(Part, frozen=True, kw_only=True):
    """One bar on the way from peak to measured, of the step of median duration."""

    name: Annotated[str, Meta(description="`peak`, a loss, or `measured MFU`.")]
    ms: Annotated[float, Meta(description="Per rank; the losses and the measured MFU sum to the step.")]
    mfu_points: Annotated[float, Meta(description="100 · ms ÷ step.")]


class ConfigurationChange(Part, frozen=True, kw_only=True):
    """One decision taken otherwise, by the model of `plan job` with this run's numbers."""

    decision: Literal["schedule", "microbatch", "zero", "recompute", "layout"]
    change: Annotated[str, Meta(description="What would be other, and what it is.")]
    configuration: Annotated[str, Meta(description="The whole of it.")]
    step_ms: float
    saves_ms: Annotated[float, Meta(description="Of this run's step. Savings of several changes do not add up.")]
    saves_low_ms: Annotated[
        float,
        Meta(description="The least of several estimates, less the noise of the step. Below 0: it may cost time."),
    ]
    saves_high_ms: Annotated[float, Meta(description="The most of them, and the noise.")]
    memory_bytes: Annotated[float, Meta(description="Predicted, of the fullest rank.")]
    headroom_bytes: Annotated[float, Meta(description="What that leaves of the device; below zero: it does not fit.")]


class NextConfigurations(Part, frozen=True, kw_only=True):
    """The best three changes of the configuration; `reason` where they are withheld."""

    reason: Annotated[str | None, Meta(description="Why nothing is predicted; null if something is.")] = None
    configuration: Annotated[str | None, Meta(description="This run's own, as known or taken.")] = None
    cluster: Annotated[str | None, Meta(description="The described cluster that it is priced on.")] = None
    step_factor: Annotated[
        float | None, Meta(description="Measured step ÷ predicted step of the run's own configuration.")
    ] = None
    step_error: Annotated[
        float | None, Meta(description="Of its own step, on steps that the factor was not taken from; a share.")
    ] = None
    memory_bytes: Annotated[float | None, Meta(description="Predicted for this run, fullest rank.")] = None
    options: Annotated[list[ConfigurationChange], Meta(description="Best first, one per decision.")] = []
    too_large: Annotated[
        ConfigurationChange | None, Meta(description="Would save more than any of these, and does not fit.")
    ] = None
    assumptions: Annotated[list[str], Meta(description="What was taken without being known.")] = []
