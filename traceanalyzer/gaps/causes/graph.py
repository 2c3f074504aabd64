"""The dependency graph of measured pipeline steps: what each action waited for, and when that was there.

A node is a compute action. It needs the action before it on its rank and, where its input comes from another rank, the
message of its producer: a forward needs the same microbatch's forward on the stage before; an input-gradient or full
backward needs the backward on the stage after. (What the same rank produced is there once the action before has ended.)
A producer hands its output on at its `release_ns`: both halves of an overlapped pair at the end of the second. On device
ranks messages are nodes themselves (`gaps.message_nodes`), numbered after the actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.gaps.causes.message_nodes import MessageNodes, message_nodes
from traceanalyzer.gaps.replay import ReplayGraph, replay_graph
from traceanalyzer.gaps.replay import replay as run

Vector = npt.NDArray[np.int64]
"""One number per node."""

NONE = -1
"""No such node."""


@dataclass(frozen=True, slots=True)
class DependencyGraph:
    """Actions of one pipeline in one step; every list but `topological` has one entry per row of `actions`."""

    actions: pl.DataFrame
    """`ACTIONS` with `pipeline`, sorted by rank and start."""
    previous: list[int]
    """The node before on the same rank, or `NONE`."""
    releaser: list[int]
    """The node of another rank at whose end the input is handed on, or `NONE`."""
    late_ns: list[int]
    """From the end of `releaser` to the sending of the message; 0 without one, and where the message is a node."""
    transfer_ns: list[int]
    """From the sending of the message to its arrival; 0 if nothing shows it, and where the message is a node."""
    receiving_ns: list[int]
    """Length of a receive that was posted only after the message had been sent: what it took then, on this rank."""
    unobserved: list[bool]
    """The input comes from a stage that was not captured."""
    messages: MessageNodes
    topological: list[int]
    """Nodes, each after everything it needs: actions, and messages from `num_actions` on."""

    @property
    def num_actions(self) -> int:
        """Nodes that are actions."""
        return len(self.previous)


def with_arrivals(actions: pl.DataFrame, receives: pl.DataFrame) -> pl.DataFrame:
    """Add `posted_ns` and `received_ns`: the receive that ended last in the gap before each action; null without one.

    `actions` is `ACTIONS`, `receives` is `RECEIVES` of the main thread (CPU traces).
    """
    ordered = actions.sort("rank", "start_ns", "end_ns").with_columns(
        pl.col("end_ns").cum_max().shift(1).over("rank").alias("_previous_ns")
    )
    ends = receives.select("rank", pl.col("start_ns").alias("posted_ns"), pl.col("end_ns").alias("received_ns"))
    here = (pl.col("received_ns") > pl.col("_previous_ns")) | pl.col("_previous_ns").is_null()
    return (
        ordered.sort("start_ns")
        .join_asof(
            ends.sort("received_ns"),
            left_on="start_ns",
            right_on="received_ns",
            by="rank",
            strategy="backward",
            coalesce=False,
            check_sortedness=False,
        )
        .with_columns([pl.when(here).then(name).alias(name) for name in ("posted_ns", "received_ns")])
        .drop("_previous_ns")
    )


def dependency_graph(
    actions: pl.DataFrame, num_stages: int | None = None, messages: pl.DataFrame | None = None
) -> DependencyGraph:
    """The graph of one pipeline step.

    Args:
        actions: `ACTIONS` of one pipeline and step, optionally with `posted_ns` and `received_ns`.
        num_stages: stages of the whole pipeline where not all were captured. Without it every microbatch enters at
            its lowest and turns at its highest captured stage.
        messages: of device ranks, as `device_messages` gives them; then `actions` has `launched_ns`.

    Raises `InputError` if actions wait for each other in a circle, or one was run twice.
    """
    rows = actions.sort("rank", "start_ns", "end_ns", "stage", "phase", "microbatch")
    index = _index(rows)
    releasers = _released_with(rows)
    ranks = rows["rank"].to_list()
    previous = [i - 1 if i and ranks[i - 1] == ranks[i] else NONE for i in range(len(ranks))]
    releaser = [NONE] * len(ranks)
    unobserved = [False] * len(ranks)
    spans = _spans(rows, num_stages)
    for node, (stage, phase, microbatch) in enumerate(rows.select("stage", "phase", "microbatch").iter_rows()):
        needed = _needed(stage, phase, spans[microbatch])
        if needed is None:
            continue
        producer = index.get((needed, "F" if phase == "F" else "B", microbatch), NONE)
        unobserved[node] = producer == NONE
        if producer != NONE and ranks[producer] != ranks[node]:
            releaser[node] = releasers[producer]
    nodes = MessageNodes() if messages is None else message_nodes(rows, releaser, messages)
    whole = replay_graph(_needs(previous, releaser, nodes))
    if whole is None:  # no run can have done this: the messages were matched wrongly
        nodes = MessageNodes()
        whole = replay_graph(_needs(previous, releaser, nodes))
    if whole is None:
        raise InputError(
            "actions of one step wait for each other in a circle", "the labels or the clocks of these traces are wrong"
        )
    plain = [NONE if node in nodes.awaited else source for node, source in enumerate(releaser)]
    return DependencyGraph(rows, previous, releaser, *_message_times(rows, plain), unobserved, nodes, list(whole.order))


def _needs(previous: list[int], releaser: list[int], messages: MessageNodes) -> list[list[int]]:
    """Everything each node needs: of actions the one before and their producer or their messages."""
    actions = [
        [need for need in (before, source, *messages.awaited.get(node, [])) if need != NONE]
        for node, (before, source) in enumerate(zip(previous, releaser, strict=True))
    ]
    return actions + messages.needs


def _index(rows: pl.DataFrame) -> dict[tuple[int, str, int], int]:
    """Node by stage, F or B (input-gradients are backwards here) and microbatch."""
    index: dict[tuple[int, str, int], int] = {}
    for node, (stage, phase, microbatch) in enumerate(rows.select("stage", "phase", "microbatch").iter_rows()):
        if phase == "W":
            continue
        key = (stage, "F" if phase == "F" else "B", microbatch)
        if key in index:
            raise InputError(
                f"{stage}{phase}{microbatch} runs twice in one step", "an action is known by its stage and microbatch"
            )
        index[key] = node
    return index


def _spans(rows: pl.DataFrame, num_stages: int | None) -> dict[int, tuple[int, int]]:
    """First and last stage of every microbatch."""
    found = rows.group_by("microbatch").agg(pl.col("stage").min().alias("first"), pl.col("stage").max().alias("last"))
    if num_stages is not None:
        return {microbatch: (0, num_stages - 1) for microbatch, _, _ in found.iter_rows()}
    return {microbatch: (first, last) for microbatch, first, last in found.iter_rows()}


def _needed(stage: int, phase: str, span: tuple[int, int]) -> int | None:
    """The stage whose output the action needs, if it is another one."""
    first, last = span
    if phase == "F":
        return stage - 1 if stage > first else None
    if phase == "W":
        return None
    return stage + 1 if stage < last else None


def _released_with(rows: pl.DataFrame) -> list[int]:
    """For each node the node at whose end its output is handed on: itself, or the last of its overlapped pair."""
    nodes = rows.with_columns(
        pl.int_range(pl.len()).alias("node")
    )  # a column: inside `over` the range would be the group's
    last = pl.when(pl.col("release_ns").is_null()).then("node").otherwise(pl.max("node").over("rank", "release_ns"))
    return nodes.select(last.alias("node"))["node"].to_list()


def _message_times(rows: pl.DataFrame, releaser: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Late send, transfer and late receiving of the message each node waits for."""
    ends, starts = rows["end_ns"].to_list(), rows["start_ns"].to_list()
    released = rows.select(pl.coalesce("release_ns", "end_ns"))["release_ns"].to_list()
    known = "received_ns" in rows.columns
    received = rows["received_ns"].to_list() if known else [None] * len(ends)
    posted = rows["posted_ns"].to_list() if known else [None] * len(ends)
    late, transfer, receiving = [0] * len(ends), [0] * len(ends), [0] * len(ends)
    for node, source in enumerate(releaser):
        if source == NONE:
            continue
        sent = max(released[source], ends[source])
        late[node] = sent - ends[source]
        if received[node] is None:
            continue
        if posted[node] <= sent:
            transfer[node] = max(0, min(received[node], starts[node]) - sent)
        else:
            receiving[node] = max(0, min(received[node], starts[node]) - posted[node])
    return late, transfer, receiving


