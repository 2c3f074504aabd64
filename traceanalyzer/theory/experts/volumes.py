"""What an expert layer must move, by expert and by tensor parallelism, in bytes that cross a link.

Notation: T tokens on each rank, k experts per token, h hidden size, b bytes per element, n ranks (the EP or TP degree), E
experts. Every figure is for one rank, one layer and one all-to-all or all-reduce unless said otherwise; a training step
has four all-to-alls per layer (dispatch and combine, forward and backward) or two all-reduces. Routing is taken as
uniform; a hot rank receives its load ratio times as much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from traceanalyzer.errors import DomainError

SEED = 20260102
NUM_SAMPLED_TOKENS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertLayer:
    """One MoE layer as its communication sees it."""

    tokens_per_rank: int
    experts_per_token: int
    num_experts: int
    hidden_size: int
    bytes_per_element: float
    num_ranks: int
    """Expert-parallel degree."""

    def __post_init__(self) -> None:
        if not 1 <= self.experts_per_token <= self.num_experts:
            raise DomainError(
                f"a router cannot send a token to {self.experts_per_token} of {self.num_experts} experts",
                "experts per token lie between 1 and the number of experts",
            )
        if self.num_ranks < 1 or self.num_experts % self.num_ranks:
            raise DomainError(
                f"{self.num_experts} experts do not split evenly over {self.num_ranks} ranks",
                "volumes are known for equal shares: choose a divisor of the number of experts",
            )

    @property
    def token_bytes(self) -> float:
        """Bytes of one token."""
        return self.hidden_size * self.bytes_per_element

    @property
    def group_bytes(self) -> float:
        """S: the tokens of all ranks of the group, one tensor."""
        return self.num_ranks * self.tokens_per_rank * self.token_bytes


def all_to_all_bytes(layer: ExpertLayer) -> float:
    """Sent per rank: k·T·h·b·(n − 1)/n; what stays on the rank crosses no link."""
    n = layer.num_ranks
    return layer.experts_per_token * layer.tokens_per_rank * layer.token_bytes * (n - 1) / n


def capacity(layer: ExpertLayer, capacity_factor: float) -> int:
    """Slots that an expert has for the tokens of one rank: ceil(CF·k·T/E)."""
    return math.ceil(capacity_factor * layer.experts_per_token * layer.tokens_per_rank / layer.num_experts)


def padded_all_to_all_bytes(layer: ExpertLayer, capacity_factor: float) -> float:
    """Sent per rank where every expert's buffer is filled up, whatever the routing: CF·k·T·h·b·(n − 1)/n in whole slots."""
    n = layer.num_ranks
    return layer.num_experts * capacity(layer, capacity_factor) * layer.token_bytes * (n - 1) / n


def distinct_destinations(num_experts: int, experts_per_token: int, num_destinations: int) -> float:
    """Mean number of different ranks (or nodes) among a token's experts: d·(1 − C(E − g, k)/C(E, k)), g = E/d."""
    if num_destinations < 1 or num_experts % num_destinations:
        raise DomainError(
            f"{num_experts} experts do not split evenly over {num_destinations} destinations",
            "choose a divisor of the number of experts",
        )
    each = num_experts // num_destinations
    missed = math.comb(num_experts - each, experts_per_token) / math.comb(num_experts, experts_per_token)
    return num_destinations * (1 - missed)


def deduplicated_bytes(layer: ExpertLayer, num_destinations: int | None = None) -> float:
    """Sent per rank where a token travels once to each destination; default: each rank. For nodes: over the network."""
    destinations = layer.num_ranks if num_destinations is None else num_destinations
    distinct = distinct_destinations(layer.num_experts, layer.experts_per_token, destinations)
    return distinct * layer.tokens_per_rank * layer.token_bytes * (destinations - 1) / destinations


def node_limited_destinations(num_experts: int, experts_per_token: int, num_nodes: int, limit: int) -> float:
    """Mean number of different nodes among a token's experts where routing is limited to `limit` nodes.

    As DeepSeek-V3 routes (arXiv:2412.19437, 2.1.2): nodes are chosen by the sum of their k/limit best scores, then the k
    best experts in them. It has no closed form: sampled with a fixed seed from uniform scores, ± 0.01.
    """
    if not 1 <= limit <= num_nodes or num_experts % num_nodes or experts_per_token % limit:
        raise DomainError(
            f"{experts_per_token} of {num_experts} experts on {num_nodes} nodes cannot be limited to {limit} nodes",
            "nodes divide experts, and the limit divides experts per token",
        )
    scores = np.random.default_rng(SEED).random((NUM_SAMPLED_TOKENS, num_nodes, num_experts // num_nodes))
    best = np.sort(scores, axis=2)[:, :, -(experts_per_token // limit) :].sum(axis=2)
    allowed = np.zeros((NUM_SAMPLED_TOKENS, num_nodes), dtype=bool)
    np.put_along_axis(allowed, np.argsort(best, axis=1)[:, -limit:], values=True, axis=1)
    open_scores = np.where(allowed[:, :, None], scores, -1.0).reshape(NUM_SAMPLED_TOKENS, num_experts)
    chosen = np.argpartition(open_scores, -experts_per_token, axis=1)[:, -experts_per_token:]
    hit = np.zeros((NUM_SAMPLED_TOKENS, num_nodes), dtype=bool)
    np.put_along_axis(hit, chosen // (num_experts // num_nodes), values=True, axis=1)
    return float(hit.sum(axis=1).mean())


def expert_parallel_bytes(layer: ExpertLayer) -> float:
    """Sent per rank in forward, dispatch and combine: 2·k·(S/n)·(n − 1)/n."""
    return 2 * all_to_all_bytes(layer)


def tensor_parallel_bytes(layer: ExpertLayer) -> float:
    """Sent per rank in forward where the same experts are sliced over the same ranks: one ring all-reduce of S.

    2·(n − 1)/n·S: every rank sees the tokens of the whole group.
    """
    n = layer.num_ranks
    return 2 * (n - 1) / n * layer.group_bytes


def tensor_over_expert_parallel(layer: ExpertLayer) -> float:
    """TP bytes ÷ EP bytes for the same tokens: n/k. Expert parallelism sends less only if k < n, whatever E is."""
    return layer.num_ranks / layer.experts_per_token


def popular_bytes(layer: ExpertLayer, divisor: int) -> float:
    """The popular "2kS/N". It needs N = EP degree and lacks (N − 1)/N; with N = experts it is E/n times too small."""
    return 2 * layer.experts_per_token * layer.group_bytes / divisor
