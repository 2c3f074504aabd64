"""All captured device ranks replayed in lockstep: pieces of own work, tied together by every communication.

A rank is its pieces and its communications (`measurements.rank_pieces`). A communication starts once the piece it was
posted after and the one before it on its stream are done; it ends once all members it exchanges bytes with have started,
plus its own transfer. Members that were not captured come as long after the last captured one as they did; where only one
member was captured, as long after the last rank that was captured in the same collective of a sister group. A message from
a rank that was not captured lasts as long as it did. A replay knows durations, orders and these edges, never a measured
start, except that ranks begin when they began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.measurements.rank_pieces import ROUNDING_NS, RankPieces, Vector

MAX_OPERATIONS = 200_000
"""Communications that a replay walks through."""

Costs = npt.NDArray[np.int64]
"""Nanoseconds of every node, or of every node in every scenario."""


@dataclass(slots=True)
class Lockstep:
    """The graph: a node ends at the latest end of what it needs, plus its cost."""

    needs: list[list[int]] = field(default_factory=list[list[int]])
    costs: list[int] = field(default_factory=list[int])
    piece: dict[int, int] = field(default_factory=dict[int, int])
    """By rank the node of its first piece; the others follow it."""
    arrival: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """By rank the nodes at which its operations start."""
    begins: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    """By rank and step the node at whose end the step's window starts."""
    ends: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    order: list[int] = field(default_factory=list[int])
    num_unseen: int = 0
    """Communications with members that were not captured."""

    def add(self, needs: list[int], cost: int) -> int:
        """A node."""
        self.needs.append(needs)
        self.costs.append(cost)
        return len(self.costs) - 1


@dataclass(frozen=True, slots=True)
class _Part:
    """What a communication kernel takes part in."""

    match: int
    peers: frozenset[int] | None
    """Members it exchanges bytes with; None: all."""
    transfer_ns: int | None
    is_whole: bool = True
    sisters: int | None = None
    """Number of the collective among those of its kind, role and step, the same in all groups; None without a role."""
    least_ns: int = 0
    """Duration of the shortest equal collective."""


def lockstep(
    ranks: Sequence[RankPieces],
    collectives: pl.DataFrame,
    messages: pl.DataFrame,
    windows: pl.DataFrame,
    *,
    one_clock: bool,
) -> Lockstep | None:
    """The graph of `COLLECTIVE_SPLITS`, `P2P_SPLITS` and `STEPS`; None where there is none, or it is too large."""
    if not ranks or sum(len(each.operations.index) for each in ranks) > MAX_OPERATIONS:
        return None
    graph, parts = Lockstep(), _parts(collectives, messages)
    first = min(each.origin_ns for each in ranks)
    members: dict[int, dict[int, tuple[int, int, int]]] = {}
    sisters: dict[int, dict[int, tuple[int, int, int]]] = {}
    for each in ranks:
        _own_nodes(graph, each, each.origin_ns - first if one_clock else 0)
        for at, index in enumerate(each.operations.index.tolist()):
            start, end = int(each.operations.start_ns[at]), int(each.operations.end_ns[at])
            for part in parts.get((each.rank, index), ()):
                own = (graph.arrival[each.rank][at], start, end)
                members.setdefault(part.match, {})[each.rank] = own
                if part.sisters is not None:
                    sisters.setdefault(part.sisters, {})[each.rank] = own
    joins: dict[int, int] = {}
    met = _Met(parts, members, sisters if one_clock else {}, joins)
    exchanges = [_exchanges(graph, each, met, one_clock=one_clock) for each in ranks]
    for each, ended in zip(ranks, exchanges, strict=True):
        _edges(graph, each, ended)
        _windows(graph, each, ended, windows.filter(pl.col("rank") == each.rank))
    graph.order = _topological(graph.needs)
    return graph if len(graph.order) == len(graph.needs) and graph.ends else None


