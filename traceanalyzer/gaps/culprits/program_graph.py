"""The graph of all ranks' programs: blocks of computation, arrivals at communications, and their ends.

A block needs the block before it and the operations it uses; an operation arrives after the last block before it in the
program, the operation before it on its stream, and one that ended just before; it ends its transfer after the last member
has arrived. What follows the last operation of a step, its optimizer, needs all collectives of the step that had ended. What lies between is a delay of the rank itself. No measured start is kept, so a replay with other durations
says what would follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.gaps.replay import ReplayGraph, replay, replay_graph
from traceanalyzer.measurements.communication.programs import LAUNCH_LATENCY_NS, RELEASED_WITHIN_NS, Programs

Array = npt.NDArray[np.int64]
Timed = tuple[int, int]
"""An end and its node."""

NO_LAUNCH = 1 << 62
NODES = pl.Schema(
    {
        "node": pl.Int64,
        "rank": pl.Int64,
        "step": pl.Int64,
        "operation": pl.Int64,  # of the rank's program: the one arrived at, or the next one
        "compute_ns": pl.Int64,
        "host_ns": pl.Int64,  # late launches
        "other_ns": pl.Int64,  # other delays
        "fixed_ns": pl.Int64,  # transfers
        "from_ns": pl.Int64,  # when all that it needs had ended, and its own end (arrivals: when it arrived)
        "to_ns": pl.Int64,
    }
)


@dataclass(frozen=True, slots=True)
class ProgramGraph:
    """Who needs whom, and how long everything lasts."""

    nodes: pl.DataFrame
    """`NODES`, one row per node in order: what it lasts is the sum of its parts."""
    graph: ReplayGraph
    ends: Mapping[tuple[int, int], int]
    """By step and rank: the last block."""
    leads: Array
    """By node: how much earlier it could have started by its launch; `NO_LAUNCH` where that does not matter."""
    judged: frozenset[int] | None = None
    """Steps that `lengths` gives; None: all. The others are replayed, for a step begins where the last one ended."""

    def lengths(self, weights: Array) -> Array:
        """Steps × scenarios: the longest rank's step, from nodes × scenarios; of the judged steps alone."""
        ended = replay(self.graph, weights)
        longest: dict[int, Array] = {}
        before: dict[int, Array] = {}
        for (step, rank), node in sorted(self.ends.items()):
            length = ended[node] - before.get(rank, np.zeros_like(ended[node]))
            longest[step] = np.maximum(longest[step], length) if step in longest else length
            before[rank] = ended[node]
        return np.stack([longest[step] for step in self.judged_steps])

    def held_back(self, own: Array, repaired: Array, usual: Array) -> int:
        """How much longer than replayed a repaired step may be, for launches that are late where nobody waits for them yet.

        The median over the judged steps of the most that a node would start before its launch, which after the first one of its
        step stays where it was. Only launches that the peers' are ahead of by more count: `usual` has by node how long before
        its start the peers launch (negative: no peers). Other hosts are taken to follow their device.
        """
        ended = replay(self.graph, np.stack([own, repaired], axis=1))
        earlier = ended[:, 0] - ended[:, 1]
        gained = np.zeros(len(earlier), dtype=np.int64)
        rank_and_step = self.nodes.select("rank", "step").to_numpy()
        for step, rank in self.ends:
            here = np.flatnonzero((rank_and_step[:, 0] == rank) & (rank_and_step[:, 1] == step))
            gained[here] = earlier[here] - earlier[here[0]]
        beyond = np.maximum(gained - self.leads, 0)
        beyond = np.where(self.leads + beyond <= usual, beyond, 0)
        most = [int(beyond[rank_and_step[:, 1] == step].max(initial=0)) for step in self.judged_steps]
        return int(np.median(most))

    @property
    def first_step(self) -> int:
        """The first one of the capture."""
        return min(step for step, _ in self.ends)

    @property
    def judged_steps(self) -> list[int]:
        """Those that `lengths` gives, in order."""
        steps = sorted({step for step, _ in self.ends})
        return [step for step in steps if self.judged is None or step in self.judged] or steps


@dataclass(slots=True)
class _Building:
    needs: list[list[int]] = field(default_factory=list[list[int]])
    rows: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    ends: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    leads: list[int] = field(default_factory=list[int])
    members: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """Arrivals by match."""
    meeting: list[tuple[list[int], int]] = field(default_factory=list[tuple[list[int], int]])
    """Matches and the end that waits for their members."""

    def add(
        self,
        needs: list[int],
        place: tuple[int, int, int],
        parts: tuple[int, int, int, int],
        window: tuple[int, int],
        lead: int | None = None,
    ) -> int:
        """A node of a rank, step and operation with its computation, late launch, other delay and transfer."""
        self.needs.append(needs)
        self.leads.append(NO_LAUNCH if lead is None else max(lead, 0))
        self.rows.append((*place, *parts, *window))
        return len(self.needs) - 1


def program_graph(found: Programs) -> ProgramGraph | None:
    """The graph of these programs; None if nothing computes, or nodes need each other in a circle."""
    if found.blocks.is_empty() or found.operations.is_empty():
        return None
    building = _Building()
    blocks = found.blocks.partition_by("rank", as_dict=True)
    operations = found.operations.partition_by("rank", as_dict=True)
    for key in sorted(blocks, key=str):
        _add_rank(building, blocks[key], operations.get(key, found.operations.clear()))
    for matches, end in building.meeting:
        building.needs[end] += [arrival for match in matches for arrival in building.members[match]]
    graph = replay_graph(building.needs)
    if graph is None:
        return None
    columns = {name: dtype for name, dtype in NODES.items() if name != "node"}
    nodes = pl.DataFrame(building.rows, schema=columns, orient="row").with_row_index("node")
    return ProgramGraph(nodes.cast({"node": pl.Int64}), graph, building.ends, np.array(building.leads, dtype=np.int64))


