"""The spread of equal actions accuses a host only where the host is the device, and never a slow rank or long sequences."""

from __future__ import annotations

import random

import polars as pl
import pytest

from traceanalyzer.gaps.pipeline.verdict import fault_limit_ms, largest_fault, noise_ms, schedule_explains
from traceanalyzer.measurements.capture.validity import validity
from traceanalyzer.review import Fault
from traceanalyzer.schema import ACTIONS, ATTRIBUTION, STEP_RECORDS, STEPS, conform

MS = 1_000_000


def spread(durations: dict[tuple[int, int, int], float]) -> float | None:
    """Of one forward per (rank, step, microbatch), in milliseconds; stage is the rank."""
    rows = [
        {
            "rank": rank,
            "stage": rank,
            "step": step,
            "microbatch": mb,
            "phase": "F",
            "start_ns": 0,
            "end_ns": round(ms * MS),
        }
        for (rank, step, mb), ms in durations.items()
    ]
    found = validity(
        pl.DataFrame(schema=STEP_RECORDS), conform(pl.DataFrame(rows), ACTIONS), pl.DataFrame(schema=STEPS)
    )
    assert (found.verdict == "distorted") == ((found.action_spread or 0) > 0.05)
    return found.action_spread


def cells(ranks: int) -> list[tuple[int, int, int]]:
    return [(rank, step, mb) for rank in range(ranks) for step in range(3) for mb in range(4)]


def test_equal_actions_that_vary_on_a_rank_are_the_hosts() -> None:
    chance = random.Random(3)  # noqa: S311 - repeatable, not secret
    assert spread({cell: 10 * chance.uniform(0.8, 1.3) for cell in cells(4)}) > 0.05  # type: ignore[operator]


def test_a_slow_rank_is_not_disturbed() -> None:
    assert spread({cell: 20.0 if cell[0] == 1 else 10.0 for cell in cells(4)}) == pytest.approx(0)


def test_long_microbatches_are_long_on_every_stage() -> None:
    chance = random.Random(5)  # noqa: S311 - repeatable, not secret
    length = {(step, mb): chance.uniform(0.5, 2) for step in range(3) for mb in range(4)}
    assert spread({cell: (8 + cell[0]) * length[cell[1:]] for cell in cells(3)}) == pytest.approx(0, abs=1e-6)


def attribution(rows: list[tuple[int, int, str, int, float]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["pipeline", "step", "cause", "culprit", "ms"], orient="row")
    return conform(frame.with_columns((pl.col("ms") * MS).cast(pl.Int64).alias("duration_ns")), ATTRIBUTION)


def test_the_largest_fault_of_any_pipeline_counts() -> None:
    rows = [(0, 0, "transfer", 1, 50.0), (0, 0, "jitter", 1, 9.0), (2, 0, "host", 7, 4.0), (2, 1, "host", 7, 6.0)]
    fault = largest_fault(attribution(rows), pl.DataFrame(schema=ACTIONS))
    assert fault == Fault(pipeline=2, cause="host", rank=7, ms=5.0)
    assert not schedule_explains(fault, 4.9)
    assert schedule_explains(fault, 5.0)
    assert schedule_explains(largest_fault(attribution(rows[:2]), pl.DataFrame(schema=ACTIONS)), 0.0)


def test_a_fault_must_cost_more_than_noise_or_half_a_percent() -> None:
    assert fault_limit_ms(pl.Series([100.0, 100.0, 104.0])) == pytest.approx(2)  # few steps: 2% assumed
    assert fault_limit_ms(pl.Series([100.0] * 9)) == pytest.approx(0.5)
    noisy = pl.Series([90.0, 95.0, 100.0, 105.0, 110.0, 100.0, 98.0])
    assert fault_limit_ms(noisy) == noise_ms(noisy) > 2
    assert fault_limit_ms(pl.Series([], dtype=pl.Float64)) == 0
