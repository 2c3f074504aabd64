"""The simulation against an independent one's figures, and small cases by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from traceanalyzer.errors import UsageError
from traceanalyzer.schedule import Action, OverlappedPair, Phase, RankOrders, ScheduleName, actions_of, parse_op
from traceanalyzer.theory.schedules.families.interleaved import interleaved_1f1b
from traceanalyzer.theory.schedules.known import schedules
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order, placement
from traceanalyzer.theory.simulator.deadlock import DeadlockError
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode, SendMode
from traceanalyzer.theory.simulator.simulation import Simulation, simulate

DATA = Path(__file__).parents[1] / "data"
S = ScheduleName
UNIT = 12_000_000


def read(name: str) -> pl.DataFrame:
    return pl.read_csv(DATA / name, comment_prefix="#", infer_schema_length=None)


def orders_of(*rows: str) -> RankOrders:
    return [[parse_op(text) for text in row.split()] for row in rows]


def run(name: ScheduleName, num_ranks: int, num_microbatches: int, times: OpTimes) -> Simulation:
    num_chunks = chunks_per_rank(name) or 2
    return simulate(order(name, num_ranks, num_microbatches, num_chunks), placement(name, num_ranks, num_chunks), times)


@pytest.mark.parametrize("name", [name for name in schedules() if name != "GradAccumulation"])
def test_every_row_of_an_independent_simulation(name: ScheduleName) -> None:
    rows = read("schedules.csv").filter(pl.col("schedule") == name)
    assert rows.height >= 50
    for row in rows.iter_rows(named=True):
        num_chunks = row["chunks"]
        simulated = simulate(
            order(name, row["ranks"], row["microbatches"], num_chunks),
            placement(name, row["ranks"], num_chunks),
            OpTimes(
                forward_ns=round(row["forward"] * UNIT / num_chunks),
                input_gradient_ns=round(row["input_gradient"] * UNIT / num_chunks),
                weight_gradient_ns=round(row["weight_gradient"] * UNIT / num_chunks),
                hop_ns=round(row["hop"] * UNIT),
            ),
        )
        assert simulated.makespan_ns / UNIT == pytest.approx(row["makespan"], abs=1e-4), row
        assert simulated.bubble_share == pytest.approx(row["bubble_share"], abs=1e-5), row
        assert simulated.span_bubble_share == pytest.approx(row["span_bubble_share"], abs=1e-5), row
        peaks = [float(peak) for peak in row["peaks"].split(";")]
        assert [peak / num_chunks for peak in simulated.peak_in_flight] == peaks, row
        assert sum(simulated.num_messages) == row["messages"], row
        assert max(simulated.num_messages) == row["most_sent"], row


def test_dualpipe_with_overlapped_pairs_of_any_length() -> None:
    for row in read("dualpipe_pairs.csv").iter_rows(named=True):
        times = OpTimes(
            forward_ns=round(row["forward"] * UNIT),
            input_gradient_ns=round(row["input_gradient"] * UNIT),
            weight_gradient_ns=round(row["weight_gradient"] * UNIT),
            pair_share=row["pair_time"] / (row["forward"] + row["input_gradient"] + row["weight_gradient"]),
        )
        whole = run(S("DualPipe"), row["ranks"], row["microbatches"], times)
        half = run(S("DualPipeV"), row["ranks"] // 2, row["microbatches"], times)
        assert whole.bubble_ns / whole.num_ranks / UNIT == pytest.approx(row["dualpipe_bubble"], abs=1e-3), row
        assert half.bubble_ns / half.num_ranks / UNIT == pytest.approx(row["dualpipe_v_bubble"], abs=1e-3), row
        assert max(whole.peak_in_flight) == max(half.peak_in_flight) == row["activations"], row


def test_messages_of_one_step() -> None:
    for row in read("pipeline_messages.csv").iter_rows(named=True):
        name = S("Interleaved1F1B") if row["chunks"] > 1 else S("1F1B")
        orders = order(name, row["ranks"], row["microbatches"], row["chunks"])
        times = OpTimes(forward_ns=1, message_bytes=1000)
        simulated = simulate(orders, placement(name, row["ranks"], row["chunks"]), times)
        assert sum(simulated.num_messages) == row["messages"]
        assert simulated.message_bytes == 1000 * row["messages"]


@pytest.mark.parametrize(
    ("pairs", "share"), [(PairMode.SERIAL, 0.0588), (PairMode.SERIAL_LATE, 0.1111), (PairMode.OVERLAPPED, 0.1111)]
)
def test_late_sends_of_pairs_cost_dualpipe_v_half_its_gain(pairs: PairMode, share: float) -> None:
    times = OpTimes(forward_ns=UNIT, input_gradient_ns=UNIT, weight_gradient_ns=UNIT, pairs=pairs)
    assert run(S("DualPipeV"), 4, 8, times).bubble_share == pytest.approx(share, abs=5e-5)


def test_a_late_message_leaves_at_the_end_of_its_pair() -> None:
    pair = OverlappedPair(Action(0, Phase.FORWARD, 1), Action(0, Phase.BACKWARD, 0))
    orders: RankOrders = [[Action(0, Phase.FORWARD, 0), pair], *orders_of("1F0 1B0 1F1")]
    times = OpTimes(forward_ns=10, backward_ns=20, pairs=PairMode.SERIAL_LATE)
    actions = simulate(orders, (0, 1), times).actions
    rank = actions.filter(pl.col("rank") == 0).select("phase", "start_ns", "end_ns", "release_ns").rows()
    assert rank == [("F", 0, 10, None), ("F", 10, 20, 60), ("B", 40, 60, None)]
    assert actions["start_ns"].to_list()[-1] == 60


# --- small cases by hand ----------------------------------------------------------------------------------------------


def test_two_stages_two_microbatches_by_hand() -> None:
    times = OpTimes(forward_ns=[10, 20], backward_ns=[30, 40], hop_ns=5)
    simulated = simulate(order(S("1F1B"), 2, 2), (0, 1), times)
    # 0F0 0-10, 0F1 10-20, 1F0 15-35, 1B0 35-75, 0B0 80-110, 1F1 75-95, 1B1 95-135, 0B1 140-170
    table = simulated.actions.select("rank", "stage", "phase", "microbatch", "start_ns", "end_ns").rows()
    assert table == [
        (0, 0, "F", 0, 0, 10), (0, 0, "F", 1, 10, 20), (0, 0, "B", 0, 80, 110), (0, 0, "B", 1, 140, 170),
        (1, 1, "F", 0, 15, 35), (1, 1, "B", 0, 35, 75), (1, 1, "F", 1, 75, 95), (1, 1, "B", 1, 95, 135),
    ]  # fmt: skip
    assert (simulated.makespan_ns, simulated.busy_ns, simulated.span_ns) == (170, (80, 120), (170, 120))
    assert simulated.bubble_share == pytest.approx(1 - 200 / 340)
    assert simulated.bubble_ratio == pytest.approx(140 / 200)
    assert simulated.num_messages == (2, 2)


def test_recompute_lengthens_every_backward_and_only_those() -> None:
    plain, again = (
        run(S("ZBH1"), 2, 4, OpTimes(forward_ns=10, input_gradient_ns=10, weight_gradient_ns=10, recompute_ns=extra))
        for extra in (0, 10)
    )
    assert sum(again.busy_ns) - sum(plain.busy_ns) == 2 * 4 * 10


def test_a_link_carries_one_message_after_another() -> None:
    orders = orders_of("0F0 0F1 0F2", "1F0 1F1 1F2")
    times = OpTimes(forward_ns=[10, 0], hop_ns=2, message_bytes=30_000, bytes_per_second=1e12)  # 30 ns each
    arrivals = simulate(orders, (0, 1), times).actions.filter(pl.col("rank") == 1)["start_ns"].to_list()
    assert arrivals == [10 + 30 + 2, 40 + 30 + 2, 70 + 30 + 2]


def test_blocking_sends_hold_the_sender_for_the_hop() -> None:
    times = OpTimes(forward_ns=10, backward_ns=10, hop_ns=3, sends=SendMode.BLOCKING)
    actions = simulate(orders_of("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"), (0, 1), times).actions
    # 0F0 0-10 (held to 13), 0F1 13-23 (held to 26); 1F0 13-23, 1B0 23-33 (held to 36), 1F1 36-46
    assert actions["start_ns"].to_list() == [0, 13, 36, 59, 13, 23, 36, 46]


def test_rendezvous_waits_for_the_receiver_too() -> None:
    times = OpTimes(forward_ns=[10, 50], hop_ns=3, sends=SendMode.RENDEZVOUS)
    actions = simulate(orders_of("0F0 0F1 0F2", "1F0 1F1 1F2"), (0, 1), times).actions
    assert actions["start_ns"].to_list() == [0, 13, 66, 13, 66, 119]


def test_1f1b_deadlocks_where_sends_wait_for_their_receiver() -> None:
    """Why implementations batch a send with the receive that goes the other way."""
    times = OpTimes(forward_ns=10, backward_ns=20, sends=SendMode.RENDEZVOUS)
    with pytest.raises(DeadlockError, match="rank 0 waits to send the result of 0F1 to rank 1; rank 1 waits to send"):
        run(S("1F1B"), 2, 4, times)
    assert run(S("GPipe"), 2, 4, times).bubble_share == pytest.approx(1 / 5)


def test_the_step_ends_after_reduction_and_optimizer() -> None:
    times = OpTimes(forward_ns=10, backward_ns=20, gradient_reduction_ns=[5, 40], optimizer_ns=[7, 3])
    simulated = simulate(order(S("1F1B"), 2, 2), (0, 1), times)
    assert simulated.makespan_ns == 90
    last_end = simulated.actions.filter(pl.col("rank") == 1)["end_ns"].max()
    assert simulated.step_ns == max(90 + 5, last_end + 40) + 7  # type: ignore[operator] - an integer


def test_stages_that_share_ranks_exchange_no_message() -> None:
    simulated = simulate(orders_of("0F0 1F0 1B0 0B0"), (0, 0), OpTimes(forward_ns=5, backward_ns=5, hop_ns=100))
    assert (simulated.makespan_ns, simulated.num_messages) == (20, (0,))


def test_torch_does_the_first_stages_whole_backward_in_its_weight_gradient() -> None:
    """Measured orders bring their own durations: `I` of stage 0 takes nothing, `W` everything."""
    orders = order(S("ZBH1"), 2, 4)
    measured = {
        a: 0 if a.phase is Phase.INPUT_GRADIENT and a.stage == 0 else 10
        for ops in orders
        for op in ops
        for a in actions_of(op)
    }
    simulated = simulate(orders, (0, 1), OpTimes(forward_ns=10, exact_ns=measured))
    assert simulated.busy_ns == (80, 120)


def test_an_empty_order_is_an_empty_step() -> None:
    simulated = simulate([[], []], (0, 1), OpTimes(forward_ns=1))
    assert (simulated.makespan_ns, simulated.bubble_share, simulated.bubble_ratio) == (0, 0.0, 0.0)
    assert simulated.actions.is_empty()


def test_an_overlapped_pair_is_one_op_of_two_actions() -> None:
    pair = OverlappedPair(Action(0, Phase.FORWARD, 1), Action(0, Phase.BACKWARD, 0))
    orders: RankOrders = [[Action(0, Phase.FORWARD, 0), pair, Action(0, Phase.BACKWARD, 1)]]
    simulated = simulate(orders, (0,), OpTimes(forward_ns=10, backward_ns=20, pair_share=0.8))
    assert simulated.busy_ns == (10 + 24 + 20,)
    assert simulated.actions["start_ns"].to_list() == [0, 10, 10, 34]
    assert simulated.actions["position"].to_list() == [0, 1, 2, 3]


# --- orders that cannot run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "stage_ranks", "reason"),
    [
        (("0F0 0B0", "1B0 1F0"), (0, 1), "rank 1 waits to run 1B0 for 1F0, later on the same rank"),
        (("0F0 0F1 0B0 0B1", "1F1 1B1 1F0 1B0"), (0, 1), None),
        (("0F0 0B0 0F1 0B1", "1F1 1B1 1F0 1B0"), (0, 1), "rank 1 waits to run 1F1 for 0F1, still ahead on rank 0"),
        (("0F0 0B0", "1F0"), (0, 1), "rank 0 waits to run 0B0 for 1B0 or 1I0, which no rank runs"),
        (("0F0 0W0 0I0",), (0,), "0W0 for 0I0, later on the same rank"),
        (("0F0", "", "2F0"), (0, 1, 2), "2F0 for 1F0, which no rank runs"),
    ],
)
def test_deadlocks_are_explained(rows: tuple[str, ...], stage_ranks: tuple[int, ...], reason: str | None) -> None:
    times = OpTimes(forward_ns=1, backward_ns=1)
    if reason is None:
        assert simulate(orders_of(*rows), stage_ranks, times).makespan_ns > 0
        return
    with pytest.raises(DeadlockError, match=reason) as error:
        simulate(orders_of(*rows), stage_ranks, times)
    assert error.value.exit_status == 3


def test_the_interleaved_order_with_a_short_last_group_deadlocks() -> None:
    """Why Megatron-LM refuses it (P=4, v=3, M=5)."""
    orders = [interleaved_1f1b(rank, 4, 5, 3, 4) for rank in range(4)]
    with pytest.raises(DeadlockError):
        simulate(orders, placement(S("Interleaved1F1B"), 4, 3), OpTimes(forward_ns=1, backward_ns=2))


@pytest.mark.parametrize(
    ("rows", "stage_ranks", "fact"),
    [
        (("0F0 0F0",), (0,), "does the work of 0F0 twice"),
        (("0F0 0B0 0I0",), (0,), "does the work of 0I0 twice"),
        (("0F0 1F0",), (0,), "stage 1 is on no rank"),
        (("0F0 1F0", ""), (0, 1), "rank 0 runs 1F0, but stage 1 is on rank 1"),
        (("0F0",), (0, 1), "orders of 1 ranks"),
        (("0F0 0B0", "1F1 1B0"), (0, 1), "1B0 has no forward 1F0"),
    ],
)
def test_orders_that_contradict_themselves_are_refused(
    rows: tuple[str, ...], stage_ranks: tuple[int, ...], fact: str
) -> None:
    with pytest.raises(UsageError, match=fact):
        simulate(orders_of(*rows), stage_ranks, OpTimes(forward_ns=1, backward_ns=1))
