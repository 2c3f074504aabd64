"""The event loop: programs of all ranks become one graph of operations, whose times follow from its edges.

Nodes are launches and host work on a rank's CPU timeline, device operations in streams, and communications: an arrival
on every member and an end that needs the arrivals of the members it exchanges bytes with.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from planted.job import EPOCH_NS, Faults, Job


@dataclass
class Node:
    """An operation; `start` = the latest end of `after`, `end` = start + duration (communications: see `parts`)."""

    rank: int
    duration: int
    after: list[int]
    arrivals: list[int] = field(default_factory=list)
    """Nodes whose *start* this one's end needs, each with the transfer time in `transfers`."""
    transfers: list[int] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    start: int = 0
    end: int = 0


@dataclass
class Truth:
    """What happened, in nanoseconds of the perfect clock."""

    device_ops: list[dict[str, Any]] = field(default_factory=list)
    """Kernels and copies by rank and start. Keys: `rank`, `step`, `kind` (gemm, attention, elementwise, optimizer, copy,
    or the collective's), `name`, `action` (`2F0` or None), `stream`, `launch_start_ns`, `launch_end_ns`, `start_ns`,
    `end_ns`, `correlation`, `thread`; communications add `wait_ns`, `transfer_ns`, `members`, `role` (pp, ep, dp, world),
    `communication` (key shared by its members), `parts` (send and receive of point-to-point kernels: peer, bytes)."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """`source`, `destination`, `phase`, `stage` (of the receiver), `microbatch`, `step`, `bytes`, `send_start_ns`,
    `send_end_ns`, `receive_start_ns`, `receive_end_ns`."""
    step_ranges: list[dict[str, Any]] = field(default_factory=list)
    """`rank`, `step`, `start_ns`, `end_ns` of the CPU's `ProfilerStep` ranges."""
    cpu_events: list[dict[str, Any]] = field(default_factory=list)
    """Everything on the CPU: `rank`, `name`, `category`, `thread`, `start_ns`, `end_ns`, `args`, `correlation`."""
    capture_start_ns: dict[int, int] = field(default_factory=dict)


class Graph:
    """Nodes and their evaluation."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, rank: int, duration: int, after: list[int | None], **info: Any) -> int:
        self.nodes.append(Node(rank, duration, [n for n in after if n is not None], info=info))
        return len(self.nodes) - 1

    def evaluate(self) -> None:
        """Times of all nodes. Raises `ValueError` where operations wait for each other in a circle."""
        needs = [{*node.after, *node.arrivals} for node in self.nodes]
        followers: list[list[int]] = [[] for _ in self.nodes]
        missing = [len(need) for need in needs]
        for index, need in enumerate(needs):
            for other in need:
                followers[other].append(index)
        ready = deque(index for index, count in enumerate(missing) if not count)
        done = 0
        while ready:
            index = ready.popleft()
            done += 1
            self._settle(self.nodes[index])
            for follower in followers[index]:
                missing[follower] -= 1
                if not missing[follower]:
                    ready.append(follower)
        if done < len(self.nodes):
            stuck = [self.nodes[i].info for i, count in enumerate(missing) if count][:5]
            message = f"the planted job deadlocks: {stuck}"
            raise ValueError(message)

    def _settle(self, node: Node) -> None:
        node.start = max((self.nodes[i].end for i in node.after), default=EPOCH_NS)
        node.end = node.start + node.duration
        if node.arrivals:
            own = self.nodes[node.after[0]].start
            others = zip(node.arrivals, node.transfers, strict=True)
            node.end = max(max(own, self.nodes[i].start) + transfer for i, transfer in others)


def chance_factor(spread: float, *what: object) -> float:
    """1 to 1 + `spread`, the same for the same `what`."""
    return 1 + spread * random.Random(repr(what)).random()  # noqa: S311 - repeatable, not secret


def transfer_ns(job: Job, faults: Faults, source: int, destination: int, num_bytes: float) -> int:
    """Latency and bytes over the slower of the two ranks' links."""
    near = job.host(source) == job.host(destination)
    rate = job.bytes_per_second if near else job.bytes_per_second_between_hosts
    factor = max(faults.slow_link.get(source, 1.0), faults.slow_link.get(destination, 1.0))
    return job.latency_ns + round(num_bytes / rate * 1e9 * factor)


def simulate(job: Job, faults: Faults) -> Truth:
    """Run the job once and write down what happened."""
    from planted.program import Program  # noqa: PLC0415 - the programs need the graph of this module

    program = Program(job, faults)
    program.build()
    program.graph.evaluate()
    return _truth(program)


def _truth(program: Any) -> Truth:
    nodes: list[Node] = program.graph.nodes
    truth = Truth()
    for index, end_index in program.device:
        arrival, end = nodes[index], nodes[end_index]
        launch = nodes[arrival.info["launch"]]
        row = {
            "rank": arrival.rank,
            **{k: v for k, v in end.info.items() if k != "launch"},
            **{k: v for k, v in arrival.info.items() if k != "launch"},
            "launch_start_ns": launch.start,
            "launch_end_ns": launch.end,
            "start_ns": arrival.start,
            "end_ns": end.end,
        }
        if end.arrivals:
            row |= _split(nodes, arrival, end)
        truth.device_ops.append(row)
    truth.device_ops.sort(key=lambda op: (op["rank"], op["start_ns"], op["correlation"], op["stream"]))
    for first, last, info in program.ranges:
        row = {**info, "rank": nodes[first].rank, "start_ns": nodes[first].start, "end_ns": nodes[last].end}
        truth.cpu_events.append(row)
        if "step_number" in info:
            truth.step_ranges.append(
                {k: row[k] for k in ("rank", "start_ns", "end_ns")} | {"step": info["step_number"]}
            )
    truth.capture_start_ns = {row["rank"]: row["start_ns"] for row in truth.step_ranges if row["step"] == 1}
    truth.messages = [_message(nodes, **message) for message in program.messages.values()]
    return truth


def _split(nodes: list[Node], arrival: Node, end: Node) -> dict[str, int]:
    latest = max(nodes[i].start for i in end.arrivals)
    wait = max(0, min(end.end, latest) - arrival.start)
    if end.info.get("buffered"):
        wait = 0  # the message left before its receiver came
    return {"wait_ns": wait, "transfer_ns": end.end - arrival.start - wait}


def _message(
    nodes: list[Node], send: tuple[int, int], receive: tuple[int, int], facts: dict[str, Any]
) -> dict[str, Any]:
    return {
        **facts,
        "send_start_ns": nodes[send[0]].start,
        "send_end_ns": nodes[send[1]].end,
        "receive_start_ns": nodes[receive[0]].start,
        "receive_end_ns": nodes[receive[1]].end,
    }
