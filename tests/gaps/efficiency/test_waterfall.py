"""The way from peak to measured MFU: exact for any input, and by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.gaps.efficiency.losses import ClassFlops, StepTime, waterfall_steps
from traceanalyzer.measurements.efficiency.shape_flops import SHAPE_FLOPS
from traceanalyzer.measurements.ledger.compute_classes import compute_classes
from traceanalyzer.schema import ACCOUNTING, KERNELS, STEPS, conform

times = st.floats(0, 1e4)
OWNERS = [
    ("transfer", "pp"),
    ("wait", "pp"),
    ("wait", "receive"),
    ("wait", "ep"),
    ("wait", "world"),
    ("wait", "collective"),
    ("communication", "dp"),
    ("host", "x"),
]


@given(
    step_ms=st.floats(1, 1e5),
    owners=st.dictionaries(st.sampled_from(OWNERS), times),
    classes=st.dictionaries(st.sampled_from(["gemm", "attention", "other"]), times),
    theory_ms=st.none() | times,
    flops=st.tuples(*[st.floats(0, 1e12)] * 4),
    num_devices=st.integers(1, 64),
    peak=st.floats(1e9, 1e15),
    reached=st.none() | st.floats(0.1, 1),
    excess=st.dictionaries(st.sampled_from(["stage", "jitter", "slack", "experts", "transfer"]), st.floats(-1e9, 1e9)),
    slow_ms=st.floats(-1e3, 1e4),
    slowness_ms=st.dictionaries(st.sampled_from(["stage", "straggler", "overlap_dp", "host"]), st.floats(-1e3, 1e4)),
    sync_ms=st.dictionaries(st.sampled_from(["dp", "world"]), times),
)
def test_losses_and_mfu_sum_to_the_step(
    *,
    step_ms: float,
    owners: dict[tuple[str, str], float],
    classes: dict[str, float],
    theory_ms: float | None,
    flops: tuple[float, ...],
    num_devices: int,
    peak: float,
    reached: float | None,
    excess: dict[str, float],
    slow_ms: float,
    slowness_ms: dict[str, float],
    sync_ms: dict[str, float],
) -> None:
    time = StepTime(
        step_ms=step_ms,
        owners=owners,
        classes=classes,
        theory_ms=theory_ms,
        sync_ms=sync_ms,
        slow_ms=slow_ms,
        slowness_ms=slowness_ms,
        excess=excess,
        expert_excess=excess,
    )
    counted = ClassFlops(gemm=flops[0], attention=flops[1], recomputed_gemm=flops[2], recomputed_attention=flops[3])
    steps = waterfall_steps(time, counted, num_devices, peak, reached and reached * peak)
    scale = step_ms + sum(owners.values()) + sum(classes.values()) + sum(abs(step.ms) for step in steps)
    assert steps[0].name == "peak"
    assert steps[-1].name == "measured MFU"
    assert steps[-1].ms == pytest.approx((flops[0] + flops[1]) / peak / num_devices * 1e3)
    assert sum(step.ms for step in steps[1:]) == pytest.approx(step_ms, abs=1e-9 * scale)
    assert sum(step.mfu_points for step in steps[1:]) == pytest.approx(100, abs=1e-7 * scale / step_ms)
    assert len({step.name for step in steps}) == len(steps)


def test_by_hand() -> None:
    time = StepTime(
        step_ms=1000.0,
        owners={("wait", "pp"): 150.0, ("wait", "ep"): 20.0, ("transfer", "pp"): 10.0, ("transfer", "dp"): 30.0},
        classes={"gemm": 500.0, "attention": 100.0, "other": 90.0},
        theory_ms=120.0,
    )
    # At 1e12 FLOP/s on two devices 4e11 FLOPs take 200 ms and 6e10 take 30 ms, of a GEMM at 80% a quarter longer.
    counted = ClassFlops(gemm=4e11, attention=6e10, recomputed_gemm=1e11)
    steps = {step.name: step.ms for step in waterfall_steps(time, counted, 2, 1e12, 8e11)}
    assert steps == pytest.approx(
        {
            "peak": 1000.0,
            "best GEMM below the peak": 57.5,
            "slow matrix multiplications": 500 - 100 - 250,
            "slow attention": 100 - 37.5,
            "other computation": 90.0,
            "recompute": 100.0,
            "exposed transfer, pipeline": 10.0,
            "exposed transfer, data": 30.0,
            "bubble of the schedule": 120.0,
            "waiting in the pipeline beyond it": 30.0,
            "waiting, experts": 20.0,
            "stagger of the ranks": 100.0,
            "measured MFU": 230.0,
        }
    )


def test_waits_go_to_what_caused_them() -> None:
    time = StepTime(
        step_ms=500.0,
        owners={("wait", "pp"): 150.0, ("wait", "ep"): 80.0},
        classes={"gemm": 230.0},
        theory_ms=120.0,
        excess={"jitter": 4e6, "host": 2e6, "slack": -3e6},
        expert_excess={"experts": 3e6, "other_compute": 1e6},
    )
    steps = {
        step.name: step.ms for step in waterfall_steps(time, ClassFlops(gemm=2.3e11, attention=0.0), 1, 1e12, None)
    }
    waits = {name: ms for name, ms in steps.items() if "wait" in name or "bubble" in name or "imbalance" in name}
    assert waits == pytest.approx(
        {
            "bubble of the schedule": 120.0,
            "waiting for jitter": 20.0,
            "waiting for other ranks' hosts": 10.0,
            "expert imbalance": 60.0,
            "waiting, experts": 20.0,
        }
    )


def test_a_slow_stage_is_what_it_computes_longer_and_what_others_wait_for_it_wherever() -> None:
    """30 ms of waiting in the closing all-reduce are the drain: with them 50 ms lie beyond the schedule's 100."""
    time = StepTime(
        step_ms=500.0,
        owners={("wait", "pp"): 120.0, ("wait", "world"): 35.0, ("transfer", "world"): 5.0},
        classes={"gemm": 340.0},
        theory_ms=100.0,
        sync_ms={"world": 30.0},
        slow_ms=20.0,
        slowness_ms={"stage": 60.0, "transfer": 9.0},
        excess={"stage": 5e6, "transfer": 1e6},
    )
    steps = {step.name: step.ms for step in waterfall_steps(time, ClassFlops(gemm=3e11, attention=0.0), 1, 1e12, None)}
    assert steps == pytest.approx(
        {
            "peak": 500.0,
            "slow matrix multiplications": 20.0,
            "slow stages": 60.0,
            "exposed transfer, all ranks": 5.0,
            "bubble of the schedule": 100.0,
            "waiting for messages to others": 10.0,
            "waiting, all ranks": 5.0,
            "measured MFU": 300.0,
        }
    )


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ({"gemm": 300.0, "other": 50.0}, {"slow matrix multiplications": 70.0, "other computation": 50.0}),
        ({"gemm": 30.0, "attention": 20.0, "other": 300.0}, {"slow computation": 120.0}),
        ({"other": 300.0}, {"slow computation": 70.0}),
    ],
)
def test_classes_that_cannot_hold_their_flops_are_not_separated(
    classes: dict[str, float], names: dict[str, float]
) -> None:
    time = StepTime(step_ms=400.0, owners={}, classes=classes, theory_ms=None)
    steps = waterfall_steps(time, ClassFlops(gemm=2e11, attention=3e10), 1, 1e12, None)
    left = 400.0 - sum(classes.values())
    assert {step.name: step.ms for step in steps[1:-1]} == pytest.approx(names | {"stagger of the ranks": left})


