"""Pipeline messages of device traces as nodes of the dependency graph.

A message begins once both ends are there. The sending kernel starts after the message's producer, after the last action
launched before it was posted (communication streams wait for the compute stream as it was then) and after the kernel
before it on its stream; the receiving kernel likewise, without a producer. So a send that is posted late, or that stands
behind one whose receiver is not there yet, waits for whatever that one waits for.

The k-th message between two ranks belongs to the k-th action whose output goes that way, by the order of sends and by the
order of receives. Where the two disagree, or times contradict them, the message is left out, and its consumer waits for
the producer alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

ROUNDING_NS = 2_000
"""Two times of one rank that differ by no more are the same: traces and the alignment of clocks round them."""

Edge = tuple[int, int]
"""Producer and consumer of a message."""


@dataclass(frozen=True, slots=True)
class MessageNodes:
    """Messages of one pipeline step; node `num_actions + i` of the graph is entry i of every list."""

    source: list[int] = field(default_factory=list[int])
    """Rank."""
    start_ns: list[int] = field(default_factory=list[int])
    """When the later end was there."""
    end_ns: list[int] = field(default_factory=list[int])
    needs: list[list[int]] = field(default_factory=list[list[int]])
    """Nodes, the producer first."""
    late_rank: list[int] = field(default_factory=list[int])
    """Rank of the end that came last."""
    launched_ns: list[int | None] = field(default_factory=list[int | None])
    """When the call ended that launched that end; null: unknown."""
    awaited: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """Of every action that is given a message: the nodes of all messages that arrive in the same kernel."""


def device_messages(p2p: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """One row per matched pipeline message of device ranks (both ends captured), from `P2P` and `KERNELS`.

    Columns `step`, `match`, and of each end (prefix `send_`, `receive_`) `rank`, `start_ns`, `end_ns`, `posted_ns` (its
    launch began), `launched_ns` (its launch ended), `stream`, `index` and `coalesced`.
    """
    launches = kernels.select("rank", "cycle", "index", pl.col("launch_end_ns").alias("launched_ns"))
    ends = (
        p2p.filter((pl.col("role") == "pp") & pl.col("match").is_not_null() & pl.col("end_ns").is_not_null())
        .rename({"launch_start_ns": "posted_ns"})
        .join(launches, on=["rank", "cycle", "index"])
        .filter(pl.col("posted_ns").is_not_null())
    )
    columns = ["rank", "start_ns", "end_ns", "posted_ns", "launched_ns", "stream", "index", "coalesced"]
    sends, receives = (
        ends.filter(pl.col("direction") == way).select(
            "match", "step", *(pl.col(name).alias(f"{way}_{name}") for name in columns)
        )
        for way in ("send", "receive")
    )
    return sends.join(receives.drop("step"), on="match").unique("match", keep="none").sort("match")


def message_nodes(actions: pl.DataFrame, releaser: list[int], messages: pl.DataFrame) -> MessageNodes:
    """Nodes for the messages of one pipeline step.

    Args:
        actions: sorted as the graph's, with `launched_ns`.
        releaser: of every action the one on another rank whose output it needs, or -1.
        messages: as `device_messages` gives them, of any steps.
    """
    edges = [(source, node) for node, source in enumerate(releaser) if source >= 0]
    here = actions["rank"].unique().to_list()  # other pipelines' messages cannot be of these edges
    ends = [pl.col(name).is_in(here) for name in ("send_rank", "receive_rank")]
    of_step = messages.filter(pl.col("step") == actions["step"][0], *ends)
    if of_step.is_empty() or not edges:
        return MessageNodes()
    columns = ("rank", "start_ns", "end_ns", "launched_ns")
    places = {name: actions[name].to_list() for name in columns}
    chosen = [
        (edge, row) for edge, row in _assigned(edges, places["rank"], of_step) if _possible(edge, row, places)
    ]  # fmt: skip
    return _nodes(chosen, places)


def _assigned(
    edges: Iterable[Edge], ranks: list[int], messages: pl.DataFrame
) -> list[tuple[Edge, dict[str, Any]]]:  # fmt: skip
    """Messages with their edges, where the order of sends and the order of receives say the same."""
    by_pair: dict[tuple[int, int], list[Edge]] = {}
    for edge in edges:
        by_pair.setdefault((ranks[edge[0]], ranks[edge[1]]), []).append(edge)
    by_ends: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in messages.iter_rows(named=True):
        by_ends.setdefault((row["send_rank"], row["receive_rank"]), []).append(row)
    found: list[tuple[Edge, dict[str, Any]]] = []
    for pair, rows in by_ends.items():
        ours = by_pair.get(pair, [])
        if len(ours) != len(rows):
            continue
        received = sorted(rows, key=lambda row: (row["receive_posted_ns"], row["match"]))
        consumers = sorted(ours, key=lambda edge: edge[1])
        by_receive = {row["match"]: edge for row, edge in zip(received, consumers, strict=True)}
        sent = sorted(rows, key=lambda row: (row["send_posted_ns"], row["match"]))
        found += [(edge, row) for edge, row in zip(sorted(ours), sent, strict=True) if by_receive[row["match"]] == edge]
    return found


def _possible(edge: Edge, row: Mapping[str, Any], places: Mapping[str, list[Any]]) -> bool:
    """Whether the message left after its producer and was there before its consumer, each on one rank's clock."""
    producer, consumer = edge
    return (
        row["send_start_ns"] >= places["end_ns"][producer] - ROUNDING_NS
        and row["receive_end_ns"] <= places["start_ns"][consumer] + ROUNDING_NS
    )  # fmt: skip


