"""Where experts should live: replicas of hot experts, and packing that evens out the ranks.

The published recipe of DeepSeek's expert-parallel load balancer (EPLB, README): hot experts get more replicas, always the
one with the highest load per replica next; replicas are packed onto ranks heaviest first, each onto the lightest rank
that still has a free slot. Where expert groups divide evenly over nodes the hierarchical policy packs groups onto
nodes first, so that the experts of a group share a node, and replicates inside each node; else the global one applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from traceanalyzer.errors import DomainError


@dataclass(frozen=True, slots=True)
class Placement:
    """Experts of every rank of one layer."""

    experts_of_rank: tuple[tuple[int, ...], ...]
    """For each rank its experts, slot by slot; a replicated expert appears on several ranks (or slots)."""

    @property
    def num_replicas(self) -> dict[int, int]:
        """Number of replicas of every expert."""
        counts: dict[int, int] = {}
        for experts in self.experts_of_rank:
            for expert in experts:
                counts[expert] = counts.get(expert, 0) + 1
        return dict(sorted(counts.items()))

    def loads(self, expert_loads: Sequence[float]) -> list[float]:
        """Load of every rank; the replicas of an expert share its load evenly."""
        replicas = self.num_replicas
        return [sum(expert_loads[e] / replicas[e] for e in experts) for experts in self.experts_of_rank]

    def max_over_mean(self, expert_loads: Sequence[float]) -> float:
        """Largest load over mean load of the ranks; 1 where there is no load."""
        loads = self.loads(expert_loads)
        total = sum(loads)
        return max(loads) * len(loads) / total if total else 1.0


def contiguous(num_experts: int, num_ranks: int) -> Placement:
    """The usual placement: equal blocks of experts in order."""
    if num_ranks < 1 or num_experts % num_ranks:
        raise DomainError(
            f"{num_experts} experts do not split evenly over {num_ranks} ranks",
            "choose a number of ranks that divides the experts",
        )
    each = num_experts // num_ranks
    return Placement(tuple(tuple(range(r * each, (r + 1) * each)) for r in range(num_ranks)))


def balanced_placement(
    loads: Sequence[float], num_ranks: int, *, num_redundant: int = 0, num_groups: int = 1, num_nodes: int = 1
) -> Placement:
    """Placement of experts with these loads on `num_ranks` ranks with `num_redundant` further slots in all.

    `num_groups` expert groups (of group-limited routing) go to `num_nodes` nodes as wholes where the nodes divide the
    groups. Raises `DomainError` if slots, groups or nodes do not divide evenly.
    """
    num_experts, slots = len(loads), len(loads) + num_redundant
    hierarchical = num_groups > 1 and num_groups % num_nodes == 0
    nodes = num_nodes if hierarchical else 1
    _check(num_experts, slots, num_ranks, num_groups if hierarchical else 1, nodes)
    groups = _split(range(num_experts), num_groups if hierarchical else 1)
    weights = [sum(loads[e] for e in group) for group in groups]
    ranks: list[tuple[int, ...]] = []
    for held in _pack(weights, nodes):
        experts = [expert for group in held for expert in groups[group]]
        replicas = _replicate([loads[e] for e in experts], slots // nodes)
        shared = [loads[experts[i]] / replicas.count(i) for i in replicas]
        packed = _pack(shared, num_ranks // nodes)
        ranks += [tuple(experts[replicas[slot]] for slot in pack) for pack in packed]
    return Placement(tuple(ranks))


def _pack(weights: Sequence[float], num_packs: int) -> list[list[int]]:
    """Indices of the weights in packs of equal count: heaviest first, to the lightest pack with room."""
    room = len(weights) // num_packs
    packs: list[list[int]] = [[] for _ in range(num_packs)]
    totals = [0.0] * num_packs
    for index in sorted(range(len(weights)), key=lambda i: (-weights[i], i)):
        lightest = min((p for p in range(num_packs) if len(packs[p]) < room), key=lambda p: (totals[p], p))
        packs[lightest].append(index)
        totals[lightest] += weights[index]
    return packs


def _replicate(loads: Sequence[float], num_slots: int) -> list[int]:
    """Index of the expert in every slot: each once, then always the one with the highest load per replica."""
    slots = list(range(len(loads)))
    counts = [1] * len(loads)
    for _ in range(num_slots - len(loads)):
        hottest = max(range(len(loads)), key=lambda i: (loads[i] / counts[i], -i))
        counts[hottest] += 1
        slots.append(hottest)
    return slots


def _split(items: range, parts: int) -> list[list[int]]:
    size = len(items) // parts
    return [list(items[i * size : (i + 1) * size]) for i in range(parts)]


def _check(num_experts: int, slots: int, num_ranks: int, num_groups: int, num_nodes: int) -> None:
    if num_ranks < 1 or slots % num_ranks or slots < num_experts:
        raise DomainError(
            f"{slots} slots for {num_experts} experts do not split evenly over {num_ranks} ranks",
            "choose a number of redundant experts that fills every rank equally",
        )
    if num_experts % num_groups or num_ranks % num_nodes or slots % num_nodes:
        raise DomainError(
            f"{num_experts} experts in {num_groups} groups do not split evenly over {num_nodes} nodes of {num_ranks} ranks",
            "groups divide experts, nodes divide groups and ranks",
        )
