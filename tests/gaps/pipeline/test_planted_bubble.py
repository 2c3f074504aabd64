"""The bubble of planted GPU traces, labelled or not, against the truth of the simulation that wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inputs.planted_truth import true_dependency_share
from planted import Faults, Job, Truth, plant

from traceanalyzer.analysis.assemble import Analysis, analyze, read

CLOCKS = Faults(clock_offset_ns={1: 3_000_000, 2: -3_000_000, 3: 1_000_000})
JOBS = {
    "1F1B labelled": Job(schedule="1F1B"),
    "1F1B unlabelled, coalesced": Job(schedule="1F1B", labels=None, coalesced=True),
    "1F1B unlabelled": Job(schedule="1F1B", labels=None, num_microbatches=6),
    "GPipe labelled": Job(schedule="GPipe", labels="own"),
    "GPipe unlabelled": Job(schedule="GPipe", labels=None),
    "interleaved labelled": Job(schedule="Interleaved1F1B", num_chunks=2),
    "interleaved unlabelled": Job(schedule="Interleaved1F1B", num_chunks=2, labels=None),
}


def analysed(job: Job, faults: Faults, folder: Path) -> tuple[Analysis, Truth]:
    planted = plant(job, faults, folder)
    return analyze(read(planted.traces)), planted.truth


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", JOBS)
def test_dependency_share_is_the_truth_though_clocks_are_off(name: str, tmp_path: Path) -> None:
    job = JOBS[name]
    analysis, truth = analysed(job, CLOCKS, tmp_path)
    review = analysis.review
    assert review.bubble is not None, review.quality.withheld
    assert review.bubble.measured_share == pytest.approx(true_dependency_share(truth, job), abs=0.003)
    assert review.job.schedule.value == job.schedule
    assert review.job.num_microbatches.value == job.num_microbatches
    assert review.job.num_chunks.value == job.num_chunks


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", JOBS)
def test_owners_leave_nothing_unknown_and_input_order_changes_nothing(name: str, tmp_path: Path) -> None:
    analysis, _ = analysed(JOBS[name], Faults(), tmp_path)
    owners = {row.owner: row.share for row in analysis.review.accounting.owners}
    assert owners.get("unknown", 0) <= 0.01
    assert sum(owners.values()) == pytest.approx(1)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("clocks", [Faults(), CLOCKS])
def test_the_bubble_of_an_unlabelled_zero_bubble_run_is_measured_and_its_schedule_unknown(
    clocks: Faults, tmp_path: Path
) -> None:
    job = Job(schedule="ZeroBubble", labels=None)
    analysis, truth = analysed(job, clocks, tmp_path)
    review = analysis.review
    assert review.bubble is not None, review.quality.withheld
    assert review.bubble.measured_share == pytest.approx(true_dependency_share(truth, job), abs=0.003)
    assert review.job.schedule.value == "unknown"
    assert review.job.schedule.confidence == 0
    assert review.job.num_microbatches is None
    assert review.bubble.theory is not None
    assert review.bubble.theory.simulated_share is None
    assert review.bubble.attribution_ms is None
    withheld = {item.metric: item.reason for item in review.quality.withheld}
    assert "zero-bubble" in withheld["bubble.theory.closed_form_share"]


@pytest.mark.wide
def test_a_labelled_zero_bubble_run_is_simulated_though_it_has_no_name(tmp_path: Path) -> None:
    job = Job(schedule="ZeroBubble")
    analysis, truth = analysed(job, CLOCKS, tmp_path)
    bubble = analysis.review.bubble
    assert bubble is not None
    assert bubble.measured_share == pytest.approx(true_dependency_share(truth, job), abs=0.003)
    assert bubble.theory is not None
    assert bubble.theory.simulated_share is not None


@pytest.mark.wide
def test_a_host_stall_is_the_hosts(tmp_path: Path) -> None:
    job = Job(schedule="1F1B", steps_ahead=0, num_steps=2)
    stall = 5_000_000
    clean, _ = analysed(job, Faults(), tmp_path / "clean")
    stalled, _ = analysed(job, Faults(host_stall_ns={(0, 2, 0): stall}), tmp_path / "stalled")

    def host_ms(analysis: Analysis) -> float:
        table: Any = analysis.tables["accounting"]
        return table.filter((table["rank"] == 0) & (table["step"] == 2) & (table["owner"] == "host"))[
            "duration_ns"
        ].sum()

    assert host_ms(stalled) - host_ms(clean) == pytest.approx(stall, rel=0.1)


def test_kernels_launched_before_the_capture_belong_to_no_step(tmp_path: Path) -> None:
    analysis, truth = analysed(Job(schedule="1F1B", steps_ahead=1), Faults(), tmp_path)
    windows = analysis.tables["steps"]
    assert sorted(windows["step"].unique()) == [1, 2]
    before = [op for op in truth.device_ops if op["step"] == 0 and op["kind"] in ("gemm", "attention", "elementwise")]
    for rank, start in windows.group_by("rank").agg(pl.col("start_ns").min()).iter_rows():
        assert start >= max(op["end_ns"] for op in before if op["rank"] == rank)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("labels", [None, "own"])
def test_a_description_of_one_stage_does_not_hide_the_recorded_pipelines(labels: str | None, tmp_path: Path) -> None:
    """A recorder that was told nothing writes a layout of replicas alone; pipeline messages contradict it."""
    job = Job(pp=3, dp=2, labels=labels, num_microbatches=5)
    planted = plant(job, Faults(), tmp_path)
    model = dict.fromkeys(
        (
            "num_layers", "hidden_size", "num_heads", "num_kv_heads", "head_size", "ffn_size", "vocab_size", "num_experts",
            "experts_per_token", "expert_ffn_size", "shared_expert_ffn_size", "num_dense_layers",
        ),
        0,
    )  # fmt: skip
    told = {"kind": "other", "layout": {"pp": 1, "dp": 6, "tp": 1, "ep": 1}, "compute_mode": "real", "backend": "nccl"}
    sizes = {"dtype": "unknown", "tokens_per_step": 0, "sequence_length": 0}
    (planted.traces / "run.json").write_text(json.dumps({**told, **sizes, "model": model}))
    bubble = analyze(read(planted.traces)).review.bubble
    assert bubble is not None
    assert bubble.measured_share == pytest.approx(true_dependency_share(planted.truth, job), abs=0.003)
    assert (bubble.num_pipelines, bubble.num_pipelines_expected) == (2, 2)
