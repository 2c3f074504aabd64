"""Everything a rank holds at its fullest moment.

States (`states`), activations of the microbatches in flight (`activations`, `stages`), and working space: the layer that is
being computed again, gathered weights of ZeRO-3, logits, buffers of exchanges. What allocators and libraries take is an
allowance that is stated, not derived: `Allowance`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from traceanalyzer.model import ModelShape
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.activations import (
    Kernels,
    Policy,
    boundary_bytes,
    head_bytes,
    layer_bytes,
    layer_parts,
)
from traceanalyzer.theory.memory.recipes import Recipe
from traceanalyzer.theory.memory.sharding import Sharding
from traceanalyzer.theory.memory.stages import Holding, distinct_ranks, held_microbatches, holdings, num_copies
from traceanalyzer.theory.memory.states import gathered_bytes, local_parameters, state_bytes

_GIB = 2**30


_ACCUMULATION = ScheduleName("GradAccumulation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is not derived."""

    fixed_bytes: float = 2 * _GIB
    """Context of the device, workspaces of libraries, buffers of communicators."""
    fragmentation: float = 0.05
    """Of activations and working space: blocks that the allocator cannot use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What is trained, as far as memory depends on it."""

    shape: ModelShape
    recipe: Recipe
    sequence_length: int
    microbatch_size: int
    num_microbatches: int
    schedule: ScheduleName = _ACCUMULATION
    num_chunks: int = 1
    policy: Policy = Policy.NONE
    num_recomputed_layers: int | None = None
    """Of a rank's layers, those that are recomputed whole, whatever the policy of the others; None: none."""
    kernels: Kernels = field(default_factory=Kernels)

    @property
    def num_tokens(self) -> int:
        """Tokens of one microbatch."""
        return self.sequence_length * self.microbatch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMemory:
    """Bytes of one rank by what holds them; they add up to `total`."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    recomputed: float
    """The layer whose forward runs again."""
    gathered: float
    """Weights and gradients that ZeRO-3 has gathered."""
    exchanges: float
    """Send and receive buffers of the pipeline, of experts and of context parallelism."""
    fragmentation: float
    fixed: float

    @property
    def total(self) -> float:
        """All."""
        return sum(getattr(self, each.name) for each in fields(self))


def rank_memory(
    training: Training, sharding: Sharding, rank: int = 0, allowance: Allowance | None = None
) -> RankMemory:
    """What pipeline rank `rank` holds. Raises `DomainError` if the layers do not suffice for the stages."""
    allowed = allowance or Allowance()
    holding = holdings(training.shape, training.schedule, sharding.pp, training.num_chunks)[rank]
    parameters = local_parameters(training.shape, sharding.tp, sharding.ep, sharding.etp, holding)
    states = state_bytes(parameters, training.recipe, sharding)
    held = held_microbatches(training.schedule, sharding.pp, training.num_microbatches, training.num_chunks, rank)
    held /= num_copies(training.schedule)
    logits = sum(head_bytes(training.shape, training.recipe, training.num_tokens, sharding)) if holding.head else 0.0
    activations = held * microbatch_bytes(training, sharding, holding)
    recomputed, exchanges = working_bytes(training, sharding, holding)
    gathered = gathered_bytes(parameters, training.recipe, sharding)
    return RankMemory(
        weights=states.weights,
        gradients=states.gradients,
        optimizer=states.optimizer,
        activations=activations,
        logits=logits,
        recomputed=recomputed,
        gathered=gathered,
        exchanges=exchanges,
        fragmentation=allowed.fragmentation * (activations + logits + recomputed + gathered + exchanges),
        fixed=allowed.fixed_bytes,
    )


def stage_memory(training: Training, sharding: Sharding, allowance: Allowance | None = None) -> dict[int, RankMemory]:
    """`rank_memory` of the first rank of every kind of stage; the fullest of the pipeline is among them."""
    ranks = distinct_ranks(training.shape, training.schedule, sharding.pp, training.num_chunks)
    return {rank: rank_memory(training, sharding, rank, allowance) for rank in ranks}


def microbatch_bytes(training: Training, sharding: Sharding, holding: Holding) -> float:
    """What one microbatch keeps in all layers of a rank; recomputed layers are taken from those with most to keep."""
    plain, full = (_by_kind(training, sharding, policy) for policy in (training.policy, Policy.FULL))
    whole = training.num_recomputed_layers or 0
    moe = min(whole, holding.num_moe)
    dense = min(whole - moe, holding.num_dense)
    kept = (holding.num_dense - dense) * plain[0] + (holding.num_moe - moe) * plain[1]
    return kept + dense * full[0] + moe * full[1]


def working_bytes(training: Training, sharding: Sharding, holding: Holding) -> tuple[float, float]:
    """What one layer's recomputation holds for a moment, and the buffers of exchanges."""
    everything, kept = _by_kind(training, sharding, Policy.NONE), _by_kind(training, sharding, training.policy)
    if training.num_recomputed_layers:
        kept = _by_kind(training, sharding, Policy.FULL)
    kinds = [kind for kind, count in enumerate((holding.num_dense, holding.num_moe)) if count]
    recomputed = max((everything[kind] - kept[kind] for kind in kinds), default=0.0)
    exchanges = exchange_bytes(
        training.shape, training.recipe, training.num_tokens, sharding, with_experts=holding.num_moe > 0
    )
    return recomputed, exchanges


def exchange_bytes(
    shape: ModelShape, recipe: Recipe, num_tokens: float, sharding: Sharding, *, with_experts: bool
) -> float:
    """Buffers of exchanges: a message in and one out, all expert rows in and out, the gathered tokens twice."""
    boundary = boundary_bytes(shape, recipe, num_tokens, sharding)
    found = 2 * boundary if sharding.pp > 1 else 0.0
    if sharding.ep > 1 and with_experts:
        found += 2 * shape.experts_per_token * boundary
    if sharding.tp > 1:
        found += 2 * boundary * sharding.token_split
    return found


def _by_kind(training: Training, sharding: Sharding, policy: Policy) -> tuple[float, float]:
    dense, moe = (
        layer_bytes(
            layer_parts(training.shape, training.recipe, training.kernels, moe=moe),
            policy,
            training.num_tokens,
            training.sequence_length,
            sharding,
        )
        for moe in (False, True)
    )
    return dense, moe
