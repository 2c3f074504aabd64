"""The dense job: a measured peak with all its samples, and the same training on one rank or two."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import losses, read_steps, read_trace, run_job  # noqa: E402

from instrumented_runs.pacing.gemm_peak import measure_peaks  # noqa: E402
from instrumented_runs.settings import DenseSettings, resolve_compute_mode  # noqa: E402
from traceanalyzer.errors import UsageError  # noqa: E402

SMALL = DenseSettings(
    folder="",
    num_steps=2,
    num_unprofiled_steps=1,
    compute_mode="real",
    num_layers=1,
    hidden_size=32,
    num_heads=2,
    vocab_size=32,
    sequence_length=16,
    num_sequences=4,
    gemm_side=64,
)


@pytest.mark.runs
def test_a_dense_run_records_its_core_its_peak_and_wall_clock_inside_the_traced_steps(tmp_path: Path) -> None:
    job = run_job("dense", dataclasses.replace(SMALL, folder=str(tmp_path)))
    assert (job.kind, job.compute_mode, job.pacing) == ("dense", "real", None)
    assert len(job.ranks[0].cores) == 1
    assert job.hardware is not None
    shapes = {peak.shape for peak in job.hardware.measured_peaks}
    assert shapes == {(64, 32, 96), (64, 32, 128), (64, 128, 32), (64, 64, 64)}
    assert job.hardware.measured_peak == max(job.hardware.measured_peaks, key=lambda p: p.flops_per_second)
    trace = read_trace(tmp_path, 0)
    steps = {
        int(e["name"].removeprefix("ProfilerStep#")): (e["ts"] * 1000, (e["ts"] + e["dur"]) * 1000)
        for e in trace["traceEvents"]
        if e["name"].startswith("ProfilerStep#") and e.get("ph") == "X"
    }
    profiled = [record for record in read_steps(tmp_path, 0) if record.profiled]
    assert [record.step for record in profiled] == sorted(steps) == [2, 3]
    for record in profiled:
        begin, end = (t + trace["baseTimeNanoseconds"] for t in steps[record.step])
        # the loop's step lies inside the profiler's, up to what reading two clocks one after the other costs
        assert begin - 2e6 < record.start_ns < record.end_ns < end + 2e6


@pytest.mark.wide
@pytest.mark.runs
def test_two_replicas_train_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    run_job("dense", dataclasses.replace(SMALL, folder=str(tmp_path / "two"), num_ranks=2, num_sequences=2))
    run_job("dense", dataclasses.replace(SMALL, folder=str(tmp_path / "one")))
    one = losses(tmp_path / "one", 1)
    assert losses(tmp_path / "two", 1) == pytest.approx(one, abs=1e-4)
    assert one[-1] < one[0]


def test_a_peak_is_the_best_of_its_samples_and_the_fastest_shape_comes_first() -> None:
    peaks = measure_peaks([(8, 8, 8), (128, 128, 128)], torch.float32, torch.device("cpu"), num_samples=3)
    assert [len(peak.samples) for peak in peaks] == [3, 3]
    assert all(peak.flops_per_second == max(peak.samples) > 0 for peak in peaks)
    assert peaks[0].flops_per_second >= peaks[1].flops_per_second
    assert (peaks[0].dtype, peaks[0].num_threads) == ("float32", torch.get_num_threads())


@pytest.mark.parametrize(
    ("kind", "asked", "ranks", "cores", "gpus", "mode"),
    [
        ("pipeline", "auto", 4, 2, 0, "paced"),
        ("pipeline", "auto", 4, 5, 0, "real"),
        ("pipeline", "auto", 4, 4, 0, "paced"),
        ("pipeline", "auto", 4, 2, 4, "real"),
        ("pipeline", "auto", 4, 2, 2, "paced"),
        ("experts", "paced", 2, 64, 8, "paced"),
        ("dense", "auto", 1, 1, 0, "real"),
    ],
)
def test_computation_is_real_where_every_rank_has_a_core_or_gpu(
    kind: str, asked: str, ranks: int, cores: int, gpus: int, mode: str
) -> None:
    assert resolve_compute_mode(kind, asked, ranks, cores, gpus) == mode


def test_a_dense_job_refuses_to_be_paced() -> None:
    with pytest.raises(UsageError, match="measures computation"):
        resolve_compute_mode("dense", "paced", 1, 4, 0)
