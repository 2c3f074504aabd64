"""The part of `review.json` about memory."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import InFlightBasis


class RankMemory(Part, frozen=True, kw_only=True):
    """What one rank holds at most, over the steps."""

    rank: int
    stage: Annotated[list[int], Meta(description="Stages the rank holds.")]
    in_flight: Annotated[int, Meta(description="Microbatches whose activations it holds, counted per stage.")]
    in_flight_basis: Annotated[InFlightBasis, Meta(description="`loop`: its own count; `actions`: from the timeline.")]
    predicted_in_flight: Annotated[int, Meta(description="The same in a simulation of the order that ran.")]
    peak_bytes: Annotated[
        int | None, Meta(description="Bytes kept for backward, weights left out, metered by hooks of autograd.")
    ]
    predicted_bytes: Annotated[
        int | None, Meta(description="Activation bytes per microbatch × the simulated microbatches in flight.")
    ]
    peak_allocated_bytes: Annotated[int | None, Meta(description="All tensors, by CUDA's allocator.")]
    peak_reserved_bytes: Annotated[int | None, Meta(description="What CUDA's allocator held.")]


class Memory(Part, frozen=True, kw_only=True):
    """Memory of a pipeline's ranks against theory."""

    stages: list[RankMemory]
    activation_bytes: Annotated[
        list[int], Meta(description="Theory: what one microbatch keeps on each stage; empty outside its domain.")
    ]
    formula: Annotated[str | None, Meta(description="Of `activation_bytes`, per token and layer.")]
