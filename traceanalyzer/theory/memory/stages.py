"""Which layers a rank holds, and how many microbatches' activations at once.

Layers are dealt out as evenly as they go. Stages that lack a layer are the last, then the first (they have the logits and
the embedding, as Llama 3 405B leaves out a layer at both ends: arXiv 2407.21783, section 3.3.2), then others from the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from traceanalyzer.errors import DomainError
from traceanalyzer.model import ModelShape
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.schedules.known import schedule as find
from traceanalyzer.theory.schedules.orders import placement
from traceanalyzer.theory.schedules.record import HeldPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Layers of one rank, and what it has beside them."""

    num_dense: int
    num_moe: int
    embedding: bool
    head: bool
    """The final norm and the matrix behind the logits; multi-token-prediction layers stand beside it."""

    @property
    def num_layers(self) -> int:
        """Layers of both kinds."""
        return self.num_dense + self.num_moe


@cache
def layer_split(num_layers: int, num_stages: int) -> tuple[int, ...]:
    """Number of layers of every stage. Raises `DomainError` if a stage would be empty."""
    if not 1 <= num_stages <= num_layers:
        raise DomainError(f"{num_layers} layers cannot be cut into {num_stages} stages", "ask for fewer stages")
    most = -(-num_layers // num_stages)
    split = [most] * num_stages
    order = [num_stages - 1, 0, *range(num_stages - 2, 0, -1)]
    for stage in order[: most * num_stages - num_layers]:
        split[stage] -= 1
    return tuple(split)


@cache
def holdings(shape: ModelShape, schedule: ScheduleName, num_ranks: int, num_chunks: int) -> tuple[Holding, ...]:
    """What every rank of a pipeline holds. Raises `DomainError` if layers do not suffice for the stages."""
    split = layer_split(shape.num_layers, num_ranks * num_chunks)
    ranks = placement(schedule, num_ranks, num_chunks)
    copies = num_copies(schedule)
    first = [sum(split[:stage]) for stage in range(len(split))]
    dense = [0] * num_ranks
    moe = [0] * num_ranks
    for stage, rank in enumerate(ranks):
        cut = stage % len(split) if copies == 2 else stage
        kinds = [shape.is_moe_layer(layer) for layer in range(first[cut], first[cut] + split[cut])]
        moe[rank] += sum(kinds)
        dense[rank] += len(kinds) - sum(kinds)
    ends = {ranks[0], ranks[len(split)]} if copies == 2 else {ranks[0]}
    heads = {ranks[len(split) - 1], ranks[-1]}
    return tuple(
        Holding(num_dense=dense[rank], num_moe=moe[rank], embedding=rank in ends, head=rank in heads)
        for rank in range(num_ranks)
    )


def num_copies(schedule: ScheduleName) -> int:
    """Copies of the model in one pipeline; half of the microbatches pass through each of DualPipe's two."""
    return find(schedule).num_copies


@cache
def distinct_ranks(shape: ModelShape, schedule: ScheduleName, num_ranks: int, num_chunks: int) -> tuple[int, ...]:
    """The first rank of every different holding: it holds most activations among those alike."""
    first: dict[Holding, int] = {}
    for rank, holding in enumerate(holdings(shape, schedule, num_ranks, num_chunks)):
        first.setdefault(holding, rank)
    return tuple(first.values())


def held_microbatches(
    schedule: ScheduleName, num_ranks: int, num_microbatches: int, num_chunks: int, rank: int
) -> float:
    """Most microbatches whose activations a rank holds, in its share of one model copy, with equal times everywhere.

    By formula; `tests/theory/memory/test_memory.py` holds every one to the simulated order: equal to it, for ZBV with fewer than
    2P - 1 microbatches an upper bound. Groups of interleaved schedules are as PyTorch cuts them.
    """
    return find(schedule).held(HeldPoint(num_ranks, num_microbatches, num_chunks, rank))
