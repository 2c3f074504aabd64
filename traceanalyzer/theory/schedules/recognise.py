"""Which named schedule runs exactly these orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from traceanalyzer.errors import DomainError
from traceanalyzer.schedule import Action, Phase, RankOrders, ScheduleName, actions_of
from traceanalyzer.theory.schedules.known import schedule, schedules
from traceanalyzer.theory.schedules.orders import order, placement
from traceanalyzer.theory.schedules.record import OrderPoint


def recognise(orders: RankOrders, stage_ranks: Sequence[int]) -> ScheduleName | None:
    """The schedule that generates these orders, or None; see `recognise_order`."""
    found = recognise_order(orders, stage_ranks)
    return found[0] if found else None


class Recognised(NamedTuple):
    """A schedule and the order of all its ranks as it writes it."""

    name: ScheduleName
    orders: RankOrders


def recognise_order(orders: RankOrders, stage_ranks: Sequence[int]) -> Recognised | None:
    """The schedule that generates these orders, and the order of all its ranks as the schedule writes it; or None.

    `stage_ranks` is the rank of every stage. Whether a forward and a backward are written as an overlapped pair makes
    no difference (traces show the two actions; the order returned has the pairs). A rank without ops was not observed
    and fits anything. GPipe's backwards may run in the order of its forwards or in reverse. Interleaved orders may
    have groups of microbatches of any size.
    """
    observed = {rank: [action for op in ops for action in actions_of(op)] for rank, ops in enumerate(orders) if ops}
    if not observed:
        return None
    num_microbatches = 1 + max(action.microbatch for actions in observed.values() for action in actions)
    if num_microbatches > min(len(actions) for actions in observed.values()):
        return None  # in every schedule every rank works on every microbatch
    group_size = _leading_forwards(next(iter(observed.values())))
    for name in schedules():
        for candidate in _candidates(name, len(orders), num_microbatches, group_size, stage_ranks):
            if all(_flat(candidate, rank) == actions for rank, actions in observed.items()):
                return Recognised(name, candidate)
    return None


def _leading_forwards(actions: Sequence[Action]) -> int:
    """How many microbatches a rank takes through its first chunk before it does anything else."""
    first = actions[0].stage
    return sum(1 for _ in takewhile(lambda each: each.stage == first and each.phase is Phase.FORWARD, actions))


def _flat(orders: RankOrders, rank: int) -> list[Action]:
    return [action for op in orders[rank] for action in actions_of(op)]


def _candidates(
    name: ScheduleName, num_ranks: int, num_microbatches: int, group_size: int, stage_ranks: Sequence[int]
) -> Iterator[RankOrders]:
    """Every order that `name` can have on this placement."""
    record = schedule(name)
    num_chunks = record.num_chunks or len(stage_ranks) // num_ranks
    try:
        if placement(name, num_ranks, num_chunks) == tuple(stage_ranks):
            group = group_size if record.is_grouped else None
            yield order(name, num_ranks, num_microbatches, num_chunks, group)
            point = OrderPoint(num_ranks, num_microbatches, num_chunks, group or num_microbatches)
            yield from ([variant(rank, point) for rank in range(num_ranks)] for variant in record.variants)
    except DomainError:
        return
