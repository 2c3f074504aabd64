"""The graph of all ranks' programs: blocks of computation, arrivals at communications, and their ends.

A block needs the block before it and the operation that released it; an operation arrives after the last block before it in
the program and the operation before it on its stream; it ends its transfer after the last member has arrived. What lies
between is a delay of the rank itself. No measured start is kept, so a replay with other durations says what would follow.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.gaps.replay import ReplayGraph, replay, replay_graph
from traceanalyzer.measurements.communication.programs import Programs

Array = npt.NDArray[np.int64]


@dataclass(slots=True)
class ProgramGraph:
    """Nodes with their weights in nanoseconds."""

    needs: list[list[int]] = field(default_factory=list[list[int]])
    weights: list[int] = field(default_factory=list[int])
    block_nodes: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    """By rank and block: the weight is delay + computation + gaps inside."""
    arrivals: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    """By rank and operation: the weight is the delay."""
    ends: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    """By step and rank: the last block."""
    graph: ReplayGraph | None = None

    def add(self, needs: list[int], weight: int) -> int:
        self.needs.append(needs)
        self.weights.append(weight)
        return len(self.needs) - 1

    def step_ns(self, weights: Array) -> npt.NDArray[np.float64]:
        """Median over steps of the longest rank's step, from nodes × scenarios; one number per scenario."""
        assert self.graph is not None  # noqa: S101 - a graph without order is not returned
        ended = replay(self.graph, weights)
        longest: dict[int, Array] = {}
        before: dict[int, Array] = {}
        for (step, rank), node in sorted(self.ends.items()):
            length = ended[node] - before.get(rank, np.zeros_like(ended[node]))
            longest[step] = np.maximum(longest[step], length) if step in longest else length
            before[rank] = ended[node]
        return np.median(np.stack(list(longest.values())), axis=0)


def program_graph(found: Programs) -> ProgramGraph | None:
    """The graph of these programs; None where nodes need each other in a circle."""
    graph = ProgramGraph()
    members: dict[int, list[int]] = {}
    meeting: list[tuple[list[int], int, bool]] = []
    blocks = found.blocks.partition_by("rank", as_dict=True)
    operations = found.operations.partition_by("rank", as_dict=True)
    for key in sorted(set(blocks) | set(operations), key=str):
        _add_rank(graph, members, meeting, blocks.get(key), operations.get(key))
    for matches, node, waits in meeting:
        if waits:
            graph.needs[node] += [arrival for match in matches for arrival in members[match]]
    graph.graph = replay_graph(graph.needs)
    return None if graph.graph is None else graph


def _add_rank(
    graph: ProgramGraph,
    members: dict[int, list[int]],
    meeting: list[tuple[list[int], int, bool]],
    blocks: pl.DataFrame | None,
    operations: pl.DataFrame | None,
) -> None:
    """One rank in the order in which things began, with what each needs."""
    events = [(row["start_ns"], 0, row) for row in blocks.iter_rows(named=True)] if blocks is not None else []
    events += [(row["start_ns"], 1, row) for row in operations.iter_rows(named=True)] if operations is not None else []
    ended: list[tuple[int, int, int]] = []  # end, node, place in the program, of blocks
    by_operation: dict[int, tuple[int, int]] = {}  # end, node
    by_stream: dict[int, tuple[int, int]] = {}
    for start, is_operation, row in sorted(events, key=lambda event: (event[0], event[1])):
        if not is_operation:
            needed = [ended[-1][:2]] if ended else []
            released = by_operation.get(row["released_by"]) if row["released_by"] is not None else None
            needed += [released] if released else []
            delay = max(start - max(end for end, _ in needed), 0) if needed else 0
            node = graph.add([each for _, each in needed], delay + row["end_ns"] - start)
            ended.append((row["end_ns"], node, row["operation"]))
            graph.block_nodes[row["rank"], row["block"]] = node
            graph.ends[row["step"], row["rank"]] = node
            continue
        needed = [by_stream[row["stream"]]] if row["stream"] in by_stream else []
        done = next(((end, each) for end, each, place in reversed(ended) if end <= start and place <= row["operation"]), None)
        needed += [done] if done else []
        delay = max(start - max(end for end, _ in needed), 0) if needed else 0
        arrival = graph.add([each for _, each in needed], delay)
        known = row["transfer_ns"] is not None and bool(row["matches"])
        end = graph.add([arrival], row["transfer_ns"] if known else row["end_ns"] - start)
        if known:
            meeting.append((row["matches"], end, row["waits"]))
            for match in row["matches"]:
                members.setdefault(match, []).append(arrival)
        graph.arrivals[row["rank"], row["operation"]] = arrival
        by_stream[row["stream"]] = by_operation[row["operation"]] = (row["end_ns"], end)