def _parts(collectives: pl.DataFrame, messages: pl.DataFrame) -> dict[tuple[int, int], list[_Part]]:
    found: dict[tuple[int, int], list[_Part]] = {}
    matched = collectives.filter(pl.col("match").is_not_null() & pl.col("index").is_not_null()).with_columns(
        pl.when(pl.col("role").is_not_null()).then(
            pl.struct("step", "kind", "role", "sequence").rank("dense").cast(pl.Int64)
        ).alias("sisters"),
        (pl.col("end_ns") - pl.col("start_ns"))
        .min().over("kind", "role", "num_members", "send_bytes", "receive_bytes").alias("least_ns"),
    )  # fmt: skip
    columns = ("rank", "index", "match", "group", "send_splits", "receive_splits", "transfer_ns", "sisters", "least_ns")
    counted = matched.select(*columns, (pl.col("num_present") == pl.col("num_members")).alias("whole"))
    for row in counted.iter_rows(named=True):
        part = _Part(row["match"], _peers(row), row["transfer_ns"], bool(row["whole"]), row["sisters"], row["least_ns"])
        found.setdefault((row["rank"], row["index"]), []).append(part)
    sent = messages.filter(pl.col("match").is_not_null() & pl.col("index").is_not_null())
    for rank, index, match in sent.select("rank", "index", "match").iter_rows():
        found.setdefault((rank, index), []).append(_Part(-1 - match, None, None))
    return found


def _peers(row: Mapping[str, Any]) -> frozenset[int] | None:
    """Members that exchange bytes with the rank where some do not."""
    sent, received = row["send_splits"], row["receive_splits"]
    members = [int(rank) for rank in row["group"].split(",")] if row["group"] else []
    if not sent or not received or not len(sent) == len(received) == len(members):
        return None
    peers = frozenset(rank for rank, out, back in zip(members, sent, received, strict=True) if out or back)
    return None if len(peers) == len(members) else peers | {row["rank"]}


