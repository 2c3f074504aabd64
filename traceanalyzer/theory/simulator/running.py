"""The two ways of running a program: messages that travel by themselves, and messages that hold both ends.

Both return the start and end of every node and the number of messages sent, per rank; both are free of chance and of
the order in which ranks are visited, because every message has one sender and one receiver.
"""

from __future__ import annotations

from collections import deque

from traceanalyzer.theory.simulator.deadlock import explain
from traceanalyzer.theory.simulator.op_times import OpTimes, SendMode
from traceanalyzer.theory.simulator.program import LOCAL, Program

Ran = tuple[list[list[int]], list[list[int]], list[int]]
"""Starts, ends and number of messages, per rank."""


def run_apart(program: Program, times: OpTimes) -> Ran:  # noqa: C901 - the hot loop: calls would double its time
    """Messages arrive `hop_ns` after they left, one after another on every link. Raises `DeadlockError`."""
    num_ranks = len(program.nodes)
    starts: list[list[int]] = [[] for _ in range(num_ranks)]
    ends: list[list[int]] = [[] for _ in range(num_ranks)]
    num_messages = [0] * num_ranks
    clocks = [0] * num_ranks
    arrivals: dict[int, int] = {}
    waiting: dict[int, int] = {}
    links: dict[tuple[int, int], int] = {}
    hop, occupancy, held = times.hop_ns, times.occupancy_ns, times.sends is SendMode.BLOCKING
    ready = deque(range(num_ranks))
    while ready:
        rank = ready.popleft()
        clock, rank_starts, rank_ends = clocks[rank], starts[rank], ends[rank]
        for waits, duration, releases in program.nodes[rank][len(rank_ends) :]:
            start = clock
            stalled = False
            for token in waits:
                arrival = arrivals.get(token)
                if arrival is None:
                    waiting[token] = rank
                    stalled = True
                    break
                start = max(start, arrival)
            if stalled:
                break
            clock = start + duration
            rank_starts.append(start)
            rank_ends.append(clock)
            for token, destination in releases:
                arrival = clock
                if destination != LOCAL:
                    num_messages[rank] += 1
                    if occupancy:
                        arrival = max(clock, links.get((rank, destination), 0)) + occupancy
                        links[rank, destination] = arrival
                    arrival += hop
                    if held:
                        clock = arrival
                arrivals[token] = arrival
                if token in waiting:
                    ready.append(waiting.pop(token))
        clocks[rank] = clock
    if waiting:
        raise explain(program, [len(rank_ends) for rank_ends in ends])
    return starts, ends, num_messages


def run_together(program: Program, times: OpTimes) -> Ran:
    """A message needs both ranks: its receiver asks for what its next op lacks, one by one. Raises `DeadlockError`."""
    meeting = _Meeting(program, times)
    while meeting.ready:
        meeting.advance(meeting.ready.popleft())
    done = [len(rank_ends) for rank_ends in meeting.ends]
    if any(meeting.outboxes) or done != [len(nodes) for nodes in program.nodes]:
        sending = {rank: outbox[0][1] for rank, outbox in enumerate(meeting.outboxes) if outbox}
        raise explain(program, done, sending)
    return meeting.starts, meeting.ends, meeting.num_messages


class _Meeting:
    """Ranks that stand still until sender and receiver of a message are both there."""

    def __init__(self, program: Program, times: OpTimes) -> None:
        num_ranks = len(program.nodes)
        self.ready = deque(range(num_ranks))
        self.starts: list[list[int]] = [[] for _ in range(num_ranks)]
        self.ends: list[list[int]] = [[] for _ in range(num_ranks)]
        self.num_messages = [0] * num_ranks
        self.outboxes: list[deque[tuple[int, int]]] = [deque() for _ in range(num_ranks)]
        self._nodes = program.nodes
        self._cost = times.hop_ns + times.occupancy_ns
        self._clocks = [0] * num_ranks
        self._here: set[int] = set()
        self._offered: dict[int, int] = {}
        self._asked: dict[int, int] = {}

    def advance(self, rank: int) -> None:
        """Run ops of a rank until it has to wait for another one."""
        while True:
            if self.outboxes[rank]:
                token = self.outboxes[rank][0][0]
                if token not in self._asked:
                    self._offered[token] = rank
                    return
                self._exchange(token, rank, self._asked.pop(token))
                continue
            if len(self.ends[rank]) == len(self._nodes[rank]):
                return
            waits, duration, releases = self._nodes[rank][len(self.ends[rank])]
            lacking = next((token for token in waits if token not in self._here), None)
            if lacking is not None:
                if lacking not in self._offered:
                    self._asked[lacking] = rank
                    return
                self._exchange(lacking, self._offered.pop(lacking), rank)
                continue
            self.starts[rank].append(self._clocks[rank])
            self._clocks[rank] += duration
            self.ends[rank].append(self._clocks[rank])
            self._here.update(token for token, destination in releases if destination == LOCAL)
            self.outboxes[rank] += [release for release in releases if release[1] != LOCAL]

    def _exchange(self, token: int, sender: int, receiver: int) -> None:
        self._clocks[sender] = self._clocks[receiver] = max(self._clocks[sender], self._clocks[receiver]) + self._cost
        self._here.add(token)
        self.num_messages[sender] += 1
        self.outboxes[sender].popleft()
        self.ready += (sender, receiver)
