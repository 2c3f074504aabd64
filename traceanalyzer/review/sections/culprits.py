"""Who makes the step longer than its peers would, in the review."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import FaultBasis, RankCause


class RankFault(Part, frozen=True, kw_only=True):
    """What one rank does beyond its peers, and what the step would gain if it did as they do."""

    rank: int
    cause: RankCause
    ms: Annotated[
        float | None,
        Meta(description="Per step, by replay with this rank alone at its peers' level; null: only bounds."),
    ]
    share_of_step: float | None
    low: Annotated[float, Meta(description="Of `ms`.")]
    high: float
    evidence: str
    kernel: Annotated[str | None, Meta(description="Name that takes longest beyond the peers'.")] = None
    call: Annotated[str | None, Meta(description="What the launching thread did instead; null: not recorded.")] = None
    basis: FaultBasis
    peers: Annotated[list[int], Meta(description="Ranks that do the same work.")] = []
    not_all_counted: Annotated[
        bool,
        Meta(description="Of a link: its reductions are not in the price, for nothing shows what they should take."),
    ] = False
    beside: Annotated[
        list[int], Meta(description="Of basis `together`: the other ranks of the repair that is priced.")
    ] = []
    slowdown: Annotated[
        float | None, Meta(description="Own time beyond the peers': theirs is 1; of computation, or of the link.")
    ] = None
    peer: Annotated[
        int | None, Meta(description="Of a slow link: the rank it leads to; null: all of the rank's links.")
    ] = None
    num_steps: Annotated[int, Meta(description="Steps it was seen in.")] = 1
    start_ns: Annotated[int | None, Meta(description="Where it shows best.")] = None
    end_ns: int | None = None


class SequenceBalance(Part, frozen=True, kw_only=True):
    """A group of context parallelism whose members hold contiguous parts of the sequence, so that causal attention is uneven."""

    ranks: list[int]
    max_over_mean: Annotated[float, Meta(description="Attention time of the fullest member over the mean.")]
    closed_form_max_over_mean: Annotated[float, Meta(description="2 - 1/c for c members.")]
    ms: Annotated[
        float | None,
        Meta(
            description="Per step, by replay with all such groups in the zig-zag layout; null: the replay is too far off."
        ),
    ]
    share_of_step: float | None
