"""What balanced experts, repaired links or full overlap would save where ranks also form pipelines.

All pipelines of a job are replayed together, for exchanges tie their ranks to each other. An action is a chain
(computation, all-to-all, computation, …) that begins when the action before it on its rank has ended and its input is
there, as `gaps.dependency_graph` says, and when the host's delay and what the message took have passed, as `gaps.blame`
measured them. After its last action a rank is a chain to the end of its step. An all-to-all ends on a rank when the last
member it exchanges bytes with has arrived and its own transfer is done. Remedies change links as in `gaps.expert_replay`.

What stays as measured although a remedy may change it: transfers of pipeline messages, host delays, and collectives
inside actions that are not all-to-alls (so where these wait, worth is withheld).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from traceanalyzer.gaps.causes.blame import Blamed
from traceanalyzer.gaps.causes.graph import NONE, DependencyGraph
from traceanalyzer.gaps.experts.replay import (
    EXPERT_PARTS,
    MAX_LINKS,
    MAX_REPLAY_ERROR,
    Chains,
    Computed,
    Key,
    Link,
    Worth,
    evened,
    hidden,
    link_of,
    repaired,
    step_time,
    with_expected,
)
from traceanalyzer.gaps.replay import ReplayGraph, replay, replay_graph

Steps = Sequence[tuple[DependencyGraph, Blamed]]
"""Every pipeline and step of a run."""
Window = tuple[int, int]
"""Rank and step."""


def pipelined_worth(
    windows: pl.DataFrame, splits: pl.DataFrame, expected: pl.DataFrame, computation: pl.DataFrame, steps: Steps
) -> Worth:
    """Worth of the three remedies; arguments as of `expert_replay.expert_worth`, and the graphs of all pipelines."""
    replayed = pl.DataFrame(
        [(int(graph.actions["step"][0]),) for graph, _ in steps], schema={"step": pl.Int32}, orient="row"
    )
    windows = windows.join(replayed, on="step", how="semi")
    splits = splits.join(windows.select("rank", "step"), on=["rank", "step"], how="semi")
    fault = _fault(windows, splits, steps)
    if fault is not None:
        return Worth(None, None, None, None, fault)
    network = _network(windows, with_expected(splits, expected), computation, steps)
    fault = network.fault(splits)
    if fault is not None:
        return Worth(None, None, None, None, fault)
    measured = windows.group_by("step").agg((pl.col("end_ns") - pl.col("start_ns")).max())["end_ns"].median()
    base = network.replay(lambda link: link)
    if not isinstance(measured, float | int) or abs(base / measured - 1) > MAX_REPLAY_ERROR:
        return Worth(
            None, None, None, None, f"the replay of all pipelines gives {base / 1e6:.0f} ms per step, not the measured"
        )

    def saved(change: Callable[[Link], Link]) -> float:
        return (base - network.replay(change)) / 1e6

    chains = network.chains()
    return Worth(
        replayed_ms=base / 1e6,
        balanced_experts_ms=saved(evened(chains))
        if any(link.experts_ns for c in chains.values() for link in c)
        else None,
        repaired_link_ms=saved(repaired) if expected["expected_ns"].is_not_null().any() else None,
        full_overlap_ms=saved(hidden),
    )


def _fault(windows: pl.DataFrame, splits: pl.DataFrame, steps: Steps) -> str | None:
    acting = {
        (int(rank), int(graph.actions["step"][0])) for graph, _ in steps for rank in graph.actions["rank"].unique()
    }
    if not steps or acting != set(windows.select("rank", "step").iter_rows()):
        return (
            "ranks also wait for pipeline messages, and their pipelines' steps are not all there or cannot be ordered"
        )
    if splits["transfer_ns"].null_count() or splits["group"].null_count():
        return "some collectives cannot be split into wait and transfer, or their group is not known"
    if splits.height > MAX_LINKS:
        return f"{splits.height} collectives are more than a replay walks through"
    spans = pl.concat([graph.actions.select("rank", "start_ns", "end_ns") for graph, _ in steps])
    others = splits.filter(pl.col("kind") != "all_to_all").sort("start_ns")
    inside = others.join_asof(
        spans.rename({"start_ns": "_from", "end_ns": "_to"}).sort("_from"),
        left_on="start_ns",
        right_on="_from",
        by="rank",
        check_sortedness=False,
    ).filter(pl.col("start_ns") < pl.col("_to"))
    waiting, acted = int(inside["wait_ns"].sum()), int((spans["end_ns"] - spans["start_ns"]).sum())
    if inside["wait_ns"].null_count() or waiting > MAX_REPLAY_ERROR * acted:
        return "other collectives inside pipeline actions wait as well, which this replay does not follow"
    return None


@dataclass(slots=True)
class _Network:
    """Nodes of all ranks and steps: each ends its weight after the last of what it needs."""

    needs: list[list[int]] = field(default_factory=list[list[int]])
    weights: list[float] = field(default_factory=list[float])
    arrivals: dict[tuple[Key, int], tuple[int, int, Link]] = field(
        default_factory=dict[tuple[Key, int], tuple[int, int, Link]]
    )
    """By collective and rank: the nodes of its arrival and of its end."""
    graph: ReplayGraph | None = None
    """All nodes, once every end knows its peers."""
    ends: dict[Window, int] = field(default_factory=dict[Window, int])
    """Node of the end of every rank's step."""
    overlapping: bool = False
    """Two all-to-alls of one rank overlap."""

    def add(self, needs: Iterable[int], weight: float = 0.0) -> int:
        self.needs.append(list(needs))
        self.weights.append(weight)
        return len(self.needs) - 1

    def chain(self, node: int, rows: Iterable[dict[str, Any]], span: tuple[int, int], computed: Computed) -> int:
        """Links from `node` on, which ends at the span's start; the node at the span's end."""
        left, until = span
        for row in rows:
            self.overlapping |= row["start_ns"] < left and row["kind"] == "all_to_all"
            link = link_of(row, left, computed)
            arrival = self.add([node], link.local_ns)
            before, node = node, self.add([arrival])
            assert link.key is not None  # noqa: S101 - only the rest of a step has none
            self.arrivals[link.key, link.rank] = (arrival, node, link)
            if row["start_ns"] < left:
                node = self.add([before, node])
            left = max(left, row["end_ns"])
        return self.add([node], max(until - left, 0))

    def chains(self) -> Chains:
        found: Chains = {}
        for _, _, link in self.arrivals.values():
            found.setdefault(link.rank, []).append(link)
        return found

    def fault(self, splits: pl.DataFrame) -> str | None:
        """Why exchanges cannot be followed; else every end waits for its peers' arrivals."""
        links = [link for _, _, link in self.arrivals.values()]
        if self.overlapping:
            return "all-to-alls of one rank overlap each other"
        if sum(link.is_all_to_all for link in links) < splits.filter(pl.col("kind") == "all_to_all").height:
            return "some all-to-alls run beside pipeline actions, which this replay does not follow"
        for (key, rank), (arrival, end, link) in self.arrivals.items():
            peers = [self.arrivals[key, peer][0] for peer in link.peers if (key, peer) in self.arrivals]
            if link.is_all_to_all and len(peers) < len(link.peers):
                return f"ranks that exchange tokens with rank {rank} were not captured"
            self.needs[end] = [arrival, *peers]
        self.graph = replay_graph(self.needs)
        if self.graph is None:
            return "actions and all-to-alls wait for each other in a circle: their order is not what ranks did"
        return None

    def replay(self, change: Callable[[Link], Link]) -> float:
        """Step time in nanoseconds with all links changed."""
        weights = list(self.weights)
        for arrival, end, link in self.arrivals.values():
            changed = change(link)
            weights[arrival], weights[end] = changed.local_ns, changed.transfer_ns
        assert self.graph is not None  # noqa: S101 - `fault` made it or said why not
        times = replay(self.graph, np.array(weights, dtype=np.float64))
        return step_time({(step, rank): float(times[node]) for (rank, step), node in self.ends.items()})


