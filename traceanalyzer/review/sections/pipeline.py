"""The parts of `review.json` about pipelines: the bubble by stage, why steps are longer than their ideal, what follows."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import MicrobatchSize, PipelineCause, StragglerCause


class BubbleTheory(Part, frozen=True, kw_only=True):
    """What the same schedule gives with equal stages, free transfer, no jitter and no host delay."""

    closed_form_share: Annotated[
        float | None, Meta(description="Share of the pipeline phase; null outside its domain.")
    ]
    closed_form_ratio: Annotated[float | None, Meta(description="Ratio to ideal compute time.")]
    simulated_share: Annotated[
        float | None,
        Meta(description="Simulation of this run's order at medians, pooled over pipelines as the measured share is."),
    ]
    simulated_ratio: float | None
    simulated_span_share: Annotated[float | None, Meta(description="Same, in the ranks' own windows.")]
    simulated_phase_ms: Annotated[float | None, Meta(description="Length of the simulated pipeline phase.")]
    own_times_share: Annotated[
        float | None,
        Meta(
            description="As `simulated_share`, with every stage at its own medians: what lies between them is unequal stages'."
        ),
    ] = None
    formula: str | None
    schedule: str | None
    domain: str | None
    source: str | None


class StageBubble(Part, frozen=True, kw_only=True):
    """One rank's share of the bubble, median over steps, milliseconds."""

    stage: Annotated[list[int], Meta(description="Stages the rank holds.")]
    ranks: list[int]
    dependency_ms: float
    warmup_ms: float
    steady_ms: float
    drain_ms: float
    transfer_ms: Annotated[float | None, Meta(description="null if the backend records no transfer (gloo).")]
    overhead_ms: float
    chunk_ms: float
    dp_wait_ms: Annotated[
        float,
        Meta(description="Exposed exchanges between replicas outside chunks, until the last of them had arrived."),
    ] = 0.0
    dp_transfer_ms: Annotated[float, Meta(description="The same from there on; all of it if the wait is unknown.")] = (
        0.0
    )
    chunk_dp_ms: Annotated[float, Meta(description="The same inside chunk spans, and so part of `chunk_ms`.")] = 0.0
    replica_wait_ms: Annotated[
        float | None, Meta(description="Waiting for slower replicas after the pipeline phase; null if unknown.")
    ] = None


class PipelineBubble(Part, frozen=True, kw_only=True):
    """The bubble of one whole captured pipeline, medians over steps."""

    pipeline: int
    ranks: Annotated[list[int], Meta(description="In the order of their stages.")]
    measured_share: Annotated[float, Meta(description="Dependency ÷ pipeline phase.")]
    phase_ms: float
    replica_wait_ms: Annotated[
        float | None,
        Meta(description="Mean rank's waiting for slower replicas after the phase; null if unknown."),
    ]
    is_slowest: Annotated[bool, Meta(description="Its phase is the longest of those captured.")]


class StepBubble(Part, frozen=True, kw_only=True):
    """The bubble of one step over all ranks of one pipeline."""

    step: int
    pipeline: int
    measured_share: float


class AttributionMs(Part, frozen=True, kw_only=True):
    """Milliseconds per step, means over steps, of each step's longest pipeline.

    `measured` = `ideal` + stage + straggler + transfer + chunk_comm + overlap_dp + host + jitter + slack + outside_sample +
    unexplained, and `ideal` = computation (mean over ranks) + `schedule`.
    """

    measured: Annotated[float, Meta(description="Pipeline phase: first action's start to last action's end.")]
    ideal: Annotated[float, Meta(description="The same order with medians, free transfer and no host delay.")]
    schedule: Annotated[float, Meta(description="Bubble of this ideal, mean over ranks.")]
    stage: Annotated[float, Meta(description="Stages slower than the median (rank and stage if not separable).")]
    straggler: Annotated[float, Meta(description="Ranks slower than their stage's other ranks (3 or more).")]
    transfer: Annotated[float, Meta(description="Messages between stages on their way.")]
    chunk_comm: Annotated[float, Meta(description="Communication inside actions (EP, TP, CP, DP) beyond its median.")]
    overlap_dp: Annotated[
        float, Meta(description="Actions beside which replicas exchange data, beyond their kind.")
    ] = 0.0
    host: Annotated[float, Meta(description="Starting or sending later than possible, proven to be the host's.")]
    jitter: Annotated[float, Meta(description="Actions beyond their rank's median.")]
    slack: Annotated[float, Meta(description="What the ideal's own waiting absorbs; 0 or less.")]
    outside_sample: Annotated[
        float, Meta(description="Waiting for ranks that were not captured, the schedule's own included.")
    ]
    unexplained: Annotated[float, Meta(description="Starting later than possible without a known reason.")]


