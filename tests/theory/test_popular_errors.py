"""Every figure of docs/popular-errors.md is what the theory gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from traceanalyzer.schedule import ScheduleName as S
from traceanalyzer.theory.experts.volumes import (
    ExpertLayer,
    distinct_destinations,
    expert_parallel_bytes,
    node_limited_destinations,
    popular_bytes,
    tensor_parallel_bytes,
)
from traceanalyzer.theory.interconnect.dimension_volumes import data_parallel_elements
from traceanalyzer.theory.schedules.closed_forms import bubble_share
from traceanalyzer.theory.schedules.order_csv import read_orders
from traceanalyzer.theory.schedules.orders import order, placement
from traceanalyzer.theory.simulator.deadlock import DeadlockError
from traceanalyzer.theory.simulator.op_times import OpTimes
from traceanalyzer.theory.simulator.simulation import simulate

PAGE = (Path(__file__).parents[2] / "docs" / "popular-errors.md").read_text(encoding="utf-8")
LAYER = ExpertLayer(
    tokens_per_rank=512, experts_per_token=2, num_experts=64, hidden_size=4096, bytes_per_element=2, num_ranks=8
)


def row(claim: str) -> str:
    """The figures of the row that begins with `claim`."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {claim}"))
    return line.split("|")[-2]


def share(name: str, ranks: int, microbatches: int, chunks: int = 1) -> str:
    return f"{bubble_share(S(name), ranks, microbatches, chunks).share:.1%}"


def ratio(name: str, ranks: int, microbatches: int) -> str:
    return f"{bubble_share(S(name), ranks, microbatches).ratio:.1%}"


def kept(name: str, ranks: int, microbatches: int) -> list[int]:
    stages = placement(S(name), ranks)
    found = simulate(
        order(S(name), ranks, microbatches), stages, OpTimes(forward_ns=1, input_gradient_ns=1, weight_gradient_ns=1)
    )
    return list(found.peak_in_flight)


@pytest.mark.parametrize(
    ("claim", "figures"),
    [
        ('"Bubble fraction', [ratio("GPipe", 4, 4), share("GPipe", 4, 4)]),
        ("table of shares", [share("1F1B", 4, m) for m in (4, 8, 16, 32)]),
        ('"3/1', [ratio("GPipe", 4, 1), share("GPipe", 4, 1)]),
        ('"37.5%', ["37.5%", f"{bubble_share(S('1F1B'), 4, 16).ratio:.2%}", share("1F1B", 4, 8), share("1F1B", 4, 16)]),
        ('"The naive', [share("Sequential", 4, 16)]),
        ('"Naive"', [share("GPipe", 4, 4)]),
        ('"7 times', [ratio("GPipe", 8, 1), share("GPipe", 8, 1)]),
        ('"8 stages', [ratio("1F1B", 8, 32), share("1F1B", 8, 32)]),
        ('"1F1B has', [f"{share('GPipe', 4, 16)} and {share('1F1B', 4, 16)}"]),
        ('"fraction of total', [ratio("1F1B", 8, 32), share("1F1B", 8, 32)]),
        ('"M ≥ 4P', [share("1F1B", 8, 32), ratio("1F1B", 8, 32)]),
        (
            '"Interleaving divides',
            [share("Interleaved1F1B", 4, 16, 2), f"{bubble_share(S('1F1B'), 4, 16).share / 2:.1%}"],
        ),
        ('"DualPipe', [share("DualPipe", 4, 8)]),
        (
            '"P=4, M=16"',
            [
                share("1F1B", 4, 16),
                share("Interleaved1F1B", 4, 16, 2),
                share("ZBH1", 4, 16),
                share("Sequential", 4, 16),
            ],
        ),
        ('"Efficiency', [f"{1 - bubble_share(S('1F1B'), 4, 16).share:.1%}"]),
        ('"Data parallelism', [f"d=1 {share('1F1B', 8, 128)}", f"d=16 {share('1F1B', 8, 8)}"]),
    ],
)
def test_shares_and_ratios(claim: str, figures: list[str]) -> None:
    for figure in figures:
        assert figure in row(claim)


def test_bubble_time() -> None:
    assert f"{bubble_share(S('1F1B'), 4, 8, 1, 1, 1, 1).bubble:.0f} ms" in row('"Bubble time')


def test_the_zero_of_zero_bubble() -> None:
    found = bubble_share(S("ZBH2"), 4, 8)
    assert f"{found.span_share:.1%} in the own window, {found.share:.1%} of the phase" in row('"Zero bubble')


