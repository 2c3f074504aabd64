"""Orders made ready to run: every op with what it waits for, how long it takes and whom it releases.

Dependencies: `F(s, m)` needs `F(s-1, m)`; `B` or `I` of (s, m) needs `B` or `I` of (s+1, m), on the last stage
`F(s, m)`; `W(s, m)` needs `I(s, m)`. A microbatch enters at the lowest stage that has a forward for it and turns at the
highest: so several models, or copies of one, can share the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from traceanalyzer.errors import UsageError
from traceanalyzer.schedule import Action, Op, OverlappedPair, Phase, RankOrders
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode, durations

LOCAL = -1
"""Destination of a message that does not leave its rank."""

ACTIVATION, GRADIENT, WEIGHT_INPUT = range(3)
"""What an action waits for; a token is `3 * (microbatch * num_stages + stage) + kind`, for the action that needs it."""


class Node(NamedTuple):
    """One op of a rank."""

    waits: tuple[int, ...]
    """Tokens."""
    duration: int
    releases: tuple[tuple[int, int], ...]
    """(token, destination rank or `LOCAL`)."""


@dataclass(frozen=True, slots=True)
class Program:
    """What `run` executes: `nodes[rank][i]` computes `actions[rank][i]`."""

    nodes: list[list[Node]]
    actions: list[list[tuple[Action, ...]]]
    num_stages: int
    late: frozenset[tuple[int, int]]
    """(rank, node) of the first halves of pairs that hand on their output at the end of the second half."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """Where a microbatch enters and where it turns."""

    first: dict[int, int]
    last: dict[int, int]
    stage_ranks: Sequence[int]


def build(orders: RankOrders, stage_ranks: Sequence[int], times: OpTimes) -> Program:
    """Resolve dependencies and durations. Raises `UsageError` if orders and placement contradict each other."""
    chain = _chain(orders, stage_ranks)
    duration = durations(times, len(stage_ranks))
    nodes: list[list[Node]] = []
    actions: list[list[tuple[Action, ...]]] = []
    late: set[tuple[int, int]] = set()
    for rank, order in enumerate(orders):
        rank_nodes: list[Node] = []
        rank_actions: list[tuple[Action, ...]] = []
        for op in order:
            if isinstance(op, Action):
                waits, releases = _edges(op, chain)
                rank_nodes.append(Node(waits, duration(op), releases))
                rank_actions.append((op,))
            else:
                first, second = op.first, op.second
                added = _pair(op, times, (duration(first), duration(second)), chain)
                if times.pairs is PairMode.SERIAL_LATE:
                    late.add((rank, len(rank_nodes)))
                rank_nodes += added
                rank_actions += [(first,), (second,)] if len(added) == 2 else [(first, second)]
        nodes.append(rank_nodes)
        actions.append(rank_actions)
    return Program(nodes, actions, len(stage_ranks), frozenset(late))


def _pair(op: OverlappedPair, times: OpTimes, spent: tuple[int, int], chain: _Chain) -> list[Node]:
    (waits1, releases1), (waits2, releases2) = _edges(op.first, chain), _edges(op.second, chain)
    if times.pairs is PairMode.OVERLAPPED:
        return [Node(waits1 + waits2, round(sum(spent) * times.pair_share), releases1 + releases2)]
    if times.pairs is PairMode.SERIAL:
        return [Node(waits1, spent[0], releases1), Node(waits2, spent[1], releases2)]
    late = tuple(release for release in releases1 if release[1] != LOCAL)
    at_once = tuple(release for release in releases1 if release[1] == LOCAL)
    return [Node(waits1, spent[0], at_once), Node(waits2, spent[1], late + releases2)]


def _chain(orders: RankOrders, stage_ranks: Sequence[int]) -> _Chain:
    """Where microbatches enter and turn; every action is checked to run once, on the rank of its stage."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    num_stages = len(stage_ranks)
    done: set[int] = set()
    if max(stage_ranks, default=0) >= len(orders):
        raise UsageError(
            f"a stage is on rank {max(stage_ranks)}, but there are orders of {len(orders)} ranks",
            "give one order per rank",
        )
    for rank, order in enumerate(orders):
        for action in _flat(order):
            stage, phase, microbatch = action.stage, action.phase, action.microbatch
            if stage >= num_stages or stage_ranks[stage] != rank:
                raise _misplaced(action, rank, stage_ranks)
            work = 3 * (microbatch * num_stages + stage)
            if phase is Phase.FORWARD:
                if stage < first.get(microbatch, num_stages):
                    first[microbatch] = stage
                if stage > last.get(microbatch, -1):
                    last[microbatch] = stage
            else:
                work += 2 if phase is Phase.WEIGHT_GRADIENT else 1
            if work in done:
                raise UsageError(
                    f"rank {rank} does the work of {action} twice",
                    "let every action run once, and every backward either whole (B) or in halves (I and W)",
                )
            done.add(work)
    return _Chain(first, last, stage_ranks)


def _misplaced(action: Action, rank: int, stage_ranks: Sequence[int]) -> UsageError:
    stage = action.stage
    where = f"rank {stage_ranks[stage]}" if stage < len(stage_ranks) else "no rank"
    return UsageError(
        f"rank {rank} runs {action}, but stage {stage} is on {where}",
        "give the rank of every stage, and every action to the rank that holds its stage",
    )


def _flat(order: list[Op]) -> list[Action]:
    flat: list[Action] = []
    for op in order:
        if isinstance(op, Action):
            flat.append(op)
        else:
            flat += (op.first, op.second)
    return flat


def _edges(action: Action, chain: _Chain) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Tokens that an action waits for, and tokens that it releases."""
    stage, phase, microbatch = action.stage, action.phase, action.microbatch
    ranks = chain.stage_ranks
    token = 3 * (microbatch * len(ranks) + stage)
    if phase is Phase.FORWARD:
        waits = () if stage == chain.first[microbatch] else (token + ACTIVATION,)
        if stage == chain.last[microbatch]:
            return waits, ((token + GRADIENT, LOCAL),)
        there = ranks[stage + 1]
        return waits, ((token + 3 + ACTIVATION, LOCAL if there == ranks[stage] else there),)
    if phase is Phase.WEIGHT_GRADIENT:
        return (token + WEIGHT_INPUT,), ()
    if not chain.first.get(microbatch, stage + 1) <= stage <= chain.last[microbatch]:
        raise UsageError(
            f"{action} has no forward {stage}F{microbatch}", "give the whole step, from its first forward on"
        )
    releases: tuple[tuple[int, int], ...] = ((token + WEIGHT_INPUT, LOCAL),) if phase is Phase.INPUT_GRADIENT else ()
    if stage > chain.first[microbatch]:
        there = ranks[stage - 1]
        releases += ((token - 3 + GRADIENT, LOCAL if there == ranks[stage] else there),)
    return (token + GRADIENT,), releases
