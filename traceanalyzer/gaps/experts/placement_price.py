"""What the network makes of a placement: the dispatch of every layer before and after, on a described cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from traceanalyzer.errors import UsageError
from traceanalyzer.gaps.experts.placement import LayerPlacement
from traceanalyzer.theory.experts.placement import Placement
from traceanalyzer.theory.interconnect.collectives import all_to_all_ports_ns
from traceanalyzer.theory.interconnect.topology import Cluster, Group

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One dispatch, mean over layers and steps."""

    us: float
    """Until its slowest rank is done, all arriving at once."""
    far_share: float
    """Of the bytes: what leaves its node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPrice:
    """Dispatches with the present and with the proposed placement."""

    before: Exchange
    after: Exchange
    ranks_per_node: int
    token_bytes: float


def token_bytes(traffic: pl.DataFrame) -> float | None:
    """Bytes of one routed token in `TRAFFIC`, forward; None if no split sizes say it."""
    known = traffic.filter(pl.col("tokens") > 0, pl.col("bytes") > 0, pl.col("direction") == "dispatch")
    return float(known["bytes"].sum()) / float(known["tokens"].sum()) if known.height else None


def network_price(
    layers: Sequence[LayerPlacement], routing: pl.DataFrame, cluster: Cluster, size: float, num_nodes: int = 1
) -> NetworkPrice:
    """Price the dispatch of every layer. The replicas of an expert take equal parts, as their loads do.

    Args:
        layers: proposals of `placement.propose`.
        routing: `ROUTING` that they were made from.
        cluster: whose domains are nodes where `num_nodes` is 1.
        size: bytes of a token.
        num_nodes: nodes that the ranks are spread over evenly.

    Raises `UsageError` if ranks do not divide over the nodes.
    """
    found: dict[str, list[tuple[float, float]]] = {"before": [], "after": []}
    per_node = 0
    for layer in layers:
        num_ranks = len(layer.proposed.experts_of_rank)
        if num_ranks % num_nodes:
            raise UsageError(
                f"{num_ranks} ranks do not divide over {num_nodes} nodes", "give --nodes that divides them"
            )
        nodes = _nodes(layer, num_ranks, num_nodes, cluster)
        per_node = int(np.bincount(nodes).max())
        members = Group(num_ranks, per_node, num_ranks)
        sent = _by_source(layer, routing)
        for name, placed in (("before", layer.current), ("after", layer.proposed)):
            matrix = _matrix(sent, placed, size)
            far = np.where(nodes[:, None] != nodes[None, :], matrix, 0.0)
            longest = all_to_all_ports_ns(_fullest(matrix - far), _fullest(far), members, cluster)
            found[name].append((longest / 1e3, float(far.sum() / max(matrix.sum(), 1.0))))
    before, after = (
        Exchange(us=sum(us for us, _ in rows) / len(rows), far_share=sum(far for _, far in rows) / len(rows))
        for rows in (found["before"], found["after"])
    )
    return NetworkPrice(before=before, after=after, ranks_per_node=per_node, token_bytes=size)


def _nodes(layer: LayerPlacement, num_ranks: int, num_nodes: int, cluster: Cluster) -> NDArray[np.int64]:
    """The node of every rank: of measured ranks by their number, unless so many nodes were asked for."""
    if num_nodes == 1 and num_ranks == len(layer.group):
        found = np.array(layer.group) // cluster.domain
    else:
        found = np.arange(num_ranks) // (num_ranks // num_nodes if num_nodes > 1 else cluster.domain)
    return found - found.min()


def _fullest(matrix: Matrix) -> float:
    """The most that a rank sends to others or receives from them."""
    others = matrix - np.diag(np.diag(matrix))
    return float(max(others.sum(axis=0).max(), others.sum(axis=1).max()))


def _by_source(layer: LayerPlacement, routing: pl.DataFrame) -> Matrix:
    """Tokens per step from every member of the group to every expert."""
    group = ",".join(map(str, layer.group))
    rows = routing.filter(pl.col("layer") == layer.layer, pl.col("group") == group, pl.col("expert").is_not_null())
    steps = max(1, rows["step"].n_unique())
    sent = np.zeros((len(layer.group), len(layer.loads[0])))
    place = {rank: index for index, rank in enumerate(layer.group)}
    for rank, expert, tokens in rows.select("rank", "expert", "tokens").iter_rows():
        sent[place[rank], expert] += tokens / steps
    return sent


def _matrix(sent: Matrix, placed: Placement, size: float) -> Matrix:
    """Bytes between ranks. Where ranks are others than the measured sources, each sends the mean of all tokens."""
    num_ranks, replicas = len(placed.experts_of_rank), placed.num_replicas
    if num_ranks != len(sent):
        sent = np.tile(sent.sum(axis=0) / num_ranks, (num_ranks, 1))
    found = np.zeros((num_ranks, num_ranks))
    for rank, experts in enumerate(placed.experts_of_rank):
        for expert in experts:
            found[:, rank] += sent[:, expert] / replicas[expert]
    return found * size
