"""Op orders against the papers' small pictures, PyTorch 2.13 and DeepSeek's code."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.errors import DomainError, InputError
from traceanalyzer.schedule import Phase, RankOrders, ScheduleName, actions_of, parse_op
from traceanalyzer.theory.schedules.known import schedules
from traceanalyzer.theory.schedules.order_csv import read_orders, stage_ranks_of, write_orders
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order, placement

DATA = Path(__file__).parents[1] / "data"
S = ScheduleName


def spelled(orders: RankOrders) -> list[str]:
    return [" ".join(map(str, ops)) for ops in orders]


@pytest.mark.parametrize(
    ("name", "num_chunks", "expected"),
    [
        (S("Sequential"), 1, ["0F0 0B0 0F1 0B1 0F2 0B2", "1F0 1B0 1F1 1B1 1F2 1B2"]),
        (S("GPipe"), 1, ["0F0 0F1 0F2 0B0 0B1 0B2", "1F0 1F1 1F2 1B0 1B1 1B2"]),
        (S("1F1B"), 1, ["0F0 0F1 0B0 0F2 0B1 0B2", "1F0 1B0 1F1 1B1 1F2 1B2"]),
        (S("Eager1F1B"), 1, ["0F0 0F1 0F2 0B0 0B1 0B2", "1F0 1B0 1F1 1B1 1F2 1B2"]),
        (
            S("ZBH1"),
            1,
            ["0F0 0F1 0I0 0W0 0F2 0I1 0W1 0I2 0W2", "1F0 1I0 1F1 1I1 1W0 1F2 1I2 1W1 1W2"],
        ),
        (
            S("ZBH2"),
            1,
            ["0F0 0F1 0F2 0I0 0W0 0I1 0W1 0I2 0W2", "1F0 1I0 1F1 1I1 1F2 1I2 1W0 1W1 1W2"],
        ),
        (
            S("LoopedBFS"),
            2,
            [
                "0F0 0F1 0F2 2F0 2F1 2F2 2B2 2B1 2B0 0B2 0B1 0B0",
                "1F0 1F1 1F2 3F0 3F1 3F2 3B2 3B1 3B0 1B2 1B1 1B0",
            ],
        ),
    ],
)
def test_small_orders(name: ScheduleName, num_chunks: int, expected: list[str]) -> None:
    assert spelled(order(name, 2, 3, num_chunks)) == expected


def test_1f1b_of_four_stages_is_the_textbook_picture() -> None:
    shape = ["".join(op.phase.value for op in ops) for ops in order(S("1F1B"), 4, 4)]  # type: ignore[union-attr] - no pairs
    assert shape == ["FFFFBBBB", "FFFBFBBB", "FFBFBFBB", "FBFBFBFB"]


def test_interleaving_goes_from_depth_first_to_breadth_first_with_the_group_size() -> None:
    def forwards(group_size: int) -> str:
        (first, _) = order(S("Interleaved1F1B"), 2, 4, 2, group_size)
        return " ".join(str(op) for op in first if op.phase is Phase.FORWARD)  # type: ignore[union-attr] - no pairs

    assert forwards(2) == "0F0 0F1 2F0 2F1 0F2 0F3 2F2 2F3"
    assert forwards(4) == "0F0 0F1 0F2 0F3 2F0 2F1 2F2 2F3"


def test_placements() -> None:
    assert placement(S("1F1B"), 3) == (0, 1, 2)
    assert placement(S("Interleaved1F1B"), 2, 3) == (0, 1, 0, 1, 0, 1)
    assert placement(S("ZBVZeroBubble"), 3, 2) == placement(S("DualPipeV"), 3, 2) == (0, 1, 2, 2, 1, 0)
    assert placement(S("DualPipe"), 4) == (0, 1, 2, 3, 3, 2, 1, 0)


def dualpipe_reference() -> dict[tuple[str, int, int], list[str]]:
    orders: dict[tuple[str, int, int], list[str]] = {}
    with (DATA / "dualpipe_orders.csv").open() as file:
        for name, ranks, microbatches, _, ops in csv.reader(line for line in file if not line.startswith("#")):
            orders.setdefault((name, int(ranks), int(microbatches)), []).append(ops)
    return orders


@pytest.mark.parametrize("point", dualpipe_reference())
def test_dualpipe_is_what_deepseeks_code_runs(point: tuple[str, int, int]) -> None:
    name, num_ranks, num_microbatches = point
    num_chunks = chunks_per_rank(S(name)) or 1
    assert spelled(order(S(name), num_ranks, num_microbatches, num_chunks)) == dualpipe_reference()[point]


TORCH_POINTS = [
    (name, num_chunks)
    for name in (
        S("GPipe"),
        S("1F1B"),
        S("Interleaved1F1B"),
        S("LoopedBFS"),
        S("InterleavedZeroBubble"),
        S("ZBVZeroBubble"),
        S("DualPipeV"),
    )
    for num_chunks in ([chunks_per_rank(name)] if chunks_per_rank(name) else [2, 3])
]


@pytest.mark.sweep(3)
@pytest.mark.parametrize(("name", "num_chunks"), TORCH_POINTS)
def test_orders_and_domains_equal_pytorchs(name: ScheduleName, num_chunks: int) -> None:
    visualizer = pytest.importorskip(
        "torch.distributed.pipelining._schedule_visualizer", reason="torch is not installed"
    )
    num_compared = 0
    for num_ranks in (1, 2, 3, 4, 8):
        for num_microbatches in (1, 2, 3, 4, 5, 6, 7, 8, 10, 16, 17, 24):
            try:
                rows = visualizer.get_schedule_ops(name, num_ranks, num_microbatches, num_chunks)
            except ValueError:  # torch refuses the point
                if name == S("1F1B"):
                    continue  # it wants as many microbatches as ranks; Megatron-LM runs fewer
                with pytest.raises(DomainError):
                    order(name, num_ranks, num_microbatches, num_chunks)
                continue
            theirs = [[str(op) for op in row if op is not None and "REDUCE" not in str(op)] for row in rows]
            if name == S("1F1B"):
                theirs[-1] = last_rank_repaired(theirs[-1])
            assert [[str(op) for op in ops] for ops in order(name, num_ranks, num_microbatches, num_chunks)] == theirs
            num_compared += 1
    assert num_compared > 10


def last_rank_repaired(ops: list[str]) -> list[str]:
    """PyTorch 2.13 lists the last rank's forwards as F1 to FM; the loop that it executes runs F0 to FM-1."""
    return [f"{op.split('F')[0]}F{int(op.split('F')[1]) - 1}" if "F" in op else op for op in ops]


