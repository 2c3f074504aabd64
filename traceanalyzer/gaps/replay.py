"""The one replay: nodes that start as soon as everything they need has ended, and last as long as their weight.

It is the longest path through a graph without circles. What may be a node: a computation, a message on its way, a member's
arrival at a collective, the collective itself. It knows nothing of measured starts. The simulator of schedules is another
program on purpose: it is the independent check.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True)
class ReplayGraph:
    """Who waits for whom."""

    needs: Sequence[Sequence[int]]
    """By node: the nodes that must have ended before it starts."""
    order: Sequence[int]
    """Every node after all that it needs."""


def replay_graph(needs: Sequence[Sequence[int]]) -> ReplayGraph | None:
    """The graph of these needs; None if nodes need each other in a circle."""
    order = _ordered(needs)
    return None if len(order) < len(needs) else ReplayGraph(needs, order)


def _ordered(needs: Sequence[Sequence[int]]) -> list[int]:
    """Nodes in the order of `graphlib.TopologicalSorter.static_order`, as far as no circle holds them back.

    Written out, for a job has several graphs per pipeline and step, and the library's objects per node took a third of
    the time of an analysis of 512 ranks.
    """
    found = dict.fromkeys(node for each, wanted in enumerate(needs) for node in (each, *wanted))
    missing = [len(wanted) for wanted in needs]
    followers: list[list[int]] = [[] for _ in needs]
    for node, wanted in enumerate(needs):
        for need in wanted:
            followers[need].append(node)
    ready = [node for node in found if not missing[node]]
    order: list[int] = []
    while ready:
        order += ready
        freed: list[int] = []
        for node in ready:
            for follower in followers[node]:
                missing[follower] -= 1
                if not missing[follower]:
                    freed.append(follower)
        ready = freed
    return order


def replay(graph: ReplayGraph, weights: npt.NDArray[Number], together: Collection[int] = ()) -> npt.NDArray[Number]:
    """The end of every node, from 0.

    Args:
        graph: n nodes.
        weights: how long each node lasts: n × any further axes (scenarios, steps, replicas), which are replayed alike.
        together: nodes that end at one time for all entries of the last axis: the latest.

    Returns:
        An array of the shape and unit of `weights`.
    """
    ends = np.zeros_like(weights)
    for node in graph.order:
        needs = graph.needs[node]
        start = ends[needs[0]] if needs else np.zeros_like(weights[node])
        for need in needs[1:]:
            start = np.maximum(start, ends[need])
        ends[node] = start + weights[node]
        if node in together:
            ends[node] = ends[node].max(axis=-1, keepdims=True)
    return ends