def _own_nodes(graph: Lockstep, each: RankPieces, begin: int) -> None:
    """Nodes of a rank's pieces, one after another, and of the starts of its operations."""
    costs = (each.computing_ns + each.host_ns + each.idle_ns).tolist()
    origin = graph.add([], begin)
    graph.piece[each.rank] = origin + 1
    for at, cost in enumerate(costs):
        graph.add([origin + at], cost)
    operations = each.operations
    late = (operations.host_ns + operations.idle_ns).tolist()
    graph.arrival[each.rank] = [
        graph.add([origin + 1 + post], cost) for post, cost in zip(operations.post.tolist(), late, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Met:
    """Who takes part in what, with the node, start and end of its part."""

    parts: Mapping[tuple[int, int], list[_Part]]
    members: Mapping[int, Mapping[int, tuple[int, int, int]]]
    sisters: Mapping[int, Mapping[int, tuple[int, int, int]]]
    joins: dict[int, int]


def _exchanges(graph: Lockstep, each: RankPieces, met: _Met, *, one_clock: bool) -> list[int]:
    """Nodes at which a rank's operations end."""
    ended: list[int] = []
    for at, index in enumerate(each.operations.index.tolist()):
        own = graph.arrival[each.rank][at]
        start, end = int(each.operations.start_ns[at]), int(each.operations.end_ns[at])
        needs, transfer = [own], end - start
        for part in met.parts.get((each.rank, index), ()):
            told = _joined(graph, part, met, (start, end), one_clock=one_clock)
            graph.num_unseen += not part.is_whole
            if told is not None:
                needs += told[0]
                transfer = min(transfer, told[1])
        ended.append(graph.add(needs, transfer))
    return ended


def _joined(
    graph: Lockstep, part: _Part, met: _Met, own: tuple[int, int], *, one_clock: bool
) -> tuple[list[int], int] | None:  # fmt: skip
    """What the end of an operation needs of the others, and its transfer; None where it needed nobody."""
    members = met.members[part.match]
    if len(members) == 1:
        return None if part.is_whole else _met_by_sisters(graph, part, met, own)
    here = {rank: member for rank, member in members.items() if part.peers is None or rank in part.peers}
    start, end = own
    transfer = part.transfer_ns
    if transfer is None and one_clock:
        last = max(member[1] for member in here.values())
        if last > end + ROUNDING_NS:
            return None  # it left without waiting
        transfer = end - max(start, min(last, end))
    elif transfer is None:
        transfer = min(member[2] - member[1] for member in here.values())
    if part.peers is not None:
        return [member[0] for member in here.values()], transfer
    if part.match not in met.joins:
        met.joins[part.match] = graph.add([member[0] for member in members.values()], 0)
    return [met.joins[part.match]], transfer


def _met_by_sisters(graph: Lockstep, part: _Part, met: _Met, own: tuple[int, int]) -> tuple[list[int], int] | None:
    """The members that were not captured, as long after the last one of all sister groups as they must have come."""
    sisters = met.sisters.get(part.sisters, {}) if part.sisters is not None else {}
    others = [sister for rank, sister in sisters.items() if rank not in met.members[part.match]]
    if not others:
        return None
    start, end = own
    last = max(sister[1] for sister in others)
    transfer = min(part.least_ns, end - start)
    if last > end - transfer + ROUNDING_NS:
        return None
    return [graph.add([sister[0] for sister in others], max(0, end - transfer - last))], transfer


def _edges(graph: Lockstep, each: RankPieces, ended: Sequence[int]) -> None:
    """Pieces wait for the operations that released them, operations for those before them."""
    for befores in (each.operations.previous, each.operations.after):
        for at, before in enumerate(befores.tolist()):
            if before >= 0:
                graph.needs[graph.arrival[each.rank][at]].append(ended[before])
    for piece, operations in each.released_by.items():
        graph.needs[graph.piece[each.rank] + piece] += [ended[operation] for operation in operations]


def _windows(graph: Lockstep, each: RankPieces, ended: Sequence[int], windows: pl.DataFrame) -> None:
    """Nodes for the start and the end of every step of a rank."""
    ends = each.operations.end_ns
    for step, start, end, is_open in windows.select("step", "start_ns", "end_ns", "open_end").iter_rows():
        for time, marks in ((start, graph.begins), (end, graph.ends)):
            piece = int(np.searchsorted(each.end_ns, time + ROUNDING_NS, "right")) - 1
            needs, reached = [graph.piece[each.rank] + piece], int(each.end_ns[piece]) if piece >= 0 else int(start)
            if is_open and time == end:
                last = np.flatnonzero(ends <= time + ROUNDING_NS)
                needs += [ended[at] for at in last.tolist()[-8:]]
                reached = max([reached, *(int(ends[at]) for at in last.tolist()[-8:])])
            marks[each.rank, step] = graph.add(needs, max(0, int(time) - reached))


def _topological(needed: Sequence[Sequence[int]]) -> list[int]:
    followers: list[list[int]] = [[] for _ in needed]
    missing = [len(needs) for needs in needed]
    for node, needs in enumerate(needed):
        for need in needs:
            followers[need].append(node)
    ready = deque(node for node, count in enumerate(missing) if not count)
    order: list[int] = []
    while ready:
        node = ready.popleft()
        order.append(node)
        for follower in followers[node]:
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    return order


def step_lengths(graph: Lockstep, costs: Costs) -> Costs:
    """Length of every step, the longest rank's, in every scenario: steps × scenarios. `costs` is nodes × scenarios."""
    ends = np.zeros_like(costs)
    for node in graph.order:
        needs = graph.needs[node]
        if len(needs) == 1:
            ends[node] = ends[needs[0]] + costs[node]
        elif needs:
            ends[node] = ends[needs].max(axis=0) + costs[node]
        else:
            ends[node] = costs[node]
    steps = sorted({step for _, step in graph.ends})
    lengths = {step: [ends[end] - ends[graph.begins[key]] for key, end in graph.ends.items() if key[1] == step] for step in steps}
    return np.stack([np.max(lengths[step], axis=0) for step in steps])


def measured_lengths(windows: pl.DataFrame) -> Vector:
    """The same as measured, from `STEPS`."""
    longest = windows.group_by("step").agg((pl.col("end_ns") - pl.col("start_ns")).max().alias("ns")).sort("step")
    return longest["ns"].to_numpy().astype(np.int64)