def frame(schema: pl.Schema, *rows: dict[str, Any]) -> pl.DataFrame:
    return conform(pl.DataFrame(list(rows)), schema)


def test_classes_of_kernels_sum_to_computation() -> None:
    windows = frame(STEPS, {"rank": 0, "step": 1, "start_ns": 0, "end_ns": 100})
    rows = [("gemm", 10, 40), ("fused", 35, 50), ("attention", 45, 60), ("other", 55, 80), ("communication", 0, 100)]
    device = frame(KERNELS, *[{"rank": 0, "kind": k, "start_ns": a, "end_ns": b} for k, a, b in rows])
    account = frame(
        ACCOUNTING,
        {"rank": 0, "step": 1, "owner": "compute", "cause": "kernel", "duration_ns": 60},
        {"rank": 0, "step": 1, "owner": "compute", "cause": "fused", "duration_ns": 10},
        {"rank": 0, "step": 1, "owner": "transfer", "cause": "pp", "duration_ns": 30},
    )
    found = compute_classes(windows, device, pl.DataFrame(schema=SHAPE_FLOPS), account)
    assert dict(found.select("class", "duration_ns").iter_rows()) == {"gemm": 40, "attention": 10, "other": 20}


def test_classes_of_a_cpu_come_from_operators_and_never_exceed_computation() -> None:
    windows = frame(STEPS, {"rank": 0, "step": 1, "start_ns": 0, "end_ns": 100})
    account = frame(ACCOUNTING, {"rank": 0, "step": 1, "owner": "compute", "cause": "operator", "duration_ns": 50})
    rows = [("gemm", -10, 30), ("attention", 30, 90)]
    operators = frame(SHAPE_FLOPS, *[{"rank": 0, "kind": k, "start_ns": a, "end_ns": b} for k, a, b in rows])
    found = compute_classes(windows, pl.DataFrame(schema=KERNELS), operators, account)
    assert dict(found.select("class", "duration_ns").iter_rows()) == {"gemm": 30, "attention": 20, "other": 0}
