"""Numbers of a plan from a result: planted rates come back, errors are of what was held out, and foreign runs are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plan_jobs import job
from report_cases import base_review, field, review_of

from traceanalyzer.cli import main
from traceanalyzer.errors import UsageError
from traceanalyzer.gaps.efficiency.configurations.calibration import calibration
from traceanalyzer.gaps.efficiency.gemm_rates import factors
from traceanalyzer.model_configs import find_preset
from traceanalyzer.review import Review, to_json
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pricing import price
from traceanalyzer.theory.planning.runs.calibration import Measured, calibrated

PEAK = find_cluster("DGX H100").spec.peak("bf16")
SUMS = (512, 1536, 4096, 16384)


def shape(k: int, share: float, dtype: str = "c10::BFloat16", ms: float = 2.0) -> dict[str, Any]:
    """A multiply of 12 x 11 tiles of 256 x 128: one whole wave of the 132 multiprocessors of an H100."""
    return {
        "name": "aten::mm", "kind": "gemm", "dtype": dtype, "shape": f"3072x{k} {k}x1408", "num_calls": 4.0, "ms": ms,
        "flops_per_second": share * PEAK, "bound": "compute", "roof_share": share, "lost_ms": 0.1,
    }  # fmt: skip


def attention(name: str, share: float) -> dict[str, Any]:
    return shape(64, share) | {"name": name, "kind": "attention", "shape": "4x8x256x64 4x8x256x64 4x8x256x64"}


def plain() -> dict[str, Any]:
    """A result that says nothing of its job."""
    return base_review() | {"job": {}}


def result(**changes: Any) -> Review:
    return review_of(plain() | changes)


def plan_job(**changes: Any) -> PlanJob:
    return job(find_preset("llama-3-8b").shape, cluster=find_cluster("DGX H100"), **changes)


def by_name(review: Review) -> dict[str, Measured]:
    return {each.name: each for each in calibration(review, plan_job()).measured}


def test_planted_rates_come_back() -> None:
    shapes = [shape(k, 0.7 * k / (k + 96)) for k in SUMS]
    found = by_name(
        result(roofline=[*shapes, shape(2048, 0.9, dtype="c10::Float8_e4m3fn"), shape(2048, 0.9, dtype="odd")])
    )
    assert found["gemm"].value == pytest.approx(0.7)
    assert found["gemm_fill"].value == 96
    assert found["gemm"].held_out_error == pytest.approx(0, abs=1e-9)
    assert found["gemm"].assumed == find_cluster("DGX H100").gemm


def test_a_shape_that_the_others_do_not_predict_is_the_error() -> None:
    shapes = [shape(k, 0.7 * k / (k + 96)) for k in SUMS]
    assert shapes[1]["shape"] == "3072x1536 1536x1408"
    slow = [*shapes[:1], shape(1536, 0.35 * 1536 / (1536 + 96)), *shapes[2:]]
    error = by_name(result(roofline=slow))["gemm"].held_out_error
    assert error is not None
    assert error > 0.2


def test_one_shape_leaves_the_fill_as_it_is() -> None:
    found = by_name(result(roofline=[shape(1024, 0.6)]))
    assert found["gemm_fill"].value == found["gemm_fill"].assumed
    assert found["gemm"].value == pytest.approx(0.6 * (1024 + 256) / 1024)
    assert found["gemm"].held_out_error is None


def test_attention_gaps_loads_and_bandwidths() -> None:
    group = {"dimension": "tp", "group": "0,1,2,3", "num_ranks": 4, "num_ranks_captured": 4, "transfer_ms": 1.0, "wait_ms": 0.0,
             "exposed_ms": 1.0, "exposed_share": 0.1, "overlapped_share": 0.0}  # fmt: skip
    groups = [
        group | {"duration_ms": 9.0, "bus_bandwidth_gbps": 300.0},
        group | {"duration_ms": 2.0, "bus_bandwidth_gbps": 100.0},
        group | {"duration_ms": 5.0, "bus_bandwidth_gbps": 30.0, "num_ranks": 32, "dimension": "dp"},
        group | {"duration_ms": 50.0, "bus_bandwidth_gbps": None},
    ]
    owners = [
        {"owner": name, "share": 0.1, "ms": ms} for name, ms in (("compute", 80.0), ("host", 6.0), ("launch_gap", 2.0))
    ]
    found = by_name(
        result(
            roofline=[attention("aten::_flash_attention_forward", 0.5), attention("aten::_flash_attention_backward", 0.4)],
            communication={"overlapped_share": None, "overlapped_share_with_barriers": None, "exposed_share": None, "groups": groups},
            accounting={"owners": owners, "phases": [], "ambiguous_ns": 0},
            kernels={"classes": [], "top": []},
        )
    )  # fmt: skip
    cluster = find_cluster("DGX H100")
    assert (found["attention"].value, found["attention_backward"].value) == pytest.approx((0.5, 0.4))
    assert found["host_share"].value == pytest.approx(0.1)
    assert found["near_share"].value == pytest.approx(300e9 / cluster.near)
    assert found["far_share"].value == pytest.approx(30e9 / cluster.far)
    job_with = calibrated(plan_job(), tuple(found.values()))
    assert (job_with.cluster.attention, job_with.host_share) == pytest.approx((0.5, 0.1))
    parts = price(job_with, Configuration(dp=8, zero=1, num_microbatches=2))[2]
    assert parts["host"] == pytest.approx(0.1 * parts["compute"])


def known_run(steps_ms: list[float], **changes: Any) -> Review:
    fields = plain()
    facts = {
        "layout": field({"pp": 1, "dp": 2, "tp": 4}),
        "num_microbatches": field(3),
        "tokens_per_step": field(2 * 3 * 1 * 2048),
        "sequence_length": field(2048),
        "recompute": field("full"),
    }
    fields["job"] = fields["job"] | facts | changes
    fields["step"]["duration_ms"] |= {"values": steps_ms, "median": steps_ms[0], "num_steps": len(steps_ms)}
    fields["roofline"] = [shape(k, 0.7 * k / (k + 96)) for k in SUMS]
    return review_of(fields)


def with_model(review: Review) -> Review:
    model = msgspec.to_builtins(find_preset("llama-3-8b").shape)
    fields = msgspec.to_builtins(review)
    fields["job"]["model"] = field(model)
    return review_of(fields)


def test_the_run_itself_is_predicted_and_later_steps_are_held_out() -> None:
    steps = [1000.0, 1010.0, 990.0, 1100.0, 1100.0, 1050.0]
    found = calibration(with_model(known_run(steps)), plan_job())
    factor = found.measured[-1]
    assert factor.name == "step_factor"
    assert factor.held_out_error == pytest.approx((0.1 + 0.1 + 0.05) / 3)
    assert found.configuration == "TP4 DP2 ZeRO-1 3 x 1 recompute full"
    assert "ZeRO-1 is taken for the run" in found.missing
    own = calibrated(plan_job(num_devices=8, sequence_length=2048, batch_size=6), found.measured)
    chosen = Configuration(tp=4, dp=2, zero=1, num_microbatches=3, policy=own.framework.policies[2])
    step, _, parts = price(own, chosen)
    assert step == pytest.approx(1000e6)
    assert sum(parts.values()) == pytest.approx(step)


def test_a_run_that_is_not_known_has_no_factor() -> None:
    found = calibration(known_run([1000.0] * 4), plan_job())
    assert found.configuration is None
    assert any("the model" in each for each in found.missing)
    assert all(each.name != "step_factor" for each in found.measured)


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"compute_mode": field("paced")}, "paced"),
        ({"hardware": field({"device": "NVIDIA A100-SXM4-80GB"})}, "the plan of"),
        ({"hardware": field({"device": "cpu"})}, "the result is of cpu"),
    ],
)
def test_foreign_runs_are_refused(facts: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        calibration(known_run([1000.0], **facts), plan_job())
    with pytest.raises(UsageError, match="nothing to calibrate"):
        calibration(result(), plan_job())


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("8x4 4x2", (8, 2, 4, 1)),
        ("12x4 3x4x2", (4, 2, 4, 3)),
        ("3x8x4 3x4x2", (8, 2, 4, 3)),
        ("8x4", None),
    ],
)
def test_shapes_as_the_roofline_writes_them(text: str, sizes: tuple[int, ...] | None) -> None:
    assert factors(text) == sizes


def test_plan_job_calibrates(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "review.json").write_bytes(to_json(with_model(known_run([1000.0, 1010.0, 990.0, 1100.0]))))
    common = [
        "plan",
        "job",
        "--model",
        "llama-3-8b",
        "--gpus",
        "16",
        "--hardware",
        "dgx h100",
        "--seq",
        "4096",
        "--batch",
        "64",
    ]
    assert main([*common, "--calibrate", str(tmp_path)]) == 0
    said = capfd.readouterr().out
    assert "held-out error" in said
    assert "step_factor" in said
    assert main([*common, "--calibrate", str(tmp_path / "review.json"), "--json", "-"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert {each["name"] for each in found["calibration"]["measured"]} == {"gemm", "gemm_fill", "step_factor"}
    assert main([*common, "--calibrate", str(tmp_path / "none.json")]) == 3