def _network(windows: pl.DataFrame, rows: pl.DataFrame, computation: pl.DataFrame, steps: Steps) -> _Network:
    """All pipelines, step after step."""
    network = _Network()
    placed = _Placed(rows, computation)
    of_step: dict[int, list[tuple[DependencyGraph, Blamed]]] = {}
    for graph, blamed in steps:
        of_step.setdefault(int(graph.actions["step"][0]), []).append((graph, blamed))
    spans = {(rank, step): (start, end) for rank, step, start, end in windows.select(_WINDOW).iter_rows()}
    before: dict[int, int] = {}
    for _, graphs in sorted(of_step.items()):
        for graph, blamed in graphs:
            _add_pipeline(network, placed, spans, before, graph, blamed)
    return network


_WINDOW = ["rank", "step", "start_ns", "end_ns"]


class _Placed:
    """Collectives and expert computations by rank and step, in order."""

    def __init__(self, rows: pl.DataFrame, computation: pl.DataFrame) -> None:
        ordered = rows.sort("start_ns", "launch_start_ns", "kind", "sequence")
        self._rows = {key: list(part.iter_rows(named=True)) for key, part in _by_window(ordered).items()}
        self._computed = {
            key: list(part.select("layer", "part", "start_ns", "end_ns").iter_rows())
            for key, part in _by_window(computation.filter(pl.col("part").is_in(EXPERT_PARTS))).items()
        }

    def inside(self, window: Window, start: int, end: int) -> list[dict[str, Any]]:
        """All-to-alls within an action."""
        rows = self._rows.get(window, [])
        first = bisect_left(rows, start, key=lambda row: row["start_ns"])
        last = bisect_right(rows, end, key=lambda row: row["start_ns"])
        return [row for row in rows[first:last] if row["kind"] == "all_to_all" and row["end_ns"] <= end]

    def after(self, window: Window, start: int) -> list[dict[str, Any]]:
        """All collectives after the last action."""
        return [row for row in self._rows.get(window, []) if row["start_ns"] >= start]

    def computed(self, window: Window) -> Computed:
        """Expert computations."""
        return self._computed.get(window, [])


