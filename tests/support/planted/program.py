"""All ranks' programs together: what is shared between ranks, and the ends of collectives."""

from __future__ import annotations

import random
from typing import Any

from planted.job import Faults, Job, orders
from planted.rank import Rank
from planted.simulation import Graph, chance_factor


class Program:
    """Builds the graph rank by rank; communications are completed when all members have arrived."""

    def __init__(self, job: Job, faults: Faults) -> None:
        self.job, self.faults, self.graph = job, faults, Graph()
        self.device: list[tuple[int, int]] = []
        self.ranges: list[tuple[int, int, dict[str, Any]]] = []
        self.messages: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.members: dict[tuple[Any, ...], dict[int, tuple[int, int]]] = {}
        self.ring: dict[tuple[Any, ...], dict[str, tuple[int, int]]] = {}
        """Ends of the messages round a ring of context parallelism."""
        self.orders = orders(job)

    def build(self) -> None:
        for rank in range(self.job.world_size):
            Rank(self, rank).run()
        for members in self.members.values():
            _join(self, members)

    def splits(self, rank: int, salt: int) -> list[int]:
        """Token copies `rank` sends to every member of its expert group."""
        job, group = self.job, self.job.expert_group(rank)
        if job.even_exchange:
            return [job.moe_tokens // len(group)] * len(group)
        chance = random.Random(rank * 1009 + salt)  # noqa: S311 - repeatable, not secret
        weights = [chance.uniform(0.8, 1.2) for _ in group]
        total = sum(weights)
        sent = [int(job.moe_tokens * (1 - job.moe_hot_share) * weight / total) for weight in weights]
        sent[0] += job.moe_tokens - sum(sent)
        if job.moe_silent:
            own = group.index(rank)
            sent[0 if own % 2 == 0 and own else own] += sent[own ^ 1] if (own ^ 1) < len(sent) else 0
            sent = [0 if peer == own ^ 1 else tokens for peer, tokens in enumerate(sent)]
        return sent


def _join(program: Program, members: dict[int, tuple[int, int]]) -> None:
    """Give the end of every member of a collective the arrivals it needs: of the members it exchanges bytes with."""
    for rank, (_, end) in members.items():
        node = program.graph.nodes[end]
        info = node.info
        sparse = info["kind"] == "all_to_all"
        exchanged = zip(info["members"], info["sent"], info["received"], strict=True)
        peers = [peer for peer, sent, received in exchanged if not sparse or peer == rank or sent or received]
        node.arrivals = [members[peer][0] for peer in peers]
        varied = chance_factor(program.faults.varying_transfer, *program.faults.run, info["communication"])
        node.transfers = [round(_collective_ns(program.job, program.faults, rank, info) * varied)] * len(peers)


def _collective_ns(job: Job, faults: Faults, rank: int, info: dict[str, Any]) -> int:
    """All-to-all: the larger of what goes out and comes in, per kind of link; all-reduce: a ring over the slowest link."""
    group: list[int] = info["members"]
    rates = {True: job.bytes_per_second, False: job.bytes_per_second_between_hosts}
    if info["kind"] != "all_to_all":
        near = len({job.host(peer) for peer in group}) == 1
        factor = max(faults.slow_link.get(peer, 1.0) for peer in group)
        num_bytes = 2 * (len(group) - 1) / len(group) * info["send_bytes"]
        return job.latency_ns + round(num_bytes / rates[near] * 1e9 * factor)
    cost = {(near, way): 0.0 for near in rates for way in ("sent", "received")}
    for position, peer in enumerate(group):
        if peer != rank:
            factor = max(faults.slow_link.get(rank, 1.0), faults.slow_link.get(peer, 1.0))
            for way in ("sent", "received"):
                near = job.host(peer) == job.host(rank)
                cost[near, way] += info[way][position] * factor / rates[near] * 1e9
    return job.latency_ns + round(max(cost.values()))
