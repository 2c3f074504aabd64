"""What one microbatch costs in one layer on one rank: computation by phase, exchanges by dimension.

Matrix multiplies by shape (`gemm`), fused attention at its share of the peak (its backward computes 2.5 times its forward's
FLOPs: scores once more and four products; FlashAttention-2, arXiv 2307.08691), elementwise work by the bytes it moves. With
tensor parallelism a layer gathers and scatters its tokens around attention and MLP (Korthikanti et al., arXiv 2205.05198).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from traceanalyzer.model import ModelShape
from traceanalyzer.theory.experts.volumes import distinct_destinations, node_limited_destinations
from traceanalyzer.theory.interconnect.alpha_beta import Op
from traceanalyzer.theory.interconnect.collectives import all_to_all_ports_ns, exchange_ns
from traceanalyzer.theory.interconnect.dimension_volumes import ContextExchange
from traceanalyzer.theory.interconnect.topology import group
from traceanalyzer.theory.memory.sharding import local_kv_heads
from traceanalyzer.theory.model.flops import layer_flops_per_token
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.prices.gemm import gemm_ns

_NS = 1e9
_WORD = 2
_Shape = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Nanoseconds of one layer and microbatch on one rank."""

    forward: float
    """Computation."""
    input_gradient: float
    weight_gradient: float
    selective: float
    """Of `forward`: what selective recompute runs again (norms and non-linearities; projections up from latents)."""
    core_attention: float
    """Of `forward`: what selective recompute runs again where attention is not fused."""
    tp: float = 0.0
    """Exposed exchange of tensor parallelism, forward; backward takes as long."""
    ep: float = 0.0
    """Likewise of experts."""
    cp_forward: float = 0.0
    """Exposed exchange of keys and values."""
    cp_backward: float = 0.0

    @property
    def exchanges(self) -> float:
        """Forward."""
        return self.tp + self.ep + self.cp_forward


@dataclass(frozen=True, slots=True)
class Cell:
    """How a layer's tokens and matrices are divided, and how many tokens there are."""

    tokens: int
    """Of the microbatch, on the ranks of one TP group."""
    tp: int
    cp: int
    ep: int
    etp: int


def layer_cost(job: PlanJob, cell: Cell, *, moe: bool) -> LayerCost:
    """The cost of a dense layer, or of one with experts."""
    core, core_backward = _core_attention(job, cell)
    shapes = [
        *_attention_shapes(job.shape, cell),
        *(_expert_shapes(job, cell) if moe else _mlp_shapes(job.shape, cell)),
    ]
    forward, inputs, weights = _multiplies(job, shapes)
    moved = _elementwise_bytes(job.shape, cell, moe=moe) / job.rates.memory_bytes_per_second * _NS
    context = _context(job, cell, core, core_backward)
    return LayerCost(
        forward=forward + core + moved,
        input_gradient=inputs + core_backward + 2 * moved,
        weight_gradient=weights,
        selective=moved + _up_projections(job, cell),
        core_attention=core,
        tp=_tensor_exchange(job, cell, moe=moe),
        ep=_expert_exchange(job, cell) if moe else 0.0,
        cp_forward=context[0],
        cp_backward=context[1],
    )