def _by_window(rows: pl.DataFrame) -> dict[Any, pl.DataFrame]:
    return rows.partition_by("rank", "step", as_dict=True)


def _add_pipeline(
    network: _Network,
    placed: _Placed,
    spans: dict[Window, tuple[int, int]],
    before: dict[int, int],
    graph: DependencyGraph,
    blamed: Blamed,
) -> None:
    """One pipeline's step, from each rank's last node (`before`, which is kept up to date) to the end of its window."""
    step = int(graph.actions["step"][0])
    actions = list(graph.actions.select("rank", "start_ns", "end_ns").iter_rows())
    starts: list[int] = []
    ends: list[int] = []
    for node, (rank, start, end) in enumerate(actions):
        first = graph.previous[node] == NONE
        held = int(blamed.host_ns[node] + blamed.receiving_ns[node])
        if first and graph.releaser[node] == NONE:
            held = start - spans[rank, step][0]
        starts.append(network.add([before[rank]] if first and rank in before else [], held))
        rows, computed = placed.inside((rank, step), start, end), placed.computed((rank, step))
        ends.append(network.chain(starts[-1], rows, (start, end), computed))
    exchange = blamed.message_host_ns + blamed.message_transfer_ns
    messages = [network.add([], int(taken)) for taken in exchange]
    known = [*ends, *messages]
    for own, needs in zip(messages, graph.messages.needs, strict=True):
        network.needs[own] += [known[need] for need in needs]
    for node, own in enumerate(starts):
        previous, source = graph.previous[node], graph.releaser[node]
        if previous != NONE:
            network.needs[own].append(ends[previous])
        if node in graph.messages.awaited:
            network.needs[own] += [known[need] for need in graph.messages.awaited[node]]
        elif source != NONE:
            taken = graph.late_ns[node] + graph.transfer_ns[node]
            network.needs[own].append(network.add([ends[source]], taken))
    last = {rank: node for node, (rank, _, _) in enumerate(actions)}
    for rank, node in last.items():
        window, end = (rank, step), actions[node][2]
        span = (end, spans[window][1])
        before[rank] = network.ends[window] = network.chain(ends[node], placed.after(window, end), span, [])
