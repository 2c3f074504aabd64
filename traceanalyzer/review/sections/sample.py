"""The parts of `review.json` about what a sample of ranks can and cannot show."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import Coverage, FigureScope, Role, StageSide


class Figure(Part, frozen=True, kw_only=True):
    """A number of the review with what it rests on."""

    value: Annotated[float | None, Meta(description="As in the review; null if only bounds are known.")]
    low: Annotated[
        float | None,
        Meta(
            description="At most the true value of this scope, of waits only if equal transfers take about equally long; "
            "`value` if exact, null if unknown."
        ),
    ]
    high: float | None
    scope: Annotated[FigureScope, Meta(description="What it is a figure of; `group`: of experts.")]
    basis: Annotated[str, Meta(description="How it is known.")]
    num_ranks: Annotated[int, Meta(description="Ranks it was measured on (n of N).")]
    num_ranks_expected: Annotated[int | None, Meta(description="Ranks of the job (N); null if unknown.")]


class WaitRange(Part, frozen=True, kw_only=True):
    """Waiting inside communication of one mesh dimension, milliseconds per step, mean over steps."""

    role: Annotated[Role | None, Meta(description="null if unknown.")]
    num_operations: Annotated[float, Meta(description="Per step: collectives and kernels of messages.")]
    num_sampled: Annotated[float, Meta(description="Of them, those bounded from below: split, or with 7 equal ones.")]
    duration_ms: Annotated[float, Meta(description="Wait and transfer, summed over operations.")]
    low_ms: Annotated[float, Meta(description="Σ max(0, duration − 2 · shortest equal one).")]
    high_ms: Annotated[float, Meta(description="Σ(duration − bytes ÷ peak of the rank's links).")]


class OwnRouting(Part, frozen=True, kw_only=True):
    """Where a rank's tokens went and what its experts got, from its own split sizes; mean over layers."""

    num_layers: int
    num_tokens: Annotated[int, Meta(description="Token copies it sent in dispatches, over layers and steps.")]
    hottest: Annotated[int, Meta(description="Member of the group that got most of them.")]
    sent_max_over_mean: Annotated[
        float, Meta(description="Largest over mean part: the group's load ratio if all ranks route as this one.")
    ]
    low: Annotated[float, Meta(description="Binomial 95% interval of it.")]
    high: float
    received_over_sent: Annotated[
        float | None, Meta(description="Own load ÷ mean load if all ranks send equally many tokens.")
    ]


class RankFigures(Part, frozen=True, kw_only=True):
    """What one rank's own trace says; medians over steps unless said otherwise."""

    rank: int
    stages: Annotated[list[int], Meta(description="Stages it holds; empty if unknown.")]
    num_stages: int | None
    num_microbatches: int | None
    window_ms: Annotated[float | None, Meta(description="Own pipeline window: first to last action.")]
    between_chunks_share: Annotated[float | None, Meta(description="Part of it outside chunks.")]
    equal_stages_share: Annotated[
        float | None, Meta(description="The same if all stages took this rank's times, free transfer; simulated.")
    ]
    schedule: Annotated[str | None, Meta(description="Recognised from the rank's own order.")]
    own_ms: Annotated[float | None, Meta(description="All its chunks of one microbatch.")]
    pace_ms: Annotated[float | None, Meta(description="Start to start of equal steady chunks; 1F1B only.")]
    others_cost_ms: Annotated[float | None, Meta(description="M·(pace − own), per step.")]
    side: Annotated[StageSide | None, Meta(description="Where the slowest stage lies, seen from this rank.")]
    side_reason: Annotated[str | None, Meta(description="Why it is unknown.")]
    waits: list[WaitRange]
    routing: OwnRouting | None


class Sample(Part, frozen=True, kw_only=True):
    """Which ranks were captured, what each of them says alone, and which to profile next."""

    coverage: Annotated[Coverage, Meta(description="Whole pipelines, whole expert groups, or all replicas of a stage.")]
    is_one_group: Annotated[bool, Meta(description="All captured ranks are of one whole pipeline, group or stage.")]
    num_whole_pipelines: int
    num_whole_expert_groups: int
    num_whole_replicas: Annotated[
        int, Meta(description="Stages (and tensor slices) all of whose replicas were captured.")
    ]
    next_ranks: Annotated[list[int], Meta(description="Ranks whose traces would show most; empty if unknown.")]
    next_reason: str | None
    recommended_ranks: Annotated[
        list[int],
        Meta(description="One pipeline with the expert group and the replicas of its slowest stage: a sample for all."),
    ]
    recommended_reason: str | None
    ranks: Annotated[list[RankFigures], Meta(description="The first 64 captured ranks.")]
