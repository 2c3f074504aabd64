"""Laws of the simulation on any order that can run: against a brute-force reference, and against bounds."""

from __future__ import annotations

import random
from itertools import pairwise

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from traceanalyzer.schedule import Action, Phase, RankOrders, actions_of
from traceanalyzer.schema import ACTIONS
from traceanalyzer.theory.simulator.deadlock import DeadlockError
from traceanalyzer.theory.simulator.op_times import OpTimes, SendMode
from traceanalyzer.theory.simulator.simulation import simulate


@st.composite
def runnable(draw: st.DrawFn) -> tuple[RankOrders, tuple[int, ...], dict[Action, int], int]:
    """Any order that can run, on any placement, with any durations: a random walk over what is ready."""
    num_ranks, num_stages = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    stage_ranks = tuple(draw(st.lists(st.integers(0, num_ranks - 1), min_size=num_stages, max_size=num_stages)))
    split = draw(st.booleans())
    backward = (Phase.INPUT_GRADIENT, Phase.WEIGHT_GRADIENT) if split else (Phase.BACKWARD,)
    num_microbatches = draw(st.integers(1, 5))
    todo = {
        Action(stage, phase, m)
        for stage in range(num_stages)
        for phase in (Phase.FORWARD, *backward)
        for m in range(num_microbatches)
    }
    dice = random.Random(draw(st.integers(0, 2**32)))  # noqa: S311 - a shuffle
    orders: RankOrders = [[] for _ in range(num_ranks)]
    done: set[Action] = set()
    while todo:
        ready = sorted(action for action in todo if needs(action, num_stages, split=split) <= done)
        chosen = dice.choice(ready)
        orders[stage_ranks[chosen.stage]].append(chosen)
        done.add(chosen)
        todo.remove(chosen)
    durations = {action: dice.randint(0, 20) for action in sorted(done)}
    return orders, stage_ranks, durations, draw(st.integers(0, 7))


def needs(action: Action, num_stages: int, *, split: bool) -> set[Action]:
    """What must be done before an action, written down apart from the package."""
    stage, m = action.stage, action.microbatch
    gradient = Phase.INPUT_GRADIENT if split else Phase.BACKWARD
    if action.phase is Phase.FORWARD:
        return {Action(stage - 1, Phase.FORWARD, m)} if stage else set()
    if action.phase is Phase.WEIGHT_GRADIENT:
        return {Action(stage, Phase.INPUT_GRADIENT, m)}
    if stage == num_stages - 1:
        return {Action(stage, Phase.FORWARD, m)}
    return {Action(stage + 1, gradient, m), Action(stage, Phase.FORWARD, m)}


def starts_by_sweeping(
    orders: RankOrders, stage_ranks: tuple[int, ...], durations: dict[Action, int], hop: int
) -> dict[Action, int]:
    """Earliest starts: push every action behind what it needs until nothing moves."""
    split = any(action.phase is Phase.WEIGHT_GRADIENT for action in durations)
    starts = dict.fromkeys(durations, 0)
    moved = True
    while moved:
        moved = False
        for ops in orders:
            free = 0
            for action in (action for op in ops for action in actions_of(op)):
                arrivals = [
                    starts[other] + durations[other] + hop * (stage_ranks[other.stage] != stage_ranks[action.stage])
                    for other in needs(action, len(stage_ranks), split=split)
                ]
                start = max([free, *arrivals])
                moved |= start != starts[action]
                starts[action] = start
                free = start + durations[action]
    return starts


@settings(max_examples=200, deadline=None)
@given(runnable())
def test_every_op_starts_as_early_as_its_inputs_and_its_rank_allow(
    case: tuple[RankOrders, tuple[int, ...], dict[Action, int], int],
) -> None:
    orders, stage_ranks, durations, hop = case
    actions = simulate(orders, stage_ranks, OpTimes(forward_ns=0, exact_ns=durations, hop_ns=hop)).actions
    found = {
        Action(s, Phase(p), m): start
        for s, p, m, start in actions.select("stage", "phase", "microbatch", "start_ns").iter_rows()
    }
    assert found == starts_by_sweeping(orders, stage_ranks, durations, hop)
    assert dict(actions.schema) == dict(ACTIONS)
    for rank, ops in enumerate(orders):
        mine = actions.filter(pl.col("rank") == rank)
        assert mine["position"].to_list() == list(range(len(ops)))
        assert mine["stage"].to_list() == [action.stage for op in ops for action in actions_of(op)]


@settings(max_examples=100, deadline=None)
@given(runnable())
def test_work_is_conserved_and_no_step_is_shorter_than_its_bounds(
    case: tuple[RankOrders, tuple[int, ...], dict[Action, int], int],
) -> None:
    orders, stage_ranks, durations, hop = case
    simulated = simulate(orders, stage_ranks, OpTimes(forward_ns=0, exact_ns=durations, hop_ns=hop))
    busy = [sum(durations[action] for op in ops for action in actions_of(op)) for ops in orders]
    assert list(simulated.busy_ns) == busy
    assert simulated.makespan_ns >= max(busy)
    hops = 2 * sum(a != b for a, b in pairwise(stage_ranks))
    for m in {action.microbatch for action in durations}:
        chain = sum(time for action, time in durations.items() if action.microbatch == m and action.phase in "FBI")
        assert simulated.makespan_ns >= chain + hops * hop
    assert simulated.bubble_ns == simulated.num_ranks * simulated.makespan_ns - sum(busy)


@settings(max_examples=60, deadline=None)
@given(runnable(), st.sampled_from(list(SendMode)))
def test_holding_the_sender_never_makes_a_step_shorter(
    case: tuple[RankOrders, tuple[int, ...], dict[Action, int], int], sends: SendMode
) -> None:
    orders, stage_ranks, durations, hop = case
    free = simulate(orders, stage_ranks, OpTimes(forward_ns=0, exact_ns=durations, hop_ns=hop))
    try:
        held = simulate(orders, stage_ranks, OpTimes(forward_ns=0, exact_ns=durations, hop_ns=hop, sends=sends))
    except DeadlockError:
        assert sends is SendMode.RENDEZVOUS
        return
    assert held.makespan_ns >= free.makespan_ns
    assert held.num_messages == free.num_messages