def _nodes(chosen: list[tuple[Edge, dict[str, Any]]], places: Mapping[str, list[Any]]) -> MessageNodes:
    first = len(places["rank"])
    nodes = MessageNodes()
    inside: dict[tuple[int, int], list[int]] = {}
    for at, (_, row) in enumerate(chosen):
        for way in ("send", "receive"):
            inside.setdefault((row[f"{way}_rank"], row[f"{way}_index"]), []).append(at)
    before = _kernels_before([row for _, row in chosen])
    launched = _Launched(places)
    for (producer, consumer), row in chosen:
        late = "send" if row["send_start_ns"] >= row["receive_start_ns"] else "receive"
        needs = [producer]
        for way in ("send", "receive"):
            rank, kernel = row[f"{way}_rank"], (row[f"{way}_rank"], row[f"{way}_index"])
            needs += launched.before(rank, row[f"{way}_posted_ns"], row[f"{way}_start_ns"])
            earlier = inside[before[kernel]] if kernel in before else []
            needs += [first + at for at in earlier if not _buffered(chosen[at][1], rank)]
        nodes.source.append(row["send_rank"])
        nodes.start_ns.append(max(row["send_start_ns"], row["receive_start_ns"]))
        nodes.end_ns.append(max(nodes.start_ns[-1], _end(row)))
        nodes.needs.append(list(dict.fromkeys(needs)))
        nodes.late_rank.append(row[f"{late}_rank"])
        nodes.launched_ns.append(row[f"{late}_launched_ns"])
        nodes.awaited[consumer] = [first + at for at in inside[row["receive_rank"], row["receive_index"]]]
    return nodes


def _end(row: Mapping[str, Any]) -> int:
    """A kernel of several messages may last longer than each of them, but not shorter."""
    if row["receive_coalesced"]:
        return min(row["send_end_ns"], row["receive_end_ns"])
    return row["receive_end_ns"]


def _buffered(row: Mapping[str, Any], rank: int) -> bool:
    """Whether `rank` sent the message without waiting for its receiver: then nothing behind it had to wait either."""
    return rank == row["send_rank"] and row["send_end_ns"] < row["receive_start_ns"]


def _kernels_before(rows: list[dict[str, Any]]) -> dict[tuple[int, int], tuple[int, int]]:
    """Of every kernel (rank, index) that carries a message the one before it on its stream."""
    streams: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for row in rows:
        for way in ("send", "receive"):
            stream = (row[f"{way}_rank"], row[f"{way}_stream"])
            streams.setdefault(stream, set()).add((row[f"{way}_start_ns"], row[f"{way}_index"]))
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for (rank, _), kernels in streams.items():
        ordered = [(rank, index) for _, index in sorted(kernels)]
        found |= dict(zip(ordered[1:], ordered, strict=False))
    return found


class _Launched:
    """Which action of a rank was launched last before a time."""

    def __init__(self, places: Mapping[str, list[Any]]) -> None:
        self._ends: list[int] = places["end_ns"]
        self._by_rank: dict[int, tuple[list[int], list[int]]] = {}
        known = sorted(
            (rank, at, node)
            for node, (rank, at) in enumerate(zip(places["rank"], places["launched_ns"], strict=True))
            if at is not None
        )
        for rank, at, node in known:
            times, nodes = self._by_rank.setdefault(rank, ([], []))
            times.append(at)
            nodes.append(node)

    def before(self, rank: int, posted_ns: int, start_ns: int) -> list[int]:
        """That action, unless the kernel started (at `start_ns`) without waiting for it."""
        times, nodes = self._by_rank.get(rank, ([], []))
        at = bisect_right(times, posted_ns)
        return [nodes[at - 1]] if at and self._ends[nodes[at - 1]] <= start_ns + ROUNDING_NS else []
