"""How long an exchange takes on a topology, by latency and bandwidth (α–β).

A rank has one port to the ranks of its own node and one to the others; both work at once, sends and receives too. Bytes a
rank keeps cross no port. Formulas as nccl-tests states them (doc/PERFORMANCE.md): n − 1 latencies and the bytes of one
direction over the port's bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traceanalyzer.errors import DomainError


@dataclass(frozen=True, slots=True)
class Port:
    """What a rank reaches others through."""

    latency_ns: float
    """Per message."""
    bytes_per_second: float
    """One direction, of one rank."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Ranks in nodes of equal size, in order. `far` may be missing where all ranks share a node."""

    ranks_per_node: int
    near: Port
    far: Port | None = None


def all_to_all_ns(matrix: ArrayLike, topology: Topology) -> NDArray[np.float64]:
    """Time of every rank in an all-to-all of given bytes, all arriving at once; `matrix[i, j]` goes from i to j.

    A rank's time is its slower port's: latency per peer that it exchanges bytes with, and the larger of what it sends
    and receives over the bandwidth. The exchange lasts as long as its slowest rank.
    """
    sent = np.array(matrix, dtype=np.float64)
    if sent.ndim != 2 or sent.shape[0] != sent.shape[1] or (sent < 0).any():
        raise DomainError(
            f"bytes of shape {sent.shape} are not an exchange between ranks",
            "give a square matrix of non-negative bytes",
        )
    np.fill_diagonal(sent, 0.0)
    node = np.arange(len(sent)) // topology.ranks_per_node
    near = node[:, None] == node[None, :]
    times = _port_ns(sent * near, topology.near)
    across = sent * ~near
    if not across.any():
        return times
    if topology.far is None:
        raise DomainError("bytes go between nodes, but no port leaves a node", "give the topology a far port")
    return np.maximum(times, _port_ns(across, topology.far))


def _port_ns(sent: NDArray[np.float64], port: Port) -> NDArray[np.float64]:
    peers = ((sent > 0) | (sent.T > 0)).sum(axis=1)
    busiest = np.maximum(sent.sum(axis=1), sent.sum(axis=0))
    return peers * port.latency_ns + busiest / port.bytes_per_second * 1e9