class Culprit(Part, frozen=True, kw_only=True):
    """What one rank adds to the step by one cause."""

    cause: PipelineCause
    culprit: Annotated[int | None, Meta(description="Rank; null: not captured.")]
    stages: Annotated[list[int], Meta(description="Stages the rank holds.")]
    ms: float


class Fault(Part, frozen=True, kw_only=True):
    """What a repair of one rank, host or load would take away."""

    pipeline: Annotated[int | None, Meta(description="null: a pipeline that was not captured whole.")]
    cause: PipelineCause
    rank: int
    ms: Annotated[
        float,
        Meta(
            description="Per step, mean over steps: added to its pipeline's phase, or computed beyond its stage's ranks."
        ),
    ]


class WaiterBlame(Part, frozen=True, kw_only=True):
    """What one rank's waiting consists of."""

    waiter: int
    culprit: Annotated[int | None, Meta(description="Rank that is waited for; null: not captured.")]
    cause: PipelineCause
    ms: Annotated[float, Meta(description="Per step, mean over steps. Largest 100; all in the table `blame`.")]


class RemedyWorth(Part, frozen=True, kw_only=True):
    """What one remedy alone saves, by replay."""

    remedy: str
    cause: PipelineCause
    rank: Annotated[int | None, Meta(description="null: of all ranks.")]
    stage: int | None
    ms: Annotated[float, Meta(description="Per step, mean over steps. Never add them up; may be negative.")]


class StragglerFigures(Part, frozen=True, kw_only=True):
    """A rank that computes more slowly than the median."""

    rank: int
    stage: list[int]
    cause: Annotated[
        StragglerCause,
        Meta(
            description="`stage`, `straggler`, or `stage or rank` if not separable; of `culprits`: `computation`, `host`, "
            "`late_starts`."
        ),
    ]
    slowdown: Annotated[
        float,
        Meta(
            description="Ideal step with this rank's own durations ÷ ideal step; of `culprits`: step ÷ step with the rank as "
            "its peers."
        ),
    ]
    cost_ms: Annotated[float, Meta(description="Its part in the attribution, per step; of `culprits`: `ms`.")]


class WhatIfFigures(Part, frozen=True, kw_only=True):
    """Slowdowns under the definitions of Lin et al. (OSDI 2025, arXiv 2505.05713); ratios of means, never added."""

    slowdown: Annotated[float, Meta(description="S = T ÷ T_ideal (Eq. 1).")]
    waste_share: Annotated[float, Meta(description="1 - 1/S.")]
    replay_error: Annotated[float, Meta(description="|T - measured| ÷ measured, of the mean step.")]
    max_replay_error: Annotated[float, Meta(description="The same of the worst step.")]
    measured_ms: float
    replayed_ms: Annotated[float, Meta(description="T, mean over steps: durations alone, no launch delays.")]
    ideal_ms: Annotated[float, Meta(description="T_ideal: computations at means, communications at medians.")]
    by_kind: Annotated[dict[str, float], Meta(description="S_t (Eq. 2).")]
    by_stage: dict[int, float]
    by_replica: dict[int, float]
    by_rank: Annotated[dict[int, float], Meta(description="S_w (Eq. 4): the smaller of stage's and replica's.")]
    slowest_workers_share: Annotated[float | None, Meta(description="M_W (Eq. 5): the slowest 3% of workers.")]
    last_stage_share: Annotated[float | None, Meta(description="M_S: the last stage. May exceed 1.")]
    launch_slowdown: Annotated[
        float, Meta(description="Measured steps ÷ T: what launch delays add, which T leaves out.")
    ]
    launches_by_kind: Annotated[dict[str, float], Meta(description="T with the launch delays of one kind ÷ T.")]
    launched_replay_error: Annotated[
        float, Meta(description="|replay with launch delays - measured| ÷ measured, of the worst step.")
    ]


