"""Naming the schedule of an observed order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.errors import DomainError
from traceanalyzer.schedule import OverlappedPair, RankOrders, ScheduleName, actions_of, parse_op
from traceanalyzer.theory.schedules.families.gpipe import gpipe
from traceanalyzer.theory.schedules.known import schedules
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order, placement
from traceanalyzer.theory.schedules.recognise import recognise, recognise_order

S = ScheduleName


def flat(orders: RankOrders) -> RankOrders:
    return [[action for op in ops for action in actions_of(op)] for ops in orders]


@pytest.mark.parametrize("name", [name for name in schedules() if name != "GradAccumulation"])
def test_every_schedule_is_known_by_its_order(name: ScheduleName) -> None:
    num_chunks = chunks_per_rank(name) or 2
    orders = order(name, 4, 8, num_chunks)
    assert recognise(flat(orders), placement(name, 4, num_chunks)) is name


@given(st.sampled_from(list(schedules())), st.integers(1, 5), st.integers(1, 12), st.integers(2, 3))
def test_whatever_is_named_generates_the_order(
    name: ScheduleName, num_ranks: int, num_microbatches: int, num_chunks: int
) -> None:
    num_chunks = chunks_per_rank(name) or num_chunks
    try:
        orders = order(name, num_ranks, num_microbatches, num_chunks)
    except DomainError:
        return
    found = recognise_order(flat(orders), placement(name, num_ranks, num_chunks))
    assert found is not None
    assert flat(found[1]) == flat(orders)


def test_pairs_that_traces_do_not_show_are_restored() -> None:
    found = recognise_order(flat(order(S("DualPipeV"), 2, 6, 2)), (0, 1, 1, 0))
    assert found is not None
    assert any(isinstance(op, OverlappedPair) for op in found[1][0])


def test_gpipe_with_its_backwards_in_reverse() -> None:
    assert recognise([gpipe(rank, 4, last_first=True) for rank in range(3)], (0, 1, 2)) == S("GPipe")


def test_interleaving_with_groups_of_any_size() -> None:
    assert recognise(order(S("Interleaved1F1B"), 2, 8, 2, 4), (0, 1, 0, 1)) == S("Interleaved1F1B")


def test_the_simplest_of_equal_orders_is_named() -> None:
    assert recognise(order(S("Sequential"), 1, 4), (0,)) == S("GradAccumulation")
    assert recognise(order(S("GPipe"), 2, 1), (0, 1)) == S("1F1B")


def test_ranks_that_were_not_observed_fit_anything() -> None:
    orders = order(S("1F1B"), 4, 8)
    assert recognise([[], orders[1], [], []], (0, 1, 2, 3)) == S("1F1B")
    assert recognise([[], [], [], []], (0, 1, 2, 3)) is None


def test_one_swap_is_no_named_schedule() -> None:
    orders = order(S("1F1B"), 4, 8)
    orders[1][4], orders[1][5] = orders[1][5], orders[1][4]
    assert recognise(orders, (0, 1, 2, 3)) is None


def test_the_placement_decides_between_a_loop_and_a_v() -> None:
    orders = [[parse_op(text) for text in ("0F0", "1F0", "1B0", "0B0")]]
    assert recognise(orders, (0, 0)) == S("Interleaved1F1B")
    assert recognise(order(S("ZBVZeroBubble"), 3, 6, 2), (0, 1, 2, 0, 1, 2)) is None


def test_a_far_microbatch_number_is_no_schedule_and_takes_no_memory() -> None:
    assert recognise([[parse_op("0F999999999"), parse_op("0B999999999")]], (0,)) is None
