"""What one microbatch keeps for backward in a layer, part by part, by recompute policy, TP, SP, CP and EP.

Every part says how many elements per token it keeps, in which size, and what divides it. With dropout, unfused attention and
a plain MLP of 4h the sum is that of Korthikanti et al. (arXiv 2205.05198, section 4): sbh(34 + 5as/h) bytes per layer,
sbh(10 + 24/t + 5as/(ht)) with tensor parallelism, sbh/t (34 + 5as/h) with sequence parallelism, without 5as/h where core
attention is recomputed, 2sbh with full recompute. Without dropout and with fused attention it is what torch's autograd keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from traceanalyzer.model import ModelShape
from traceanalyzer.theory.memory.recipes import Recipe
from traceanalyzer.theory.memory.sharding import Sharding

_WORD = 4


class Policy(StrEnum):
    """What backward computes again in a layer, and so need not be kept."""

    NONE = "none"
    ATTENTION = "attention"
    """Core attention: scores, softmax and its dropout. Fused attention does this anyway."""
    SELECTIVE = "selective"
    """Core attention, outputs of norms and of the MLP's non-linearity; with latent attention the projections up from it too."""
    FULL = "full"
    """The whole layer: its input alone is kept."""


class Split(StrEnum):
    """What a part is divided by."""

    TENSOR = "tensor"
    """By TP."""
    TOKENS = "tokens"
    """By TP where sequence parallelism divides tokens between its regions."""
    EXPERT_ROWS = "expert_rows"
    """Rows that experts read: those of all ranks that share an expert's slices."""
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Part:
    """Something that one layer keeps."""

    name: str
    elements: float
    """Per token of the microbatch; per token and token of the sequence where `per_sequence`."""
    bytes: float
    split: Split
    recomputed_by: Policy = Policy.FULL
    """The first policy that computes it again."""
    per_sequence: bool = False
    most: int = 0
    """It is divided by no more than this; 0: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """How layers are computed, as far as it decides what they keep."""

    fused_attention: bool = True
    """Scores are never stored (FlashAttention)."""
    fused_activation: bool = True
    """A gated MLP keeps its two inputs and the product; else the non-linearity's own output too."""
    dropout: bool = False
    early_weights: bool = True
    """The router's weights multiply what is inside experts, not their outputs, which then need not be kept (Megatron-Core)."""


_ORDER = (Policy.NONE, Policy.ATTENTION, Policy.SELECTIVE, Policy.FULL)


@cache
def layer_parts(shape: ModelShape, recipe: Recipe, kernels: Kernels, *, moe: bool) -> tuple[Part, ...]:
    """Everything that a dense layer, or one with experts, keeps."""
    return (*_attention(shape, recipe, kernels), *(_experts if moe else _mlp)(shape, recipe, kernels))


def layer_bytes(
    parts: tuple[Part, ...], policy: Policy, num_tokens: float, sequence_length: int, sharding: Sharding
) -> float:
    """Bytes that a rank keeps of one microbatch in one layer.

    `num_tokens` counts the microbatch's tokens before context parallelism divides them. Full recompute keeps the first
    part alone, the layer's input.
    """
    tokens = num_tokens / sharding.cp
    if policy is Policy.FULL:
        parts = parts[:1]
    kept = 0.0
    for index, part in enumerate(parts):
        if index and _ORDER.index(part.recomputed_by) <= _ORDER.index(policy):
            continue
        length = sequence_length if part.per_sequence else 1
        kept += part.elements * length * part.bytes / _divisor(part, sharding)
    return kept * tokens


def head_bytes(shape: ModelShape, recipe: Recipe, num_tokens: float, sharding: Sharding) -> tuple[float, float]:
    """Bytes kept behind the last layer (norm, head input, 32-bit logits), and the logits' gradient beside them.

    Multi-token-prediction layers have logits of their own, made one after another.
    """
    tokens = num_tokens / sharding.cp
    hidden = 2 * shape.hidden_size * recipe.activation / sharding.token_split
    logits = shape.vocab_size / sharding.tp
    copies = 1 + shape.num_mtp_layers
    return tokens * copies * (hidden + _WORD * logits), tokens * recipe.activation * logits


def boundary_bytes(shape: ModelShape, recipe: Recipe, num_tokens: float, sharding: Sharding) -> float:
    """One boundary tensor of a rank: b·s·h, divided by CP and by TP under sequence parallelism."""
    return num_tokens / sharding.cp * shape.hidden_size * recipe.activation / sharding.token_split