class ScheduleOption(Part, frozen=True, kw_only=True):
    """Another schedule at this run's times, simulated with equal stages and free transfer."""

    schedule: str
    num_chunks: int
    num_microbatches: int
    microbatch: Annotated[MicrobatchSize, Meta(description="Its size: the global batch stays as it is.")]
    phase_ms: float
    saves_ms: Annotated[float, Meta(description="Against this run's own order, simulated the same way.")]
    bubble_share: float
    peak_in_flight: Annotated[float, Meta(description="Activations held at most, in this run's microbatches.")]
    memory_ratio: Annotated[float, Meta(description="Activations held at most, over this run's own order.")]
    num_parameter_copies: int
    is_current: bool


class LayerMove(Part, frozen=True, kw_only=True):
    """Layers that would even out the stages, if a layer takes the median time."""

    from_stage: int
    to_stage: int
    num_layers: int
    saves_ms: float


class NextSchedules(Part, frozen=True, kw_only=True):
    """What follows for the schedule; fastest first."""

    assumptions: str
    options: list[ScheduleOption]
    refused: Annotated[dict[str, str], Meta(description="Schedules that do not exist here, and why.")]
    layers_to_move: LayerMove | None


class Bubble(Part, frozen=True, kw_only=True):
    """The pipeline bubble. Medians over steps; shares are sums over the ranks of all whole captured pipelines."""

    measured_share: Annotated[
        float | None, Meta(description="Dependency ÷ pipeline phase: the one set against theory.")
    ]
    measured_ratio: Annotated[float | None, Meta(description="Dependency ÷ chunk spans.")]
    span_share: Annotated[float | None, Meta(description="Dependency inside the ranks' own windows ÷ these windows.")]
    idle_share: Annotated[
        float | None,
        Meta(description="Idle ÷ pipeline phase: the bubble, exposed transfer and DP communication, and overhead."),
    ]
    transfer_share: Annotated[float | None, Meta(description="Exposed transfer ÷ pipeline phase; null on gloo.")]
    share_of_step: Annotated[float | None, Meta(description="Dependency ÷ step; never set against a closed form.")]
    overhead_share: Annotated[float | None, Meta(description="Overhead ÷ pipeline phase.")]
    phase_ms: Annotated[float | None, Meta(description="Length of the pipeline phase, mean over ranks.")]
    theory: BubbleTheory | None
    stages: list[StageBubble]
    steps: list[StepBubble]
    attribution_ms: Annotated[
        AttributionMs | None, Meta(description="Why steps are longer than their ideal; null if unknown.")
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
    pipelines: Annotated[list[PipelineBubble], Meta(description="Every whole captured pipeline.")] = []
    num_pipelines: Annotated[int | None, Meta(description="Whole captured pipelines that the shares are of.")] = None
    num_pipelines_expected: Annotated[int | None, Meta(description="Of the job; null if unknown.")] = None
    exposed_dp_share: Annotated[
        float | None, Meta(description="Exposed exchanges between replicas outside chunk spans ÷ pipeline phase.")
    ] = None
    replica_wait_ms: Annotated[
        float | None,
        Meta(
            description="Mean rank's waiting for slower replicas after its own pipeline phase, in the reduction of "
            "gradients; no part of the bubble. null if unknown, or with one pipeline."
        ),
    ] = None
    largest_fault: Annotated[Fault | None, Meta(description="The costliest fault of any captured pipeline.")] = None
    fault_limit_ms: Annotated[
        float | None,
        Meta(description="What a fault must cost per step to count: 0.5% of the step or its noise, the larger."),
    ] = None
