"""Lone ranks of jobs whose transfers and computation vary, and of CPU jobs: bounds hold, and no slow side is made up."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from inputs.tiny_trace import run_of
from launched.gpipe_run import with_job
from planted import Faults, Job, plant

from traceanalyzer.analysis.measure import measure
from traceanalyzer.analysis.run import read
from traceanalyzer.measurements.pipeline.one_rank import CPU_MESSAGES, one_rank
from traceanalyzer.schema import ACTIONS, conform

EXPERTS = Job(pp=1, dp=4, ep=4, moe_layers=2, num_microbatches=4, num_steps=2, even_exchange=True)
VARYING: dict[str, tuple[Job, Faults]] = {
    "equal stages, computation +0–30%": (Job(pp=3, num_steps=2), Faults(varying_compute=0.3)),
    "equal stages, transfers +0–100%": (Job(pp=3, num_steps=2), Faults(varying_transfer=1.0)),
    "a slow stage, both vary": (
        Job(pp=3, num_steps=2),
        Faults(slow_compute={1: 1.4}, varying_compute=0.1, varying_transfer=1.0),
    ),
    "experts, both vary": (EXPERTS, Faults(slow_compute={2: 1.3}, varying_compute=0.1, varying_transfer=1.0)),
}
SIDES = {
    "equal stages, computation +0–30%": ["this", "this", "this"],
    "equal stages, transfers +0–100%": ["this", "this", "this"],
    "a slow stage, both vary": ["downstream", "this", "upstream"],
    "experts, both vary": [None] * 4,  # no pipeline
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", VARYING)
def test_bounds_and_sides_hold_where_times_vary(name: str, tmp_path: Path) -> None:
    job, faults = VARYING[name]
    planted = plant(job, faults, tmp_path)
    sides, lows = [], []
    for rank in range(job.world_size):
        measured = measure(read(planted.traces, ranks=[rank]))
        sides.append(measured.captured.ranks[0].side)
        true: dict[int, int] = {}
        for op in planted.truth.device_ops:
            if op["rank"] == rank and "wait_ns" in op and op["step"] > 0:
                true[op["step"]] = true.get(op["step"], 0) + op["wait_ns"]
        bounds = measured.waits.group_by("step").agg(pl.col("wait_low_ns", "wait_high_ns").sum())
        for step, low, high in bounds.iter_rows():
            assert low <= true[step] <= high, (rank, step)
            lows.append(low)
    assert sides == SIDES[name]
    assert max(lows) > 0


def actions(own_us: list[int], wait_us: int) -> pl.DataFrame:
    """Last stage of 1F1B: forwards of these lengths, backwards as long, and a wait before every forward."""
    rows, now = [], 0
    for microbatch, length in enumerate(own_us):
        now += wait_us
        for phase in "FB":
            rows.append(
                {"rank": 0, "step": 1, "phase": phase, "stage": 1, "microbatch": microbatch,
                 "start_ns": now * 1000, "end_ns": (now + length) * 1000}
            )  # fmt: skip
            now += length
    return conform(pl.DataFrame(rows), ACTIONS)


def test_a_pace_beyond_messages_and_spread_has_a_side() -> None:
    found = one_rank(actions([100] * 8, 50), 0, message_ns=10_000)
    assert found is not None
    assert (found.own_ns, found.pace_ns, found.side) == (200_000, 250_000, "upstream")


def test_a_pace_that_messages_explain_has_none() -> None:
    found = one_rank(actions([100] * 8, 50), 0, message_ns=25_000)
    assert found is not None
    assert found.side == "this"


def test_a_pace_that_the_rank_s_own_spread_explains_has_none() -> None:
    steady, varying = [100] * 8, [80, 80, 100, 100, 100, 120, 150, 150]  # the ninth decile lies 50 above the median
    sides = [found.side for each in (steady, varying) if (found := one_rank(actions(each, 60), 0)) is not None]
    assert sides == ["upstream", "this"]


def test_on_cpu_ranks_no_side_is_said_and_why() -> None:
    found = one_rank(actions([100] * 8, 50), 0, message_ns=None)
    assert found is not None
    assert (found.side, found.side_reason) == (None, CPU_MESSAGES)
    assert found.pace_ns == 250_000
    alone = one_rank(actions([100] * 8, 0), 0, message_ns=None)
    assert alone is not None
    assert alone.side == "this"  # nothing to explain: no stage is slower


def test_a_cpu_trace_says_no_side(tmp_path: Path) -> None:
    """Rank 0 of equal stages waits before its backwards only: its place, no slow stage, is the reason."""
    first = "0F0@0-1000 0F1@1000-2000 0B0@5000-6000 0F2@6000-7000 0B1@8000-9000 0F3@9000-10000 0B2@11000-12000 0B3@14000-15000"
    last = "1F0@1500-2500 1B0@2500-3500 1F1@4500-5500 1B1@5500-6500 1F2@7500-8500 1B2@8500-9500 1F3@10500-11500 1B3@11500-12500"
    run = with_job(run_of(tmp_path, [first, last]), num_microbatches=4)
    for rank in range(2):
        own = measure(read(run, ranks=[rank])).captured.ranks[0]
        assert own.pace_ms is not None
        assert (own.side, own.side_reason) == (None, CPU_MESSAGES)
