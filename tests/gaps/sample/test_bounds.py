"""Each rank of planted jobs alone: its waits lie within the bounds, and the slowest stage on the side it says."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import Faults, Job, Planted, plant

from traceanalyzer.analysis.measure import Measured, measure
from traceanalyzer.analysis.run import read
from traceanalyzer.gaps.experts.own_routing import own_routing
from traceanalyzer.measurements.communication.wait_bounds import wait_bounds
from traceanalyzer.review import RankFigures
from traceanalyzer.schema import COLLECTIVE_SPLITS, P2P_SPLITS, conform, empty

MOE = {"pp": 1, "dp": 4, "ep": 4, "moe_layers": 2, "num_microbatches": 2, "num_steps": 4}
JOBS: dict[str, tuple[Job, Faults]] = {
    "equal stages": (Job(pp=3), Faults()),
    "a slow first stage": (Job(pp=3), Faults(slow_compute={0: 1.3})),
    "a slow middle stage, buffered sends": (Job(eager_bytes=1 << 30), Faults(slow_compute={2: 1.3})),
    "a slow last stage, coalesced, no labels": (Job(pp=3, coalesced=True, labels=None), Faults(slow_compute={2: 1.2})),
    "GPipe": (Job(pp=3, schedule="GPipe", labels="own"), Faults(slow_compute={1: 1.3})),
    "interleaved": (Job(pp=2, schedule="Interleaved1F1B", num_chunks=2), Faults(slow_compute={1: 1.2})),
    "kernels without arguments, clocks apart": (
        Job(pp=2, ranks_per_host=1, metadata="2022", global_norm=False),
        Faults(clock_offset_ns={1: 5_000_000}, slow_compute={1: 1.2}),
    ),
    "even experts": (Job(**MOE, even_exchange=True), Faults(slow_compute={2: 1.5})),
    "uneven experts, a slow link": (Job(**MOE, moe_hot_share=0.4), Faults(slow_link={1: 3.0})),
}
SLOWEST = {
    "a slow first stage": 0,
    "a slow middle stage, buffered sends": 2,
    "a slow last stage, coalesced, no labels": 2,
}

Alone = Callable[[str, int], tuple[Planted, Measured]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """A job of `JOBS` with one rank of it measured, each once."""

    @cache
    def planted(name: str) -> Planted:
        return plant(*JOBS[name], tmp_path_factory.mktemp("planted"))

    @cache
    def measured(name: str, rank: int) -> tuple[Planted, Measured]:
        return planted(name), measure(read(planted(name).traces, ranks=[rank]))

    return measured


def figures(measured: Measured) -> RankFigures:
    (rank,) = measured.captured.ranks
    return rank


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", JOBS)
def test_bounds_contain_the_truth_of_every_rank_and_step(name: str, alone: Alone) -> None:
    for rank in range(JOBS[name][0].world_size):
        planted, measured = alone(name, rank)
        true: dict[int, int] = {}
        for op in planted.truth.device_ops:
            if op["rank"] == rank and "wait_ns" in op and op["step"] > 0:
                true[op["step"]] = true.get(op["step"], 0) + op["wait_ns"]
        bounds = measured.waits.group_by("step").agg(pl.col("wait_low_ns", "wait_high_ns", "duration_ns").sum())
        assert sorted(bounds["step"]) == sorted(true)
        for step, low, high, duration in bounds.iter_rows():
            assert low <= true[step] <= high <= duration, (rank, step)


def test_bounds_say_something(alone: Alone) -> None:
    """At least half of what a rank next to a slow stage waits is proved from its own trace."""
    planted, measured = alone("a slow middle stage, buffered sends", 3)
    true = sum(
        op["wait_ns"] for op in planted.truth.device_ops if op["rank"] == 3 and "wait_ns" in op and op["step"] > 0
    )
    assert measured.waits["wait_low_ns"].sum() > 0.5 * true


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", SLOWEST)
def test_the_slowest_stage_lies_where_every_rank_says(name: str, alone: Alone) -> None:
    slowest = SLOWEST[name]
    for rank in range(JOBS[name][0].pp):
        expected = "this" if rank == slowest else "upstream" if rank > slowest else "downstream"
        assert figures(alone(name, rank)[1]).side == expected


def test_equal_stages_have_no_slow_side(alone: Alone) -> None:
    assert [figures(alone("equal stages", rank)[1]).side for rank in range(3)] == ["this"] * 3


@pytest.mark.parametrize("name", ["GPipe", "interleaved"])
def test_no_side_without_1f1b_and_the_reason(name: str, alone: Alone) -> None:
    for rank in range(2):
        found = figures(alone(name, rank)[1])
        assert found.side is None
        assert "take turns" in str(found.side_reason)
        assert found.between_chunks_share is not None


def test_pace_own_time_and_cost_are_the_planted_ones(alone: Alone) -> None:
    found = figures(alone("a slow middle stage, buffered sends", 0)[1])
    assert found.own_ms == pytest.approx(6.0)
    assert found.pace_ms == pytest.approx(7.8)
    assert found.others_cost_ms == pytest.approx(8 * 1.8)
    assert (found.stages, found.num_stages, found.num_microbatches, found.schedule) == ([0], 4, 8, "1F1B")
    assert found.equal_stages_share == pytest.approx(3 / 11)  # (p-1)/(m+p-1): the first stage sees the whole phase


def test_own_tokens_estimate_the_load_of_the_group(alone: Alone) -> None:
    for rank in range(4):
        routing = figures(alone("uneven experts, a slow link", rank)[1]).routing
        assert routing is not None
        assert routing.hottest == 0
        assert routing.sent_max_over_mean == pytest.approx(4 * (0.4 + 0.6 / 4), abs=0.05)  # the rest is spread over all
        assert routing.received_over_sent == pytest.approx(2.2 if rank == 0 else 0.6, abs=0.03)


def test_the_binomial_interval_holds_the_share_it_was_drawn_from() -> None:
    chance = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        splits = chance.multinomial(500, [0.4, 0.2, 0.2, 0.2])
        rows = {"rank": 0, "step": 1, "group": "0,1,2,3", "direction": "dispatch", "layer": 0, "num_members": 4,
                "send_splits": splits.tolist(), "receive_splits": [125] * 4}  # fmt: skip
        routing = own_routing(conform(pl.DataFrame([rows]), COLLECTIVE_SPLITS), 0)
        assert routing is not None
        assert routing.received_over_sent == 1.0
        held += routing.low <= 1.6 <= routing.high
    assert 180 <= held <= 199


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([100, 2000])), min_size=1, max_size=30))
def test_constant_transfer_is_always_inside(waits: list[tuple[int, int]]) -> None:
    """Transfer 50 µs + 10 ns per byte: constant per size, so the bounds must hold for any waits."""
    rows = [
        {"rank": 0, "step": 1, "group": "0,1", "direction": "receive", "peer": 1, "bytes": size, "role": "pp", "start_ns": 0,
         "end_ns": wait + 50_000 + 10 * size, "cycle": 0, "index": at}
        for at, (wait, size) in enumerate(waits)
    ]  # fmt: skip
    links = pl.DataFrame(
        {"rank": [0], "host": ["a"], "link_bytes_per_second": [1e9]}, schema_overrides={"rank": pl.Int32}
    )
    (row,) = wait_bounds(empty(COLLECTIVE_SPLITS), conform(pl.DataFrame(rows), P2P_SPLITS), links).iter_rows(named=True)
    assert row["wait_low_ns"] <= sum(wait for wait, _ in waits) <= row["wait_high_ns"]
    assert row["wait_high_ns"] == row["duration_ns"] - sum(size for _, size in waits)  # 1 GB/s is a byte per ns
    if min(wait for wait, _ in waits) == 0 and len({size for _, size in waits}) == 1 and len(waits) >= 8:
        transfer = 50_000 + 10 * waits[0][1]
        assert row["wait_low_ns"] == sum(
            max(0, wait - transfer) for wait, _ in waits
        )  # twice the shortest is allowed for
    if len(waits) < 8:
        assert row["wait_low_ns"] == 0
