"""Floating-point operations per token of training, exact, by part, layer and stage, in a named convention.

A multiply-add counts as two. A matrix multiplication costs its weights twice per token forward, and twice that
backward (input-gradient and weight-gradient). Attention scores and their product with the values cost
`2 * heads * (query/key size + value size)` per token and key read. Everything is a whole number.

The conventions differ by up to a factor of 1.8 on one and the same run: a number without its convention says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from traceanalyzer.errors import DomainError
from traceanalyzer.model import ModelShape
from traceanalyzer.theory.model.compressed_attention import twice_compressed_keys, twice_indexed_keys
from traceanalyzer.theory.model.mixing import delta_recurrence, mamba_recurrence, twice_keys_read
from traceanalyzer.theory.model.parameters import (
    Parameters,
    edge_parameters,
    layer_parameters,
    mtp_layer_parameters,
    mtp_projection_parameters,
    reads_encoder,
)


class Convention(StrEnum):
    """What is counted. `docs/flops.md` has the table with sources."""

    EXACT_CAUSAL = "exact_causal"
    """Every matrix multiplication; a query reads half the sequence, less beyond a sliding window. The default.

    Half is the field's approximation of `(s + 1) / 2`: it leaves out half of every query's product with its own key.
    """
    FULL_ATTENTION = "full_attention"
    """Every matrix multiplication; a query reads the whole sequence, as an unmasked kernel does."""
    SIX_N = "six_n"
    """6 per active parameter, embedding table included, no attention (Kaplan et al. 2020, with N as in PaLM)."""
    PALM = "palm"
    """6 per active parameter, embedding table included, full attention (PaLM, arXiv 2204.02311, appendix B)."""
    MEGATRON = "megatron"
    """Megatron-LM since March 2025: half the sequence, no router."""
    MEGATRON_LEGACY = "megatron_legacy"
    """Megatron-LM before March 2025 and nanotron: the whole sequence, no router."""
    TORCHTITAN = "torchtitan"
    """torchtitan: 6 per active parameter, norms and biases too, without an untied embedding table; full attention."""
    TORCHTITAN_2024 = "torchtitan_2024"
    """torchtitan in 2024, nanoGPT, picotron, llm-foundry: 6 per active parameter of any kind; full attention."""


class Recompute(StrEnum):
    """What backward computes again."""

    NONE = "none"
    SELECTIVE = "selective"
    """Core attention of every layer (Korthikanti et al., arXiv 2205.05198)."""
    FULL = "full"
    """The forward of every layer; not the logits."""


@dataclass(frozen=True, slots=True)
class _Rules:
    span_halves: int
    """Share of the sequence that a query reads, in halves."""
    router: bool = True
    embedding: bool = False
    """Count 2 per embedding-table parameter forward, as `6N` does though a look-up computes nothing."""
    other: bool = False
    """Likewise for norms and biases."""
    mtp_norms: bool = False
    window: bool = False
    """Count a sliding window, a chunk or the keys that an indexer chooses."""
    megatron: bool = False
    """Count recurrences as Megatron-LM does, and no indexer."""


_RULES = {
    Convention.EXACT_CAUSAL: _Rules(1, window=True),
    Convention.FULL_ATTENTION: _Rules(2),
    Convention.SIX_N: _Rules(0, embedding=True),
    Convention.PALM: _Rules(2, embedding=True),
    Convention.MEGATRON: _Rules(1, router=False, mtp_norms=True, megatron=True),
    Convention.MEGATRON_LEGACY: _Rules(2, router=False, megatron=True),
    Convention.TORCHTITAN: _Rules(2, other=True),
    Convention.TORCHTITAN_2024: _Rules(2, embedding=True, other=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopsPerToken:
    """FLOPs of one token: forward by part, and from it backward, the model's total and the hardware's."""

    convention: Convention
    sequence_length: int
    attention_projections: int = 0
    core_attention: int = 0
    mlp: int = 0
    router: int = 0
    experts: int = 0
    shared_experts: int = 0
    latent_projections: int = 0
    """Into and out of the size that routed experts work on."""
    recurrent_projections: int = 0
    """Of Mamba-2 and gated-delta-net mixers."""
    recurrence: int = 0
    """Their states and short convolutions."""
    indexer: int = 0
    """Choosing keys for sparse attention: projections and scores."""
    residual: int = 0
    """Projections that weigh several residual streams."""
    adapter: int = 0
    input: int = 0
    """Image patches."""
    projection: int = 0
    """In front of multi-token-prediction layers, or of the output matrix."""
    logits: int = 0
    embedding: int = 0
    """Not computed by any device; counted in conventions that start from the number of parameters."""
    other: int = 0
    """Norms and biases, likewise."""
    spared: int = 0
    """Gradient FLOPs that are not computed: of the weights of frozen matrices, and of image patches themselves."""
    recomputed: int = 0
    """Forward FLOPs that backward computes again; part of `hardware` only."""

    def __add__(self, other: FlopsPerToken) -> FlopsPerToken:
        names = (*PARTS, "spared", "recomputed")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in names})

    def by_part(self) -> dict[str, int]:
        """Forward FLOPs of every part that is not zero."""
        return {name: getattr(self, name) for name in PARTS if getattr(self, name)}

    @property
    def forward(self) -> int:
        """Forward FLOPs."""
        return sum(getattr(self, name) for name in PARTS)

    @property
    def backward(self) -> int:
        """Input-gradient and weight-gradient FLOPs, each as much as forward less what is spared."""
        return 2 * self.forward - self.spared

    @property
    def total(self) -> int:
        """What the model needs, forward and backward: the numerator of MFU."""
        return self.forward + self.backward

    @property
    def hardware(self) -> int:
        """What is computed: `total` and what backward recomputes: the numerator of HFU."""
        return self.total + self.recomputed


PARTS = tuple(
    field.name
    for field in fields(FlopsPerToken)
    if field.name not in {"convention", "sequence_length", "spared", "recomputed"}
)
"""The parts of a forward pass, in the order in which a token meets them."""


def flops_per_token(
    shape: ModelShape,
    sequence_length: int,
    convention: Convention = Convention.EXACT_CAUSAL,
    *,
    recompute: Recompute = Recompute.NONE,
) -> FlopsPerToken:
    """FLOPs of one token of a sequence of `sequence_length` tokens through the whole model, averaged over positions.

    Raises `DomainError` if the model is unknown or the sequence empty.
    """
    if shape.num_layers == 0:
        raise DomainError("the model is not described", "describe it: preset, config.json or flags")
    (whole,) = stage_flops_per_token(shape, sequence_length, [shape.num_layers], convention, recompute=recompute)
    return whole


def stage_flops_per_token(
    shape: ModelShape,
    sequence_length: int,
    layer_split: Sequence[int],
    convention: Convention = Convention.EXACT_CAUSAL,
    *,
    recompute: Recompute = Recompute.NONE,
) -> tuple[FlopsPerToken, ...]:
    """FLOPs of one token on every stage; `layer_split` gives the number of layers of each, first stage first.

    The embedding lies on the first stage; logits and multi-token-prediction layers on the last.
    Raises `DomainError` if the split does not add up to the model's layers.
    """
    if sum(layer_split) != shape.num_layers or not layer_split or min(layer_split) < 0:
        raise DomainError(
            f"layer split {list(layer_split)} does not place the model's {shape.num_layers} layers",
            "give the number of layers of every stage, adding up to the model's",
        )
    edges = edge_flops_per_token(shape, sequence_length, convention, recompute=recompute)
    stages: list[FlopsPerToken] = []
    first = 0
    for stage, num_layers in enumerate(layer_split):
        flops = edges[0] if stage == 0 else FlopsPerToken(convention=convention, sequence_length=sequence_length)
        for layer in range(first, first + num_layers):
            flops += layer_flops_per_token(shape, sequence_length, layer, convention, recompute=recompute)
        stages.append(flops)
        first += num_layers
    stages[-1] += edges[1]
    return tuple(stages)


def layer_flops_per_token(
    shape: ModelShape,
    sequence_length: int,
    layer: int,
    convention: Convention = Convention.EXACT_CAUSAL,
    *,
    recompute: Recompute = Recompute.NONE,
) -> FlopsPerToken:
    """FLOPs of one token in one layer, counted from 0."""
    if sequence_length < 1:
        raise DomainError(f"a sequence of {sequence_length} tokens has no FLOPs", "give a positive sequence length")
    rules = _RULES[convention]
    weights = _of_weights(shape, layer_parameters(shape, layer), convention, sequence_length, rules)
    flops = _mixed(shape, weights, shape.mixer(layer), layer, rules)
    if reads_encoder(shape, layer) and rules.span_halves:
        every_key = 2 * sequence_length * shape.num_heads * sum(shape.head_sizes)
        flops = replace(flops, core_attention=flops.core_attention + every_key)
    return replace(flops, recomputed=_recomputed(flops, recompute))


def edge_flops_per_token(
    shape: ModelShape,
    sequence_length: int,
    convention: Convention = Convention.EXACT_CAUSAL,
    *,
    recompute: Recompute = Recompute.NONE,
) -> tuple[FlopsPerToken, FlopsPerToken]:
    """FLOPs of one token before the first layer and after the last."""
    rules = _RULES[convention]
    edge = _of_weights(shape, edge_parameters(shape), convention, sequence_length, rules)
    before = replace(edge, logits=0, other=0, projection=0, residual=0)
    frozen = before.forward if shape.adapter else 0
    after = replace(edge, embedding=0, input=0, spared=edge.spared - frozen)
    before = replace(before, spared=frozen + before.input)
    for _ in range(shape.num_mtp_layers):
        after += _mtp_module(shape, edge, rules, recompute)
    return before, after


def _mtp_module(shape: ModelShape, edge: FlopsPerToken, rules: _Rules, recompute: Recompute) -> FlopsPerToken:
    convention, sequence_length = edge.convention, edge.sequence_length
    own_rules = replace(rules, other=rules.other or rules.mtp_norms)
    own = _of_weights(shape, mtp_projection_parameters(shape), convention, sequence_length, own_rules)
    module = replace(own, logits=edge.logits)
    for mixer, count in mtp_layer_parameters(shape):
        weights = _of_weights(shape, count, convention, sequence_length, rules)
        layer = _mixed(shape, weights, mixer, shape.num_layers - 1, rules)
        module += replace(layer, recomputed=_recomputed(layer, recompute))
    return module


def _of_weights(
    shape: ModelShape, count: Parameters, convention: Convention, sequence_length: int, rules: _Rules
) -> FlopsPerToken:
    """Forward FLOPs of everything that costs twice its parameters."""
    flops = FlopsPerToken(
        convention=convention,
        sequence_length=sequence_length,
        attention_projections=2 * count.attention,
        mlp=2 * count.mlp,
        router=2 * count.router if rules.router else 0,
        experts=2 * count.active_experts,
        shared_experts=2 * count.shared_experts,
        latent_projections=2 * count.latent_projections,
        recurrent_projections=2 * count.recurrent,
        indexer=0 if rules.megatron else 2 * count.indexer,
        residual=2 * count.residual,
        adapter=2 * count.adapter,
        input=2 * count.input,
        projection=2 * count.projection,
        logits=2 * count.output,
        embedding=2 * count.embedding if rules.embedding else 0,
        other=2 * (count.norms + count.extra) if rules.other else 0,
    )
    if shape.adapter is None:
        return flops
    trained = flops.adapter + (flops.logits if shape.adapter.trains_output else 0)
    return replace(flops, spared=flops.forward - trained)


def _mixed(shape: ModelShape, flops: FlopsPerToken, mixer: str, layer: int, rules: _Rules) -> FlopsPerToken:
    """`flops` and what mixing tokens costs beyond the weights."""
    length, halves = flops.sequence_length, rules.span_halves
    if mixer == "attention":
        keys_twice = twice_keys_read(shape, length, layer, halves, window=rules.window)
        core = shape.num_heads * sum(shape.head_sizes) * keys_twice
        chooser = None if rules.megatron else shape.indexer
        scores = chooser.num_heads * chooser.head_size * length * halves if chooser else 0
        return replace(flops, core_attention=core, indexer=flops.indexer + scores)
    if mixer in ("window", "sparse", "heavy"):
        return _compressed(shape, flops, mixer, rules)
    if not halves:
        return flops
    if mixer == "mamba" and shape.mamba:
        return replace(flops, recurrence=mamba_recurrence(shape.mamba, megatron=rules.megatron))
    if mixer == "delta" and shape.delta:
        return replace(flops, recurrence=delta_recurrence(shape.delta, megatron=rules.megatron))
    return flops


def _compressed(shape: ModelShape, flops: FlopsPerToken, mixer: str, rules: _Rules) -> FlopsPerToken:
    keys_twice = twice_compressed_keys(
        shape, mixer, flops.sequence_length, rules.span_halves, window=rules.window or rules.megatron
    )
    core = 2 * shape.num_heads * shape.head_size * keys_twice
    chooser = shape.indexer
    if mixer != "sparse" or chooser is None or shape.compressed is None:
        return replace(flops, core_attention=core)
    pairs_twice = twice_indexed_keys(shape.compressed, flops.sequence_length, rules.span_halves)
    scores = chooser.num_heads * chooser.head_size * pairs_twice
    return replace(flops, core_attention=core, indexer=flops.indexer + scores)


def _recomputed(layer: FlopsPerToken, recompute: Recompute) -> int:
    if recompute is Recompute.FULL:
        return layer.forward
    return layer.core_attention if recompute is Recompute.SELECTIVE else 0