def replay(
    graph: DependencyGraph, durations: npt.NDArray[np.int64], messages: npt.NDArray[np.int64] | None = None,
    delays: npt.NDArray[np.int64] | None = None, exchanges: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int64]:  # fmt: skip
    """Ends of all actions when every one starts as soon as it can, from 0; knows nothing of measured starts.

    Args:
        graph: its orders and edges.
        durations: nanoseconds, actions × scenarios.
        messages: from the end of each action's releaser to the arrival of its message, likewise; None: nothing.
        delays: between being able to start and starting, likewise; None: nothing.
        exchanges: from the last end of what each message node needs to its own end, messages × scenarios. None:
            messages take no time and wait for their producers alone.
    """
    own = durations if delays is None else durations + delays
    if exchanges is None:
        exchanges = np.zeros((len(graph.messages.needs), durations.shape[1]), dtype=np.int64)
        whole = _replayed_with(graph, MessageNodes(), len(exchanges))
    else:
        whole = _replayed_with(graph, graph.messages, 0)
    in_transit = np.zeros_like(durations) if messages is None else messages
    return run(whole, np.concatenate([own, exchanges, in_transit]))[: graph.num_actions]


def _replayed_with(graph: DependencyGraph, nodes: MessageNodes, num_unused: int) -> ReplayGraph:
    """Actions, message nodes, and for each action the way of the message that is not a node (nothing waits for it in vain)."""
    first_message = graph.num_actions + len(nodes.needs) + num_unused
    needs: list[list[int]] = []
    ways: list[list[int]] = []
    for node, (before, source) in enumerate(zip(graph.previous, graph.releaser, strict=True)):
        needed = [] if before == NONE else [before]
        is_plain = source != NONE and node not in nodes.awaited
        needs.append([*needed, *nodes.awaited.get(node, []), *([first_message + node] if is_plain else [])])
        ways.append([source] if is_plain else [])
    whole = replay_graph([*needs, *nodes.needs, *([] for _ in range(num_unused)), *ways])
    assert whole is not None  # noqa: S101 - the dependency graph itself was ordered
    return whole
