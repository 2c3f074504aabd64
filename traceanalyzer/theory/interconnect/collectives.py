"""How long a collective takes in a described cluster: the best of ring, tree and hierarchy, and of NCCL's protocols.

NCCL predicts `base + steps · hop + bytes ÷ bandwidth` for every algorithm and protocol and takes the smallest
(src/graph/tuning.cc). The latencies and shares below are of that file (microseconds; ring LL: half the bandwidth carries
data, LL128: 0.92 of it); limits per channel are left out. A ring that leaves a domain passes it once per domain: its rate is
that of all ports of the ranks that share a domain together. A hierarchy reduces within domains, then between them, then
spreads within them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from traceanalyzer.theory.interconnect.alpha_beta import Op, num_steps, wire_bytes
from traceanalyzer.theory.interconnect.topology import Cluster, Group

_NS = 1e9
_US = 1e3


@dataclass(frozen=True, slots=True)
class _Protocol:
    name: str
    base_us: float
    near_us: float
    far_us: float
    share: float
    """Of the bandwidth that carries data."""


_RING = (
    _Protocol("LL", 6.6, 0.6, 2.7, 0.5),
    _Protocol("LL128", 14.0, 1.9, 4.0, 0.92),
    _Protocol("Simple", 8.4, 3.4, 14.0, 1.0),
)
_TREE = (
    _Protocol("LL", 6.8, 0.6, 5.0, 0.92 / 3.8),
    _Protocol("LL128", 14.0, 1.25, 8.5, 0.92 * 0.92),
    _Protocol("Simple", 8.4, 4.0, 14.0, 0.92),
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What an exchange takes, and how."""

    ns: float
    algorithm: str
    protocol: str


_NOTHING = Exchange(0.0, "none", "")


@cache
def exchange(op: Op, size_bytes: float, members: Group, cluster: Cluster) -> Exchange:
    """The fastest way; S as in `alpha_beta`. Nothing for a group of one or no bytes."""
    if members.size == 1 or size_bytes <= 0:
        return _NOTHING
    if op is Op.ALL_TO_ALL:
        return _all_to_all(size_bytes, members, cluster)
    found = [_ring(op, size_bytes, members, cluster)]
    if op is Op.ALL_REDUCE:
        found.append(_tree(size_bytes, members, cluster))
    if members.num_domains > 1 and members.per_domain > 1 and op is not Op.SEND:
        found.append(_hierarchy(op, size_bytes, members, cluster))
    return min(found, key=lambda each: each.ns)


def exchange_ns(op: Op, size_bytes: float, members: Group, cluster: Cluster) -> float:
    """`exchange` in nanoseconds."""
    return exchange(op, size_bytes, members, cluster).ns


def all_to_all_ports_ns(near_bytes: float, far_bytes: float, members: Group, cluster: Cluster) -> float:
    """An all-to-all(v) from what its fullest rank sends or receives within and between domains.

    Both ports work at once; each costs a latency per peer, and the bytes of the fuller direction over its rate.
    """
    near_peers = members.per_domain - 1
    far_peers = members.size - members.per_domain
    protocol = _RING[2]
    times = [near_peers * _LATENCY_PER_PEER_US * _US + near_bytes / cluster.near_rate * _NS] if near_peers else [0.0]
    if far_peers:
        times.append(far_peers * _LATENCY_PER_PEER_US * _US + far_bytes / cluster.far_rate(members.span) * _NS)
    hop = protocol.far_us if far_peers else protocol.near_us
    return (protocol.base_us + hop) * _US + max(times)


_LATENCY_PER_PEER_US = 0.1
"""Sends to many peers are in flight together: a peer costs its launch, not a round trip."""


def _all_to_all(size_bytes: float, members: Group, cluster: Cluster) -> Exchange:
    each = size_bytes / members.size
    near = each * (members.per_domain - 1)
    far = each * (members.size - members.per_domain)
    return Exchange(all_to_all_ports_ns(near, far, members, cluster), "pairs", "Simple")


def _ring(op: Op, size_bytes: float, members: Group, cluster: Cluster) -> Exchange:
    rate = _ring_rate(members, cluster)
    if op is Op.SEND and members.num_domains > 1:
        rate = cluster.far_rate(members.span)
    steps = num_steps(op, members.size)
    far_steps = num_steps(op, members.num_domains) if members.num_domains > 1 else 0
    wire = wire_bytes(op, size_bytes, members.size)
    return _best("ring", _RING, steps - far_steps, far_steps, wire / rate)


def _ring_rate(members: Group, cluster: Cluster) -> float:
    """Of rings that use the ports of all ranks that share a domain."""
    if members.num_domains == 1:
        return cluster.near_rate
    near = cluster.near_rate if members.per_domain > 1 else math.inf
    return min(near, members.per_domain * cluster.far_rate(members.span))


def _tree(size_bytes: float, members: Group, cluster: Cluster) -> Exchange:
    """Chains within domains, a double binary tree between them."""
    rate = _ring_rate(members, cluster)
    near_steps = 2 * (members.per_domain - 1)
    far_steps = 2 * math.ceil(math.log2(members.num_domains)) if members.num_domains > 1 else 0
    return _best("tree", _TREE, near_steps, far_steps, 2 * size_bytes / rate)


def _hierarchy(op: Op, size_bytes: float, members: Group, cluster: Cluster) -> Exchange:
    inner, outer = members.per_domain, members.num_domains
    within = Op.REDUCE_SCATTER if op is Op.ALL_REDUCE else op
    near_steps = num_steps(within, inner) * (2 if op is Op.ALL_REDUCE else 1)
    near = wire_bytes(within, size_bytes, inner) * (2 if op is Op.ALL_REDUCE else 1) / cluster.near_rate
    far = wire_bytes(op, size_bytes / inner, outer) / cluster.far_rate(members.span)
    return _best("hierarchy", _RING, near_steps, num_steps(op, outer), near + far)


def _best(
    algorithm: str, protocols: tuple[_Protocol, ...], near_steps: int, far_steps: int, seconds: float
) -> Exchange:
    def ns(each: _Protocol) -> float:
        latency = each.base_us + near_steps * each.near_us + far_steps * each.far_us
        return latency * _US + seconds / each.share * _NS

    protocol = min(protocols, key=ns)
    return Exchange(ns(protocol), algorithm, protocol.name)
