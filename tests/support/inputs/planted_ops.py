"""An event loop that runs pipeline steps with planted faults; it knows nothing of the package it tests.

Time goes forward in whole nanoseconds. Ranks are numbered stage * replicas + replica; every rank runs its list of
(stage, phase, microbatch) in order, each as soon as its inputs are there. Faults change durations, links and hosts.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

MS = 1_000_000
Op = tuple[int, str, int]


def one_f_one_b(stage: int, num_stages: int, num_microbatches: int) -> list[Op]:
    """1F1B as everybody draws it: warm up, alternate, drain."""
    warmup = min(num_stages - stage - 1, num_microbatches)
    order: list[Op] = [(stage, "F", m) for m in range(warmup)]
    for m in range(num_microbatches - warmup):
        order += [(stage, "F", warmup + m), (stage, "B", m)]
    return order + [(stage, "B", num_microbatches - warmup + m) for m in range(warmup)]


def gpipe(stage: int, _num_stages: int, num_microbatches: int) -> list[Op]:
    return [(stage, phase, m) for phase in "FB" for m in range(num_microbatches)]


class Planted:
    """What is wrong with a run; a fresh one is a clean run."""

    def __init__(self, seed: int = 0) -> None:
        self.slow: list[tuple[Callable[[int, int], bool], float]] = []
        self.links: dict[tuple[int, int], int] = {}
        self.stalls: dict[tuple[int, int], int] = {}
        self.jitter = 0.0
        self.chance = random.Random(seed)  # noqa: S311 - planted noise is no secret

    def slow_stage(self, stage: int, factor: float) -> Planted:
        self.slow.append((lambda _rank, at: at == stage, factor))
        return self

    def straggler(self, rank: int, factor: float) -> Planted:
        self.slow.append((lambda at, _stage: at == rank, factor))
        return self

    def delayed_link(self, source: int, destination: int, delay_ns: int) -> Planted:
        self.links[source, destination] = delay_ns
        return self

    def host_stall(self, rank: int, position: int, stall_ns: int) -> Planted:
        self.stalls[rank, position] = stall_ns
        return self

    def duration(self, rank: int, op: Op, times: dict[str, int]) -> int:
        length = float(times[op[1]])
        for applies, factor in self.slow:
            if applies(rank, op[0]):
                length *= factor
        if self.jitter:
            length *= 1 + self.jitter * self.chance.random()
        return round(length)


def run_steps(
    num_stages: int,
    num_replicas: int,
    num_microbatches: int,
    planted: Planted,
    *,
    times: dict[str, int] | None = None,
    num_steps: int = 1,
    order: Callable[[int, int, int], list[Op]] = one_f_one_b,
) -> tuple[list[dict[str, object]], list[dict[str, int]], list[int]]:
    """Actions, receives (rows as dictionaries) and the length of every step (its longest pipeline)."""
    times = times or {"F": 10 * MS, "B": 20 * MS}
    actions: list[dict[str, object]] = []
    receives: list[dict[str, int]] = []
    lengths: list[int] = []
    shape = (num_stages, num_replicas, num_microbatches)
    begin = 1_000_000_000_000
    for step in range(num_steps):
        ends = [
            _run_pipeline(step, begin, replica, shape, planted, times, order, (actions, receives))
            for replica in range(num_replicas)
        ]  # fmt: skip
        lengths.append(max(ends) - begin)
        begin = max(ends) + 50 * MS
    return actions, receives, lengths


def _run_pipeline(step, begin, replica, shape, planted, times, order, rows):  # noqa: ANN001, ANN202 - see run_steps
    actions, receives = rows
    num_stages, num_replicas, num_microbatches = shape
    ranks = [stage * num_replicas + replica for stage in range(num_stages)]
    orders = [order(stage, num_stages, num_microbatches) for stage in range(num_stages)]
    at, free, inbox = [0] * num_stages, [begin] * num_stages, {}
    events = [(begin, stage) for stage in range(num_stages)]
    last = begin
    while events:
        now, stage = heapq.heappop(events)
        if at[stage] == len(orders[stage]) or free[stage] > now:
            continue
        op = orders[stage][at[stage]]
        needs = _input(op, num_stages)
        if needs is not None and needs not in inbox:
            continue
        there = inbox[needs] if needs is not None else begin
        if there > now:
            heapq.heappush(events, (there, stage))
            continue
        if needs is not None:
            posted = free[stage]
            receives.append({"rank": ranks[stage], "step": step, "start_ns": posted, "end_ns": max(posted, there)})
        start = max(now, free[stage]) + planted.stalls.get((ranks[stage], at[stage]), 0)
        end = start + planted.duration(ranks[stage], op, times)
        actions.append(
            {"rank": ranks[stage], "step": step, "position": at[stage], "stage": stage, "phase": op[1], "microbatch": op[2],
             "start_ns": start, "end_ns": end, "release_ns": None}
        )  # fmt: skip
        at[stage], free[stage], last = at[stage] + 1, end, max(last, end)
        heapq.heappush(events, (end, stage))
        peer = stage + 1 if op[1] == "F" else stage - 1
        if 0 <= peer < num_stages:
            arrival = end + planted.links.get((ranks[stage], ranks[peer]), 0)
            inbox[peer, op[1], op[2]] = arrival
            heapq.heappush(events, (arrival, peer))
    assert all(done == len(rank_order) for done, rank_order in zip(at, orders, strict=True)), (
        "the pipeline stands still"
    )
    return last


def _input(op: Op, num_stages: int) -> tuple[int, str, int] | None:
    stage, phase, microbatch = op
    if phase == "F":
        return (stage, "F", microbatch) if stage else None
    return (stage, "B", microbatch) if stage < num_stages - 1 else None