def test_what_ranks_keep() -> None:
    assert ", ".join(map(str, kept("1F1B", 4, 8))) in row('"1F1B keeps P')
    first = {(name, m): kept(name, 4, m)[0] for name in ("GPipe", "1F1B") for m in (8, 32)}
    said = f"GPipe keeps {first['GPipe', 8]} at M=8 and {first['GPipe', 32]} at M=32; 1F1B keeps {first['1F1B', 8]} and {first['1F1B', 32]}"
    assert said in row('"Pipelining')
    assert f"keeps {kept('1F1B', 8, 8)[0]} at M=8 and {kept('1F1B', 8, 32)[0]} at M=32" in row('"GPT-3')


def test_messages_of_interleaving() -> None:
    sent = [
        simulate(
            order(S(name), 4, 8, chunks), placement(S(name), 4, chunks), OpTimes(forward_ns=1, backward_ns=2)
        ).num_messages
        for name, chunks in (("Interleaved1F1B", 2), ("1F1B", 1))
    ]
    assert f"{sum(sent[0]) / sum(sent[1]):.2f}" in row('"Interleaving sends')


def test_exchanges() -> None:
    sliced, exchanged = tensor_parallel_bytes(LAYER) / 1e6, expert_parallel_bytes(LAYER) / 1e6
    assert f"{exchanged:.1f} MB; by the text {popular_bytes(LAYER, 64) / 1e6:.1f} MB" in row('"EP volume')
    assert f"TP-8 sends {sliced:.1f} MB, EP-8 {exchanged:.1f} MB: {sliced / exchanged:.0f} times" in row('"EP wins')
    assert f"{2 * sliced:.1f} MB" in row('"2 all-reduces')


def test_volumes_of_zero() -> None:
    volumes = [data_parallel_elements(zero, 2, 4) * 2 for zero in (1, 2, 3)]
    assert f"M=4: {', '.join(f'{volume:.0f}Ψ' for volume in volumes)}" in row('"ZeRO-2')


def test_nodes_of_a_token() -> None:
    limited, free = node_limited_destinations(256, 8, 8, 4), distinct_destinations(256, 8, 8)
    assert f"{limited:.2f} with the limit, {free:.2f} without" in row('"A token')


def test_states_of_70b() -> None:
    assert f"{70.55e9 * 18 / 64 / 1e9:.1f} GB" in row('"70B')


def test_orders_of_four_ranks() -> None:
    drawn = ["".join(action.phase.value[0] for action in rank) for rank in order(S("1F1B"), 4, 4)]
    assert ", ".join(drawn) in row("a 1F1B diagram")


def test_what_a_stage_of_gpt_3_keeps() -> None:
    per_microbatch = 34 * 2048 * 1 * 12288 / 8 * 12
    held = {kept("1F1B", 8, m)[0] * per_microbatch for m in (8, 32)}
    assert f"{per_microbatch / 1e9:.2f} GB, {held.pop() / 1e9:.1f} GB at M=8 and 32" in row("\"1F1B's GPT-3")
    assert not held


def test_messages_of_tensors_and_of_zigzag() -> None:
    assert f"{8 * 7 / 8:.1f} times" in row('"PP needs')
    ranks = [(i, 7 - i, 8 + i, 15 - i) for i in range(4)]
    assert {sum(token + 1 for token in rank) for rank in ranks} == {34}
    assert "every rank 34" in row('"Zigzag')
    volumes = [data_parallel_elements(zero, 2, 1) * 2 for zero in (1, 2, 3)]
    assert f"M=1: {', '.join(f'{volume:.0f}Ψ' for volume in volumes)}" in row('"ZeRO 1, 2')


def test_a_diagram_of_two_stages_that_wait_for_each_other() -> None:
    drawn = "0F0,0F1,0B0,0B1,0F2,0B2\n1F0,1B0,1F1,1F2,1B1,1B2\n"
    with pytest.raises(DeadlockError, match=r"rank 0 waits .*; rank 1 waits "):
        simulate(read_orders(drawn), [0, 1], OpTimes(forward_ns=1, backward_ns=2))
    assert "names both ranks" in row("a diagram of 1F1B")


def test_ratio_of_interleaving() -> None:
    found = bubble_share(S("Interleaved1F1B"), 4, 16, 2)
    assert found.ratio == pytest.approx(3 / (2 * 16))
    assert f"ratio {found.ratio:.1%}, share {found.share:.1%}" in row("interleaved schedules without")


def test_the_first_stage_keeps_what_a_whole_model_would() -> None:
    stages = placement(S("Interleaved1F1B"), 4, 2)
    times = OpTimes(forward_ns=1, backward_ns=2)
    looped = simulate(order(S("Interleaved1F1B"), 4, 8, 2), stages, times).peak_in_flight[0]
    whole, more = kept("1F1B", 4, 8)[0] / 4, looped / (2 * 4)
    assert more == pytest.approx(1 + 3 / 8)
    assert f"{whole:.2f} times; v=2: {more:.2f} times" in row('"A pipeline costs')


def test_tensors_within_a_node() -> None:
    assert f"{12 * 8 * 7 / 8:.0f} times" in row('"TP within')
