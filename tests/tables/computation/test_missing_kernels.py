"""Launches whose kernels are not in the trace: lost ones, and those that have none by nature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inputs.tiny_device import TinyDevice

from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.traces.kineto.launches import LAUNCH

STEP, NUM = 5000, 7


def job(folder: Path, lost: set[tuple[int, int]], *, num_steps: int = 4, tail: int = 0) -> Analysis:
    """Steps of 5 ms with 7 kernels of 400 us every 700; of the (step, kernel) in `lost` only the launch is there."""
    trace = TinyDevice()
    for step in range(num_steps):
        at = STEP * step
        trace.step(step, at, at + STEP - 10)
        for k in range(NUM):
            launched, start = at + 10 + 20 * k, at + 60 + 700 * k
            if (step, k) in lost:
                trace.launch(launched)
            else:
                trace.kernel(start, start + 400, launched=launched)
    for k in range(tail):
        trace.launch(STEP * num_steps - 9 + k)
    trace.write(folder)
    return analyze(read(folder))


def defects(analysis: Analysis) -> dict[str, int]:
    return {row.code: row.events_affected for row in analysis.review.quality.defects}


def test_lost_kernels_are_counted_and_their_step_gives_no_step_time(tmp_path: Path) -> None:
    analysis = job(tmp_path, {(0, k) for k in range(5)})
    assert defects(analysis)["device.kernels_missing"] == 5
    (line,) = [line for line in analysis.review.warnings if "profiler lost them" in line]
    assert "of 28 launches, those between 0.010 and 0.090 ms" in line
    assert analysis.tables["steps"]["num_missing_kernels"].to_list() == [5, 0, 0, 0]
    assert analysis.tables["missing_kernels"].height == 5
    assert analysis.review.step.duration_ms.values == pytest.approx([5.0] * 3)
    assert analysis.review.quality.verdict == "partial"


def test_a_hole_with_recorded_launches_is_nobodys(tmp_path: Path) -> None:
    """The kernels 2 to 4 of step 1 are lost; the next one is launched before they could have run."""
    hole = {(1, k) for k in (2, 3, 4)}
    with_hole, whole = job(tmp_path / "a", hole).tables["accounting"], job(tmp_path / "b", set()).tables["accounting"]
    lost = with_hole.filter(pl.col("cause") == "kernels missing")
    # from the end of kernel 1 (760+400) to the start of kernel 5 (3560)
    assert lost.select(pl.col("owner").cast(pl.String), "duration_ns").rows() == [("unknown", 2_400_000)]

    def host(table: pl.DataFrame) -> int:
        return int(table.filter(pl.col("owner") == "host")["duration_ns"].sum())

    assert host(with_hole) == host(whole)


def test_launches_after_the_last_recorded_kernel_had_no_time_to_run(tmp_path: Path) -> None:
    analysis = job(tmp_path, set(), tail=4)
    assert "device.kernels_missing" not in defects(analysis)
    assert analysis.review.step.duration_ms.num_steps == 4


def test_launches_of_a_capture_into_a_graph_run_nothing(tmp_path: Path) -> None:
    trace = TinyDevice().step(1, 0, 2000).kernel(20, 60, launched=5)
    trace.event("cudaStreamBeginCapture", 100, 101, "cuda_runtime", correlation=900)
    trace.launch(110).launch(120, "cudaLaunchKernelExC")
    trace.event("cudaStreamEndCapture", 130, 131, "cuda_runtime", correlation=901)
    trace.kernel(300, 360, launched=200)
    trace.write(tmp_path)
    assert "device.kernels_missing" not in defects(analyze(read(tmp_path)))
    trace.launch(400).kernel(600, 660, launched=500)
    trace.write(tmp_path)
    assert defects(analyze(read(tmp_path)))["device.kernels_missing"] == 1


def test_launches_without_any_kernel_are_no_cpu_job(tmp_path: Path) -> None:
    trace = TinyDevice()
    for step in range(3):
        trace.step(step, 100 * step, 100 * step + 95).event("aten::mm", 100 * step + 5, 100 * step + 60, "cpu_op")
        trace.launch(100 * step + 10).launch(100 * step + 20, "hipModuleLaunchKernel")
    trace.write(tmp_path)
    review = analyze(read(tmp_path)).review
    assert review.accounting.owners == []
    assert review.step.duration_ms.median is None
    assert "Nothing is measured" in review.headline.sentences[0]
    assert any("ProfilerActivity.CUDA" in line for line in review.warnings)
    assert {item.reason for item in review.quality.withheld} == {
        "kernels were launched and none was recorded, so what the device did is unknown"
    }


@pytest.mark.parametrize("backend", ["nccl", "gloo", None])
def test_a_profile_of_the_host_beside_a_named_device_says_so(tmp_path: Path, backend: str | None) -> None:
    """Kineto names the device of the machine whatever is profiled; jobs on gloo compute on the host."""
    path = TinyDevice().step(1, 0, 100).event("aten::mm", 5, 60, "cpu_op").write(tmp_path)
    trace = json.loads(path.read_text())
    trace["distributedInfo"] = {**trace.get("distributedInfo", {}), **({"backend": backend} if backend else {})}
    path.write_text(json.dumps(trace))
    review = analyze(read(tmp_path)).review
    said = [line for line in review.warnings if "all figures are of its host alone" in line]
    assert len(said) == (backend != "gloo")
    assert ("device.only_named" in {each.code for each in review.quality.defects}) is (backend != "gloo")


def test_a_job_on_cpu_stays_one(tmp_path: Path) -> None:
    TinyDevice(with_devices=False).step(1, 0, 100).event("aten::mm", 5, 60, "cpu_op").write(tmp_path)
    review = analyze(read(tmp_path)).review
    assert {row.owner for row in review.accounting.owners} == {"compute", "host"}
    assert not any("missing" in line for line in review.warnings)


@pytest.mark.parametrize(
    ("call", "launches"),
    [
        ("cudaLaunchKernel", True), ("cudaLaunchKernelExC", True), ("cuLaunchKernelEx", True), ("cuLaunchKernel", True),
        ("cudaLaunchCooperativeKernel", True), ("hipLaunchKernel", True), ("hipExtModuleLaunchKernel", True),
        ("hipExtLaunchKernel", True), ("cudaGraphLaunch", True), ("hipGraphLaunch", True), ("cudaMemcpyAsync", False),
        ("cudaLaunchHostFunc", False), ("cudaFuncGetAttributes", False), ("cudaStreamBeginCapture", False),
    ],
)  # fmt: skip
def test_calls_that_launch_kernels(*, call: str, launches: bool) -> None:
    assert pl.select(pl.lit(call).str.contains(LAUNCH)).item() == launches


@pytest.mark.parametrize(
    "row",
    [
        {"ph": "X", "cat": "mtia_ccp_events", "name": "fc-dtype_Float", "pid": 9, "tid": 4, "ts": 50, "dur": 900},
        {"ph": "M", "name": "process_name", "pid": 800, "tid": 0, "args": {"name": "Ascend Hardware"}},
    ],
    ids=["MTIA", "Ascend"],
)
def test_a_device_whose_events_are_not_read_is_named_and_its_cpu_is_not_measured(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    trace = TinyDevice()
    trace.with_devices = False
    for step in range(3):
        trace.step(step, 5000 * step, 5000 * step + 4990)
        trace.event("aten::mm", 5000 * step + 10, 5000 * step + 4000, "cpu_op")
    trace.write(tmp_path / "cpu")
    assert analyze(read(tmp_path / "cpu")).review.step.duration_ms.median is not None
    trace.events.append(row)
    trace.write(tmp_path / "device")
    review = analyze(read(tmp_path / "device")).review
    named = "MTIA" if row["ph"] == "X" else "Ascend"
    assert f"device events in the format of {named} are not read" in review.headline.sentences[0]
    assert review.step.duration_ms.median is None
    assert review.headline.tiles == []
