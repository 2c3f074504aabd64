"""Formulas against an independent simulation's figures, textbook cases, and this package's own simulation."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from traceanalyzer.errors import DomainError
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.schedules.closed_forms import bubble_share
from traceanalyzer.theory.schedules.known import schedules
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order, placement
from traceanalyzer.theory.simulator.op_times import OpTimes
from traceanalyzer.theory.simulator.simulation import simulate

S = ScheduleName
TABLE = pl.read_csv(Path(__file__).parents[1] / "data" / "schedules.csv", comment_prefix="#", infer_schema_length=None)


@pytest.mark.parametrize("name", list(schedules()))
def test_every_published_row_inside_its_domain(name: ScheduleName) -> None:
    rows = TABLE.filter((pl.col("schedule") == name) & (pl.col("in_domain") == "yes"))
    assert rows.height > 10 or name == S("GradAccumulation")
    for row in rows.iter_rows(named=True):
        form = bubble_share(
            name, row["ranks"], row["microbatches"], row["chunks"],
            row["forward"], row["input_gradient"], row["weight_gradient"], hop=row["hop"],
        )  # fmt: skip
        if row["kind"] == "makespan":
            assert form.share == pytest.approx(row["bubble_share"], abs=1e-4), row
        else:
            assert form.span_share == pytest.approx(row["span_bubble_share"], abs=1e-4), row


@pytest.mark.parametrize(
    ("name", "num_chunks", "share", "ratio"),
    [
        (S("GPipe"), 1, 0.1579, 0.1875),
        (S("1F1B"), 1, 0.1579, 0.1875),
        (S("Interleaved1F1B"), 2, 0.0857, 0.09375),
        (S("Sequential"), 1, 0.75, 3.0),
        (S("ZBH1"), 1, 0.0588, 0.0625),
    ],
)
def test_textbook_cases_with_4_stages_and_16_microbatches(
    name: ScheduleName, num_chunks: int, share: float, ratio: float
) -> None:
    form = bubble_share(name, 4, 16, num_chunks)
    assert form.share == pytest.approx(share, abs=5e-5)
    assert form.ratio == pytest.approx(ratio, abs=5e-5)


def test_share_and_ratio_are_two_ways_to_say_one_bubble() -> None:
    form = bubble_share(S("GPipe"), 8, 32, 1, 1.0, 1.0, 1.0)
    assert form.bubble == 7 * 3
    assert form.share == pytest.approx(form.ratio / (1 + form.ratio))


def test_zero_bubble_is_zero_in_the_per_rank_window_only() -> None:
    h1, h2, zbv = (
        bubble_share(name, 4, 8, chunks_per_rank(name) or 1) for name in (S("ZBH1"), S("ZBH2"), S("ZBVZeroBubble"))
    )
    assert h2.span_share == zbv.span_share == 0.0
    assert h2.share == h1.share == pytest.approx(3 / 27)  # with a barrier ZB-H2 is no better than ZB-H1
    assert zbv.share == pytest.approx(1.5 / 25.5)


def test_1f1b_pays_latency_with_every_microbatch_and_gpipe_once() -> None:
    def extra(name: ScheduleName, num_microbatches: int) -> float:
        late, still = (bubble_share(name, 8, num_microbatches, hop=hop).bubble for hop in (0.1, 0.0))
        return late - still

    assert extra(S("GPipe"), 32) == pytest.approx(extra(S("GPipe"), 320))
    assert extra(S("1F1B"), 320) - extra(S("1F1B"), 312) == pytest.approx(2 * 7 * 0.1)  # 2(P-1)c per P


@pytest.mark.parametrize(
    ("name", "num_ranks", "num_microbatches", "times", "needs"),
    [
        (S("ZBH1"), 4, 3, (1, 1, 1), "M ≥ P"),
        (S("ZBH2"), 4, 6, (1, 1, 1), "M ≥ 2P−1"),
        (S("ZBVZeroBubble"), 4, 8, (1, 1, 2), "T_W ≤ T_F"),
        (S("DualPipe"), 4, 8, (1, 2, 1), "T_F = T_B"),
        (S("DualPipeV"), 4, 8, (1, 1, 2), "T_F = T_B ≥ T_W"),
        (S("InterleavedZeroBubble"), 4, 6, (1, 1, 1), "P divides M"),
    ],
)
def test_outside_its_domain_a_formula_raises(
    name: ScheduleName, num_ranks: int, num_microbatches: int, times: tuple[float, float, float], needs: str
) -> None:
    with pytest.raises(DomainError, match=needs):
        bubble_share(name, num_ranks, num_microbatches, chunks_per_rank(name) or 2, *times)


def test_where_formulas_are_known_to_fail_they_are_not_given() -> None:
    """Each of these differs from the simulation: the published form with such times or latency is wrong."""
    with pytest.raises(DomainError, match="hop latency"):
        bubble_share(S("ZBH1"), 4, 8, 1, 1.0, 1.0, 0.1, hop=0.3)
    with pytest.raises(DomainError, match="hop latency"):
        bubble_share(S("Interleaved1F1B"), 4, 10, 2, hop=0.4)
    with pytest.raises(DomainError, match="not be negative"):
        bubble_share(S("GPipe"), 4, 8, 1, -1.0)


UNIT = 120_000
tenths = st.integers(1, 20).map(lambda n: n / 10)
equal_times = tenths.map(lambda t: (t, t, t))
split_evenly = st.tuples(tenths, tenths).map(lambda t: (max(t), max(t), min(t)))
ascending = st.tuples(tenths, tenths, tenths).map(lambda t: (sorted(t)[1], max(t), min(t)))
any_times = st.tuples(tenths, tenths, tenths)
TIMES = {S("DualPipe"): split_evenly, S("DualPipeV"): split_evenly, S("ZBVZeroBubble"): ascending}
LEAST_PER_RANK = {
    S("DualPipe"): 2,
    S("DualPipeV"): 2,
    S("ZBVZeroBubble"): 2,
    S("ZBH2"): 2,
    S("ZBH1"): 1,
    S("InterleavedZeroBubble"): 1,
}


@pytest.mark.sweep(4)
@pytest.mark.parametrize("name", list(schedules()))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_the_simulation_agrees_wherever_a_formula_holds(name: ScheduleName, data: st.DataObject) -> None:
    num_ranks = data.draw(st.integers(1, 1 if name == S("GradAccumulation") else 8))
    num_microbatches = data.draw(st.integers(max(1, num_ranks * LEAST_PER_RANK.get(name, 0)), 5 * num_ranks))
    if name == S("InterleavedZeroBubble"):
        num_microbatches -= num_microbatches % num_ranks
    if name == S("DualPipe"):
        num_ranks, num_microbatches = 2 * num_ranks, 4 * num_microbatches
    num_chunks = chunks_per_rank(name) or data.draw(st.integers(2, 4))
    group_size = None
    if name == S("Interleaved1F1B") and num_microbatches >= num_ranks and data.draw(st.booleans()):
        group_size = data.draw(st.integers(num_ranks, num_microbatches))
    forward, input_gradient, weight_gradient = data.draw(st.one_of(equal_times, TIMES.get(name, any_times)))
    hop = data.draw(st.sampled_from([0.0, 0.0, 0.01, 0.02, 0.1, 0.25, 0.5]))
    try:
        form = bubble_share(
            name, num_ranks, num_microbatches, num_chunks, forward, input_gradient, weight_gradient,
            hop=hop, group_size=group_size,
        )  # fmt: skip
    except DomainError:
        assume(False)
        return
    simulated = simulate(
        order(name, num_ranks, num_microbatches, num_chunks, group_size),
        placement(name, num_ranks, num_chunks),
        OpTimes(
            forward_ns=round(forward * UNIT / num_chunks),
            input_gradient_ns=round(input_gradient * UNIT / num_chunks),
            weight_gradient_ns=round(weight_gradient * UNIT / num_chunks),
            hop_ns=round(hop * UNIT),
        ),
    )
    assert simulated.bubble_share == pytest.approx(form.share, abs=1e-4)
    assert simulated.bubble_ratio == pytest.approx(form.ratio, abs=1e-4, rel=1e-4)
    assert simulated.span_bubble_share == pytest.approx(form.span_share, abs=1e-4)