@dataclass(slots=True)
class _Rank:
    """What of one rank has ended so far."""

    blocks: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """End, node, operation that follows in the program."""
    operations: dict[int, Timed] = field(default_factory=dict[int, Timed])
    streams: dict[int, Timed] = field(default_factory=dict[int, Timed])
    awaited: list[tuple[int, int, int, int]] = field(default_factory=list[tuple[int, int, int, int]])
    """End, node, operation, and from when on the next computation needs it."""
    used_ns: dict[int, int] = field(default_factory=dict[int, int])
    reduced: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """End, node and step of collectives of which nothing shows when they are needed."""
    last: Mapping[int, int] = field(default_factory=dict[int, int])
    """The last operation of every step."""


def _add_rank(building: _Building, blocks: pl.DataFrame, operations: pl.DataFrame) -> None:
    """One rank in the order in which things began, with what each needs."""
    ends = operations.group_by("step").agg(pl.col("operation").max())
    state = _Rank(last={int(step): int(operation) for step, operation in ends.drop_nulls().iter_rows()})
    events = [(row["start_ns"], 0, row) for row in blocks.iter_rows(named=True)]
    events += [(row["start_ns"], 1, row) for row in operations.iter_rows(named=True)]
    for _, is_operation, row in sorted(events, key=lambda event: (event[0], event[1])):
        if is_operation:
            _add_operation(building, state, row)
        else:
            _add_block(building, state, row)


def _add_block(building: _Building, state: _Rank, row: Mapping[str, Any]) -> None:
    start = row["start_ns"]
    needed = [state.blocks[-1][:2]] if state.blocks else []
    released = state.operations.get(row["released_by"])
    if released and state.used_ns.get(row["released_by"], 0) < row["end_ns"]:  # else it is for a later computation
        needed.append(released)
    used = [
        each for each in state.awaited if each[0] <= start and each[2] < row["operation"] and each[3] < row["end_ns"]
    ]
    state.awaited = [each for each in state.awaited if each not in used]
    needed += [each[:2] for each in used]
    if row["operation"] > state.last.get(row["step"], row["operation"]):  # the optimizer needs all that was reduced
        needed += [each[:2] for each in state.reduced if each[2] == row["step"] and each[0] <= start]
    before = max(start - max(end for end, _ in needed), 0) if needed else 0
    late = _late_launch(row["launch_end_ns"], start - before, start)
    host = late + row["host_ns"] - row["before_host_ns"]
    delays = before + row["end_ns"] - start - row["compute_ns"]
    node = building.add(
        [each for _, each in needed],
        (row["rank"], row["step"], row["operation"]),
        (row["compute_ns"], min(host, delays), max(delays - host, 0), 0),
        (start - before, row["end_ns"]),
        row["lead_ns"],
    )
    state.blocks.append((row["end_ns"], node, row["operation"]))
    building.ends[row["step"], row["rank"]] = node


def _add_operation(building: _Building, state: _Rank, row: Mapping[str, Any]) -> None:
    start = row["start_ns"]
    needed = [state.streams[row["stream"]]] if row["stream"] in state.streams else []
    done = next((each[:2] for each in reversed(state.blocks) if each[0] <= start and each[2] <= row["operation"]), None)
    needed += [done] if done else []
    last = max((end for end, _ in needed), default=0)
    needed += [each for each in state.operations.values() if last < each[0] <= start <= each[0] + RELEASED_WITHIN_NS]
    last = max((end for end, _ in needed), default=start)
    delay = max(start - last, 0)
    host = _late_launch(row["launch_end_ns"], last, start)
    place = (row["rank"], row["step"], row["operation"])
    lead = None if row["launch_end_ns"] is None else start - row["launch_end_ns"]
    arrival = building.add([each for _, each in needed], place, (0, host, delay - host, 0), (last, start), lead)
    transfer: int | None = row["transfer_ns"]
    known = transfer is not None and bool(row["matches"])
    lasts = transfer if transfer is not None and known else row["end_ns"] - start
    end = building.add([arrival], place, (0, 0, 0, lasts), (start, row["end_ns"]))
    if known:
        if row["waits"]:
            building.meeting.append((row["matches"], end))
        for match in row["matches"]:
            building.members.setdefault(match, []).append(arrival)
    state.streams[row["stream"]] = state.operations[row["operation"]] = (row["end_ns"], end)
    if row["used_ns"] is None and row["kind"] != "send_recv":
        state.reduced.append((row["end_ns"], end, row["step"]))
    if row["used_ns"] is not None:
        state.used_ns[row["operation"]] = row["used_ns"]
        state.awaited.append((row["end_ns"], end, row["operation"], row["used_ns"]))


def _late_launch(launched: int | None, free_at: int, start: int) -> int:
    """As `late_launch_ns` of the programs."""
    if launched is None or launched <= free_at:
        return 0
    return (start if start <= launched + LAUNCH_LATENCY_NS else min(start, launched)) - free_at
