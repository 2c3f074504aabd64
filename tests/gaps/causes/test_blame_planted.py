"""Planted faults are named, weighed and priced; a clean run blames nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from inputs.planted_ops import MS, Planted, gpipe, one_f_one_b, run_steps

from traceanalyzer.gaps.causes.attribution import Attributed, attribute
from traceanalyzer.schema import ACTIONS, RECEIVES, conform


def attributed(planted: Planted, *, stages: int = 4, replicas: int = 1, microbatches: int = 8, steps: int = 3, **more: Any) -> tuple[Attributed, list[int]]:  # fmt: skip
    actions, receives, lengths = run_steps(stages, replicas, microbatches, planted, num_steps=steps, **more)
    frame = conform(pl.DataFrame(actions, infer_schema_length=None), ACTIONS)
    frame = frame.with_columns((pl.col("rank") % replicas).cast(pl.Int32).alias("pipeline"))
    received = conform(pl.DataFrame(receives), RECEIVES)
    return attribute(frame, received), lengths


def cost(found: Attributed, cause: str, culprit: int | None = None) -> float:
    """Milliseconds per step."""
    rows = found.culprits.filter(pl.col("cause") == cause)
    if culprit is not None:
        rows = rows.filter(pl.col("culprit") == culprit)
    return float(rows["ms"].sum())


def first(found: Attributed) -> tuple[str, int]:
    row = found.culprits.sort("ms", descending=True).row(0, named=True)
    return str(row["cause"]), int(row["culprit"])


def saving(found: Attributed, cause: str, **who: int) -> float:
    matches = [
        value
        for remedy, value in found.worth.savings
        if remedy.cause == cause and all(getattr(remedy, name) == at for name, at in who.items())
    ]
    return max(matches) / 1e6


def mean_ms(lengths: list[int]) -> float:
    return sum(lengths) / len(lengths) / 1e6


ORDERS = [one_f_one_b, gpipe]


@pytest.mark.parametrize("order", ORDERS)
def test_a_clean_run_blames_nobody(order: Callable[..., Any]) -> None:
    found, lengths = attributed(Planted(), order=order)
    assert found.culprits.is_empty()
    assert found.blame.is_empty()
    assert found.worth.savings == ()
    assert found.ideal_ms == mean_ms(lengths) == found.measured_ms
    assert found.schedule_ms == pytest.approx(3 * 30)  # (P-1)(F+B)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_slow_stage_is_named_and_priced(order: Callable[..., Any], stage: int) -> None:
    _, clean = attributed(Planted(), order=order)
    found, slow = attributed(Planted().slow_stage(stage, 1.3), order=order)
    truth = mean_ms(slow) - mean_ms(clean)
    assert first(found) == ("stage", stage)
    assert cost(found, "stage", stage) == pytest.approx(truth, rel=0.1)
    assert saving(found, "stage", stage=stage) == pytest.approx(truth, rel=0.1)
    assert 0 < saving(found, "stage", stage=None) < truth  # type: ignore[arg-type]
    waiting = found.blame.filter(pl.col("waiter") != stage)
    assert set(waiting.filter(pl.col("cause") == "stage")["culprit"]) == {stage}


@pytest.mark.parametrize("rank", range(6))
def test_a_straggler_is_distinguished_from_its_stage(rank: int) -> None:
    _, clean = attributed(Planted(), stages=2, replicas=3)
    found, slow = attributed(Planted().straggler(rank, 1.3), stages=2, replicas=3)
    truth = mean_ms(slow) - mean_ms(clean)
    assert first(found) == ("straggler", rank)
    assert cost(found, "straggler", rank) == pytest.approx(truth, rel=0.1)
    assert saving(found, "straggler", rank=rank) == pytest.approx(truth, rel=0.1)
    assert cost(found, "stage") == 0


def test_two_replicas_cannot_distinguish_a_straggler_from_its_stage() -> None:
    found, _ = attributed(Planted().straggler(3, 1.3), stages=4, replicas=2)
    assert first(found) == ("stage", 3)
    assert cost(found, "straggler") == 0


def test_jitter_is_nobody_s_stage() -> None:
    planted = Planted(seed=7)
    planted.jitter = 0.3
    found, noisy = attributed(planted, steps=8, microbatches=16)
    repaired = mean_ms(noisy) - saving(found, "jitter")
    assert saving(found, "jitter") > 0
    assert cost(found, "jitter") > 0.7 * (found.measured_ms - found.ideal_ms)
    assert repaired == pytest.approx(found.ideal_ms, rel=0.02)


def test_a_delayed_link_is_the_sources_transfer() -> None:
    _, clean = attributed(Planted())
    found, slow = attributed(Planted().delayed_link(1, 2, 4 * MS))
    truth = mean_ms(slow) - mean_ms(clean)
    assert truth > 0
    assert first(found) == ("transfer", 1)
    assert cost(found, "transfer", 1) == pytest.approx(truth, rel=0.1)
    assert saving(found, "transfer", rank=1) == pytest.approx(truth, rel=0.1)


def test_a_host_stall_is_the_stalled_hosts() -> None:
    _, clean = attributed(Planted())
    found, slow = attributed(Planted().host_stall(2, 6, 15 * MS))
    truth = mean_ms(slow) - mean_ms(clean)
    assert truth > 0
    assert first(found) == ("host", 2)
    assert cost(found, "host", 2) == pytest.approx(truth, rel=0.1)
    assert saving(found, "host", rank=2) == pytest.approx(truth, rel=0.1)
    waiters = found.blame.filter((pl.col("cause") == "host") & (pl.col("waiter") != 2))
    assert set(waiters["culprit"]) == {2}


def test_of_two_faults_the_larger_is_named_first() -> None:
    planted = Planted().slow_stage(1, 1.3).host_stall(3, 6, 15 * MS)
    found, _ = attributed(planted)
    by_cost = found.culprits.sort("ms", descending=True)
    assert by_cost.row(0, named=True)["cause"] == "stage"
    assert by_cost.row(0, named=True)["culprit"] == 1
    assert by_cost["ms"].sum() == pytest.approx(found.measured_ms - found.ideal_ms, abs=1e-9)


def test_a_stall_that_slack_hides_costs_nothing() -> None:
    # The last stage of a pipeline with a slow first one has time to spare.
    slow = Planted().slow_stage(0, 1.5)
    _, without = attributed(slow)
    slow.host_stall(3, 8, 2 * MS)
    found, with_stall = attributed(slow)
    assert mean_ms(with_stall) == mean_ms(without)
    assert cost(found, "host") == 0
