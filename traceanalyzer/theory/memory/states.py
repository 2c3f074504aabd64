"""Weights, gradients and optimizer state of a rank, by ZeRO stage.

ZeRO (Rajbhandari et al., arXiv 1910.02054, section 5): of the bytes per parameter, stage 1 divides the optimizer's over the
N replicas, stage 2 the gradients' too, stage 3 the weights' too. With mixed-precision Adam (2 + 2 + 12 bytes) and N = 64 a
model of 7.5 billion parameters takes 120, 31.4, 16.6 and 1.9 GB. Experts have replicas of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from traceanalyzer.model import ModelShape
from traceanalyzer.theory.memory.recipes import Recipe
from traceanalyzer.theory.memory.sharding import Sharding, local_kv_heads
from traceanalyzer.theory.memory.stages import Holding
from traceanalyzer.theory.model.parameters import layer_parameters, mtp_projection_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalParameters:
    """Parameters of one rank, ZeRO left out."""

    matrices: float
    """In layers, outside experts."""
    others: float
    """Embedding, head, norms and what else."""
    experts: float
    """Routed experts."""
    layer: float
    """The largest layer, experts included: what ZeRO-3 gathers at a time."""

    @property
    def total(self) -> float:
        """All."""
        return self.matrices + self.others + self.experts


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBytes:
    """Bytes of a rank between steps."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All."""
        return self.weights + self.gradients + self.optimizer


@dataclass(frozen=True, slots=True)
class _Layer:
    matrices: float
    others: float
    experts: float


@cache
def local_parameters(shape: ModelShape, tp: int, ep: int, etp: int, holding: Holding) -> LocalParameters:
    """Parameters of a rank with these layers: matrices are cut `tp`-fold, experts over `ep` ranks and `etp`-fold.

    Norms, routers and the low-rank projections of latent attention are whole on every rank.
    """
    dense, moe = _kinds(shape)
    of_dense, of_moe = _layer(shape, dense, tp, ep, etp), _layer(shape, moe, tp, ep, etp)
    parts = [(of_dense, holding.num_dense), (of_moe, holding.num_moe)]
    if holding.head and shape.num_mtp_layers:
        parts.append((of_moe if shape.num_experts else of_dense, shape.num_mtp_layers))
    matrices = sum(layer.matrices * count for layer, count in parts)
    others = sum(layer.others * count for layer, count in parts)
    table = shape.hidden_size * shape.vocab_size / tp
    if holding.embedding:
        others += table
    if holding.head:
        others += shape.hidden_size
        others += 0 if shape.tied_embeddings and holding.embedding else table
        projection = mtp_projection_parameters(shape)
        matrices += shape.num_mtp_layers * projection.projection / tp
        others += shape.num_mtp_layers * projection.norms
    return LocalParameters(
        matrices=matrices,
        others=others,
        experts=sum(layer.experts * count for layer, count in parts),
        layer=max(layer.matrices + layer.others + layer.experts for layer, count in parts if count or len(parts) == 1)
        if any(count for _, count in parts)
        else 0,
    )


def state_bytes(parameters: LocalParameters, recipe: Recipe, sharding: Sharding) -> StateBytes:
    """Weights, gradients and optimizer state that a rank keeps."""
    shared = sharding.replicas if sharding.zero else 1
    expert = sharding.expert_replicas if sharding.zero else 1
    optimizer = (
        parameters.matrices * recipe.matrix_optimizer / shared
        + parameters.others * recipe.other_optimizer / shared
        + parameters.experts * recipe.matrix_optimizer / expert
    )
    gradients, weights = (
        _divided(parameters, size, sharding, from_stage=stage)
        for size, stage in ((recipe.gradient, 2), (recipe.weight, 3))
    )
    return StateBytes(weights=weights, gradients=gradients, optimizer=optimizer)


def gathered_bytes(parameters: LocalParameters, recipe: Recipe, sharding: Sharding) -> float:
    """Working space of ZeRO-3: the layer in use and the next one, gathered, and a layer's whole gradient."""
    if sharding.zero < 3:
        return 0.0
    return parameters.layer * (2 * recipe.gathered + recipe.gradient)


def _divided(parameters: LocalParameters, size: float, sharding: Sharding, *, from_stage: int) -> float:
    if sharding.zero < from_stage:
        return parameters.total * size
    shared = (parameters.matrices + parameters.others) / sharding.replicas
    return size * (shared + parameters.experts / sharding.expert_replicas)


@cache
def _kinds(shape: ModelShape) -> tuple[int | None, int | None]:
    """A dense layer and one with experts."""
    layers = range(shape.num_layers)
    dense = next((layer for layer in layers if not shape.is_moe_layer(layer)), None)
    return dense, next((layer for layer in layers if shape.is_moe_layer(layer)), None)


@cache
def _layer(shape: ModelShape, layer: int | None, tp: int, ep: int, etp: int) -> _Layer:
    if layer is None:
        return _Layer(0, 0, 0)
    count = layer_parameters(shape, layer)
    attention = _attention(shape, count.attention, tp)
    extra = shape.extra_parameters / shape.num_layers
    return _Layer(
        matrices=attention + (count.mlp + count.shared_experts) / tp + count.router,
        others=count.norms + extra,
        experts=count.experts / (ep * etp),
    )


def _attention(shape: ModelShape, whole: int, tp: int) -> float:
    latent, hidden = shape.latent_attention, shape.hidden_size
    if latent is None:
        keys_and_values = 2 * hidden * shape.head_size
        return (whole - keys_and_values * shape.num_kv_heads) / tp + keys_and_values * local_kv_heads(shape, tp)
    down = hidden * (latent.query_rank + latent.key_value_rank + latent.rotary_head_size)
    return (whole - down) / tp + down