def head_cost(job: PlanJob, cell: Cell) -> LayerCost:
    """The norm, logits and loss behind the last layer, once for the model and once for each multi-token-prediction layer."""
    shape = job.shape
    copies = 1 + shape.num_mtp_layers
    forward, inputs, weights = _multiplies(job, [(cell.tokens, shape.vocab_size // cell.tp, shape.hidden_size, 1)])
    softmax = 16.0 * cell.tokens * shape.vocab_size / cell.tp / job.rates.memory_bytes_per_second * _NS
    return LayerCost(
        forward=copies * (forward + softmax),
        input_gradient=copies * (inputs + softmax),
        weight_gradient=copies * weights,
        selective=copies * softmax,
        core_attention=0.0,
    )


def _multiplies(job: PlanJob, shapes: list[_Shape]) -> tuple[float, float, float]:
    """Forward, input-gradient and weight-gradient of matrix multiplies."""
    rates = job.rates
    return (
        sum(gemm_ns(m, n, k, count, rates) for m, n, k, count in shapes),
        sum(gemm_ns(m, k, n, count, rates) for m, n, k, count in shapes),
        sum(gemm_ns(k, n, m, count, rates) for m, n, k, count in shapes),
    )


def _attention_shapes(shape: ModelShape, cell: Cell) -> Iterator[_Shape]:
    tokens, hidden, heads = cell.tokens, shape.hidden_size, shape.num_heads // cell.tp
    latent = shape.latent_attention
    if latent is None:
        yield tokens, (heads + 2 * local_kv_heads(shape, cell.tp)) * shape.head_size, hidden, 1
        yield tokens, hidden, heads * shape.head_size, 1
        return
    if latent.query_rank:
        yield tokens, latent.query_rank, hidden, 1
    yield tokens, heads * latent.head_size, latent.query_rank or hidden, 1
    yield tokens, latent.key_value_rank + latent.rotary_head_size, hidden, 1
    yield tokens, heads * (latent.plain_head_size + latent.value_head_size), latent.key_value_rank, 1
    yield tokens, hidden, heads * latent.value_head_size, 1


def _up_projections(job: PlanJob, cell: Cell) -> float:
    """Forward, in ns; 0 without latent attention."""
    if job.shape.latent_attention is None:
        return 0.0
    shapes = [*_attention_shapes(job.shape, cell)]
    up = [shapes[-4], shapes[-2]]
    return _multiplies(job, up)[0]


def _mlp_shapes(shape: ModelShape, cell: Cell) -> Iterator[_Shape]:
    yield from _inner_shapes(shape, cell.tokens, shape.ffn_size // cell.tp, 1)


def _inner_shapes(shape: ModelShape, rows: int, width: int, count: int) -> Iterator[_Shape]:
    yield rows, (2 if shape.gated_mlp else 1) * width, shape.hidden_size, count
    yield rows, shape.hidden_size, width, count


def _expert_shapes(job: PlanJob, cell: Cell) -> Iterator[_Shape]:
    """Experts of the fullest rank: as many rows as it receives, in equal parts."""
    shape = job.shape
    local = max(1, shape.num_experts // cell.ep)
    rows = shape.experts_per_token * cell.tokens / cell.tp * cell.etp * job.load_ratio
    yield from _inner_shapes(shape, max(1, round(rows / local)), max(1, shape.expert_ffn_size // cell.etp), local)
    yield cell.tokens // cell.tp or 1, shape.num_experts, shape.hidden_size, 1
    if shape.shared_expert_ffn_size:
        yield from _inner_shapes(shape, cell.tokens, max(1, shape.shared_expert_ffn_size // cell.tp), 1)


def _core_attention(job: PlanJob, cell: Cell) -> tuple[float, float]:
    """Forward and backward."""
    if not job.kernels.fused_attention:
        return _stored_scores(job, cell)
    flops = _core_flops(job.shape, job.sequence_length) * cell.tokens / cell.tp
    peak = job.cluster.spec.peak("bf16")
    cluster = job.cluster
    return flops / (peak * cluster.attention) * _NS, 2.5 * flops / (peak * cluster.attention_backward) * _NS


@cache
def _core_flops(shape: ModelShape, sequence_length: int) -> float:
    """Per token, the mean over layers: some may read a window only."""
    layers = range(shape.num_layers)
    total = sum(layer_flops_per_token(shape, sequence_length, layer).core_attention for layer in layers)
    return total / shape.num_layers


def _stored_scores(job: PlanJob, cell: Cell) -> tuple[float, float]:
    """Scores of the whole square, written and read by softmax and dropout: 10 bytes a score forward, 14 backward."""
    shape, length = job.shape, job.sequence_length
    batches = max(1, cell.tokens * cell.cp // length) * shape.num_heads // cell.tp
    rows = max(1, length // cell.cp)
    shapes = [(rows, length, shape.head_sizes[0], batches), (rows, shape.head_sizes[1], length, batches)]
    forward, inputs, weights = _multiplies(job, shapes)
    per_byte = batches * rows * length / job.rates.memory_bytes_per_second * _NS
    return forward + 10 * per_byte, inputs + weights + 14 * per_byte


def _elementwise_bytes(shape: ModelShape, cell: Cell, *, moe: bool) -> float:
    """Two norms and two sums of residuals on a rank's own tokens, rotations, the non-linearity, expert rows sorted twice."""
    hidden, split = shape.hidden_size, cell.tp
    own = 2 * 2 * hidden + 2 * 3 * hidden
    rotated = 2 * (shape.num_heads + shape.num_kv_heads) * shape.head_sizes[0]
    gates = 3 if shape.gated_mlp else 2
    if moe:
        inner = gates * (shape.experts_per_token * shape.expert_ffn_size + shape.shared_expert_ffn_size)
        inner += 5 * shape.experts_per_token * hidden
    else:
        inner = gates * shape.ffn_size
    return _WORD * cell.tokens * (own + rotated + inner) / split


def _tensor_exchange(job: PlanJob, cell: Cell, *, moe: bool) -> float:
    """Gathering and scattering around attention and MLP; around experts only where they are sliced."""
    if cell.tp == 1 and cell.etp == 1:
        return 0.0
    tensor = float(cell.tokens * job.shape.hidden_size * _WORD)
    members = group(job.cluster, cell.tp)
    pair = sum(exchange_ns(op, tensor, members, job.cluster) for op in (Op.ALL_GATHER, Op.REDUCE_SCATTER))
    if not moe:
        return 2 * pair
    rows = tensor * job.shape.experts_per_token / cell.tp * cell.etp * job.load_ratio
    slices = group(job.cluster, cell.etp)
    return pair + sum(exchange_ns(op, rows, slices, job.cluster) for op in (Op.ALL_GATHER, Op.REDUCE_SCATTER))


def _expert_exchange(job: PlanJob, cell: Cell) -> float:
    """Dispatch and combine, forward."""
    if cell.ep == 1:
        return 0.0
    shape = job.shape
    tokens = cell.tokens / cell.tp * job.load_ratio
    words = (job.recipe.linear_input * (1 + 4 / 128 * (job.recipe.linear_input < _WORD)), _WORD)
    members = group(job.cluster, cell.ep, cell.etp)
    if not job.deduplicated or members.num_domains == 1:
        sizes = (shape.experts_per_token * tokens * shape.hidden_size * word for word in words)
        return sum(exchange_ns(Op.ALL_TO_ALL, size, members, job.cluster) for size in sizes)
    domains = members.num_domains
    far = tokens * shape.hidden_size * _domains_reached(shape, domains) * (domains - 1) / domains
    near = tokens * shape.hidden_size * shape.experts_per_token * (members.per_domain - 1) / members.per_domain
    return sum(all_to_all_ports_ns(near * word, far * word, members, job.cluster) for word in words)


@cache
def _domains_reached(shape: ModelShape, num_domains: int) -> float:
    """Mean number of domains among a token's experts; routing limited to groups is as DeepSeek-V3's."""
    limited = 0 < shape.groups_per_token < shape.expert_groups == num_domains
    if limited and shape.experts_per_token % shape.groups_per_token == 0:
        return node_limited_destinations(
            shape.num_experts, shape.experts_per_token, num_domains, shape.groups_per_token
        )
    if shape.num_experts % num_domains:
        return float(min(shape.experts_per_token, num_domains))
    return distinct_destinations(shape.num_experts, shape.experts_per_token, num_domains)


def _context(job: PlanJob, cell: Cell, forward: float, backward: float) -> tuple[float, float]:
    """Exposed exchange of keys and values: a ring hides behind attention, gathering and Ulysses do not.

    After every block of a ring the output so far is read, weighed against the new one and written.
    """
    if cell.cp == 1:
        return 0.0, 0.0
    shape, latent = job.shape, job.shape.latent_attention
    kv_heads = shape.num_heads // cell.tp if latent else local_kv_heads(shape, cell.tp)
    block = float(cell.tokens * kv_heads * sum(shape.head_sizes) * _WORD)
    members = group(job.cluster, cell.cp, cell.tp)
    if job.context_exchange is ContextExchange.ALL_GATHER:
        gathered = exchange_ns(Op.ALL_GATHER, block * cell.cp, members, job.cluster)
        return gathered, gathered + exchange_ns(Op.REDUCE_SCATTER, block * cell.cp, members, job.cluster)
    if job.context_exchange is ContextExchange.ULYSSES:
        queries = float(cell.tokens * shape.num_heads // cell.tp * sum(shape.head_sizes) * _WORD)
        once = exchange_ns(Op.ALL_TO_ALL, block + queries, members, job.cluster)
        return once, once
    hop = exchange_ns(Op.SEND, block, members, job.cluster)
    passed = (cell.cp - 1) * hop
    output = cell.tokens * shape.num_heads // cell.tp * shape.head_sizes[1]
    merged = (cell.cp - 1) * 3 * _WORD * output / job.rates.memory_bytes_per_second * _NS
    return merged + max(0.0, passed - forward), merged + max(0.0, 2 * passed - backward)