def _divisor(part: Part, sharding: Sharding) -> float:
    if part.split is Split.TENSOR:
        return min(sharding.tp, part.most) if part.most else sharding.tp
    if part.split is Split.TOKENS:
        return sharding.token_split
    return sharding.token_split / sharding.etp if part.split is Split.EXPERT_ROWS else 1


def _attention(shape: ModelShape, recipe: Recipe, kernels: Kernels) -> Iterator[Part]:
    hidden, heads, size = shape.hidden_size, shape.num_heads, recipe.activation
    linear = recipe.linear_input
    yield Part("input of the norm", hidden, size, Split.TOKENS)
    yield Part("statistics of norms", 4, 0 if kernels.dropout else _WORD, Split.TOKENS)
    yield Part("input of queries, keys and values", hidden, linear, Split.TOKENS, Policy.SELECTIVE)
    latent = shape.latent_attention
    if latent:
        ranks = latent.query_rank + latent.key_value_rank
        yield Part("latents", ranks + latent.rotary_head_size, size, Split.WHOLE)
        yield Part("normed latents", ranks, linear, Split.WHOLE, Policy.SELECTIVE)
        projected = heads * (2 * latent.head_size + latent.value_head_size)
        yield Part("queries, keys, values", projected, size, Split.TENSOR, Policy.SELECTIVE)
    else:
        yield Part("queries", heads * shape.head_size, size, Split.TENSOR)
        pair = 2 * shape.num_kv_heads * shape.head_size
        yield Part("keys and values", pair, size, Split.TENSOR, most=shape.num_kv_heads)
    if kernels.fused_attention:
        yield Part("logarithm of the scores' sum", heads, _WORD, Split.TENSOR)
    else:
        yield Part("softmax", heads, size, Split.TENSOR, Policy.ATTENTION, per_sequence=True)
        if kernels.dropout:
            yield Part("dropped softmax", heads, size, Split.TENSOR, Policy.ATTENTION, per_sequence=True)
            yield Part("mask of the softmax", heads, 1, Split.TENSOR, Policy.ATTENTION, per_sequence=True)
    yield Part("output of attention", heads * shape.head_sizes[1], linear, Split.TENSOR)
    if kernels.dropout:
        yield Part("mask behind attention", hidden, 1, Split.TOKENS)
    yield Part("input of the second norm", hidden, size, Split.TOKENS)


def _mlp(shape: ModelShape, recipe: Recipe, kernels: Kernels) -> Iterator[Part]:
    yield Part("input of the MLP", shape.hidden_size, recipe.linear_input, Split.TOKENS, Policy.SELECTIVE)
    yield from _inner(shape.ffn_size, shape, recipe, kernels, Split.TENSOR, "MLP")
    if kernels.dropout:
        yield Part("mask behind the MLP", shape.hidden_size, 1, Split.TOKENS)


def _experts(shape: ModelShape, recipe: Recipe, kernels: Kernels) -> Iterator[Part]:
    copies, size = shape.experts_per_token, recipe.activation
    yield Part("input of the router", shape.hidden_size, recipe.linear_input, Split.TOKENS, Policy.SELECTIVE)
    yield Part("scores of the router", shape.num_experts, _WORD, Split.TOKENS)
    yield Part("rows of the experts", copies * shape.hidden_size, recipe.linear_input, Split.EXPERT_ROWS)
    yield from _inner(copies * shape.expert_ffn_size, shape, recipe, kernels, Split.TOKENS, "experts")
    if not kernels.early_weights:
        yield Part("outputs to be combined", copies * shape.hidden_size, size, Split.TOKENS)
    if shape.shared_expert_ffn_size:
        yield from _inner(shape.shared_expert_ffn_size, shape, recipe, kernels, Split.TENSOR, "shared expert")


def _inner(
    width: float, shape: ModelShape, recipe: Recipe, kernels: Kernels, split: Split, name: str
) -> Iterator[Part]:
    """Before and after the non-linearity. Slices of an expert see `etp` times the rows, a part of the width each."""
    gates = 2 if shape.gated_mlp else 1
    yield Part(f"before the non-linearity ({name})", gates * width, recipe.activation, split)
    if shape.gated_mlp and not kernels.fused_activation:
        yield Part(f"gate ({name})", width, recipe.activation, split, Policy.SELECTIVE)
    yield Part(f"after the non-linearity ({name})", width, recipe.linear_input, split, Policy.SELECTIVE)