@pytest.mark.parametrize(
    ("name", "point", "fits"),
    [
        (S("GradAccumulation"), (2, 4, 1), "1 rank"),
        (S("Interleaved1F1B"), (4, 8, 1), "2 chunks"),
        (S("Interleaved1F1B"), (4, 9, 2), "8 or 12 microbatches"),
        (S("ZBVZeroBubble"), (4, 8, 1), "2"),
        (S("1F1B"), (4, 8, 2), "1"),
        (S("1F1B"), (0, 8, 1), "at least 1 rank"),
        (S("1F1B"), (4, 0, 1), "at least 1 microbatch"),
        (S("DualPipe"), (4, 6, 1), "8 microbatches"),
        (S("DualPipe"), (3, 9, 1), "4 ranks and 10 microbatches"),
        (S("DualPipeV"), (4, 7, 2), "8 microbatches"),
    ],
)
def test_outside_its_domain_a_schedule_says_what_would_fit(
    name: ScheduleName, point: tuple[int, int, int], fits: str
) -> None:
    with pytest.raises(DomainError) as error:
        order(name, *point)
    assert fits in error.value.hint


@pytest.mark.parametrize("group_size", [3, 5, 13])
def test_groups_that_megatron_refuses_are_refused(group_size: int) -> None:
    with pytest.raises(DomainError, match="groups"):
        order(S("Interleaved1F1B"), 4, 12, 2, group_size)


points = st.sampled_from(list(schedules())).flatmap(
    lambda name: st.tuples(st.just(name), st.integers(1, 6), st.integers(1, 20), st.integers(2, 4))
)


@given(points)
def test_every_stage_does_the_work_of_its_microbatches_once(point: tuple[ScheduleName, int, int, int]) -> None:
    name, num_ranks, num_microbatches, num_chunks = point
    num_chunks = chunks_per_rank(name) or num_chunks
    try:
        orders = order(name, num_ranks, num_microbatches, num_chunks)
    except DomainError:
        return
    stage_ranks = placement(name, num_ranks, num_chunks)
    assert stage_ranks_of(orders) == stage_ranks
    actions = [action for ops in orders for op in ops for action in actions_of(op)]
    assert len(set(actions)) == len(actions)
    forwards = {(a.stage, a.microbatch) for a in actions if a.phase is Phase.FORWARD}
    weights = {(a.stage, a.microbatch) for a in actions if a.phase in (Phase.BACKWARD, Phase.WEIGHT_GRADIENT)}
    inputs = {(a.stage, a.microbatch) for a in actions if a.phase in (Phase.BACKWARD, Phase.INPUT_GRADIENT)}
    assert forwards == weights == inputs
    assert len(forwards) == num_ranks * num_chunks * num_microbatches


@given(points)
def test_csv_keeps_an_order(point: tuple[ScheduleName, int, int, int]) -> None:
    name, num_ranks, num_microbatches, num_chunks = point
    try:
        orders = order(name, num_ranks, num_microbatches, chunks_per_rank(name) or num_chunks)
    except DomainError:
        return
    assert read_orders(write_orders(orders)) == orders


def test_csv_in_pytorchs_format() -> None:
    text = "0F0,0SEND_F0,,0RECV_B0,0B0,0REDUCE_GRAD\n1RECV_F0,,1F0,(1F1;1B0)OVERLAP_F_B,\n"
    orders = read_orders(text)
    assert spelled(orders) == ["0F0 0B0", "1F0 (1F1;1B0)OVERLAP_F_B"]
    assert write_orders(orders) == "0F0,0B0\r\n1F0,(1F1;1B0)OVERLAP_F_B\r\n"


def test_pytorch_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path) -> None:
    pipelining = pytest.importorskip("torch.distributed.pipelining.schedules", reason="torch is not installed")
    orders = order(S("DualPipeV"), 4, 10, 2)
    rows = csv.reader(write_orders(orders).splitlines())
    theirs = [[pipelining._Action.from_str(cell) for cell in row] for row in rows]
    path = tmp_path / "order.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(theirs)
    assert read_orders(path.read_text()) == orders


@pytest.mark.parametrize(
    ("text", "place"),
    [("0F0,0X0", "row 1, cell 2"), ("0F0\n1F0,,(1F1;1B0)OVERLAP", "row 2, cell 3"), ("", "no action"), ('"0F0', "csv")],
)
def test_csv_that_is_no_order_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(InputError, match=place):
        read_orders(text, "order.csv")


def test_a_stage_on_two_ranks_is_refused() -> None:
    with pytest.raises(InputError, match="stage 0 is computed on rank 0 and on rank 1"):
        stage_ranks_of([[parse_op("0F0")], [parse_op("0F1")]])
    with pytest.raises(InputError, match="no rank computes on stage 1"):
        stage_ranks_of([[parse_op("0F0")], [parse_op("2F0")]])
