"""The same experts on the same ranks, sliced (tensor parallelism) or spread (expert parallelism): bytes and shapes.

Slicing makes every rank multiply all tokens with thin slices of all experts, and all-reduces all tokens; spreading sends
each token to its experts. Bytes per rank forward: 2(n−1)/n·S against 2·k·S/n·(n−1)/n with S = all tokens of the group, so
n/k times as many: what decides is k < n, not the number of experts. The popular "2kS/N" is right but for (N−1)/N if N is
the EP degree; with N = number of experts it is E/n times too small.
"""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.errors import DomainError
from traceanalyzer.theory.experts.volumes import (
    ExpertLayer,
    expert_parallel_bytes,
    popular_bytes,
    tensor_parallel_bytes,
)
from traceanalyzer.theory.interconnect.alpha_beta import Op
from traceanalyzer.theory.interconnect.collectives import exchange_ns
from traceanalyzer.theory.interconnect.topology import Cluster, group
from traceanalyzer.theory.planning.prices.gemm import Rates, gemm_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardingCost:
    """One way of dividing an expert layer, forward, one rank."""

    bytes_sent: float
    exchange_ns: float
    gemm_shapes: tuple[tuple[int, int, int, int], ...]
    """m, n, k and how many at once, of every multiply."""
    gemm_ns: float
    gemm_share: float
    """FLOPs over time and the best rate."""

    @property
    def total_ns(self) -> float:
        """Exchange and multiplies, one after the other."""
        return self.exchange_ns + self.gemm_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both ways, and what the popular formula says."""

    sliced: ShardingCost
    spread: ShardingCost
    popular_by_ranks_bytes: float
    popular_by_experts_bytes: float


def compare(layer: ExpertLayer, expert_ffn_size: int, cluster: Cluster, rates: Rates, *, gated: bool) -> Comparison:
    """Tensor against expert parallelism for one layer. Raises `DomainError` if the inner size cannot be sliced."""
    n = layer.num_ranks
    if expert_ffn_size % n:
        raise DomainError(f"an inner size of {expert_ffn_size} cannot be sliced {n} ways", "choose a divisor")
    copies = layer.experts_per_token * layer.tokens_per_rank * n
    wide = 2 if gated else 1
    each = max(1, round(copies / layer.num_experts))
    sliced = _shapes(each, layer, wide, expert_ffn_size // n, layer.num_experts)
    spread = _shapes(each, layer, wide, expert_ffn_size, layer.num_experts // n)
    members = group(cluster, n)
    all_reduce = exchange_ns(Op.ALL_REDUCE, layer.group_bytes, members, cluster)
    there = layer.experts_per_token * layer.tokens_per_rank * layer.token_bytes
    all_to_alls = 2 * exchange_ns(Op.ALL_TO_ALL, there, members, cluster)
    return Comparison(
        sliced=_cost(tensor_parallel_bytes(layer), all_reduce, sliced, rates),
        spread=_cost(expert_parallel_bytes(layer), all_to_alls, spread, rates),
        popular_by_ranks_bytes=popular_bytes(layer, n),
        popular_by_experts_bytes=popular_bytes(layer, layer.num_experts),
    )


def _shapes(rows: int, layer: ExpertLayer, wide: int, width: int, count: int) -> tuple[tuple[int, int, int, int], ...]:
    hidden = layer.hidden_size
    return (rows, wide * width, hidden, count), (rows, hidden, width, count)


def _cost(sent: float, exchange: float, shapes: tuple[tuple[int, int, int, int], ...], rates: Rates) -> ShardingCost:
    spent = sum(gemm_ns(*shape, rates) for shape in shapes)
    flops = sum(2.0 * m * n * k * count for m, n, k, count in shapes)
    return ShardingCost(
        bytes_sent=sent,
        exchange_ns=exchange,
        gemm_shapes=shapes,
        gemm_ns=spent,
        gemm_share=flops / (spent / 1e9 * rates.flops_per_second),
    )
