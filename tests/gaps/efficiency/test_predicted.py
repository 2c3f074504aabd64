"""Predicted MFU: what the run's clean twin reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import Faults, Job, plant

import reports
from traceanalyzer.analysis.assemble import analyze, read, with_declaration
from traceanalyzer.gaps.efficiency.declaration import Declaration
from traceanalyzer.model_configs import find_preset
from traceanalyzer.review import Review

JOB = Job(schedule="1F1B", pp=4, num_microbatches=8, num_steps=3, steps_ahead=0)
DECLARED = Declaration(model=find_preset("gpt2").shape, sequence_length=1024, tokens_per_step=2**16, dtype="bf16")


def review(folder: Path, job: Job, faults: Faults) -> Review:
    run = read(plant(job, faults, folder).traces)
    return analyze(with_declaration(run, DECLARED)).review


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Review:
    return review(tmp_path_factory.mktemp("clean"), JOB, Faults())


def test_a_clean_run_reaches_its_prediction(clean: Review) -> None:
    assert clean.mfu.mfu is not None
    assert clean.mfu.predicted_mfu == pytest.approx(clean.mfu.mfu, rel=0.02)
    assert clean.mfu.predicted_step_ms == pytest.approx(clean.step.duration_ms.median, rel=0.02)


def test_it_stands_beside_the_measured_one(clean: Review) -> None:
    (line,) = (each for each in reports.text(clean, {}).splitlines() if each.startswith("MFU "))
    assert "predicted for the traced step" in line
    (step,) = (each for each in reports.text(clean, {}).splitlines() if each.startswith("Step time"))
    assert "theory" not in step


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    "faults",
    [
        {"host_stall_ns": {(1, step, 6): 60_000_000 for step in (1, 2, 3)}},
        {"slow_action_ns": {(2, step, 5): 6_000_000 for step in (1, 2, 3)}},
    ],
)
def test_delays_do_not_move_the_prediction(clean: Review, faults: dict[str, Any], tmp_path: Path) -> None:
    found = review(tmp_path, JOB, Faults(**faults))
    assert found.mfu.mfu is not None
    assert clean.mfu.mfu is not None
    assert found.mfu.mfu < 0.95 * clean.mfu.mfu
    assert found.mfu.predicted_mfu == pytest.approx(clean.mfu.mfu, rel=0.02)


@pytest.mark.wide
def test_a_slow_stage_is_predicted_evened(clean: Review, tmp_path: Path) -> None:
    found = review(tmp_path, JOB, Faults(slow_compute={2: 1.4}))
    assert found.mfu.mfu is not None
    assert clean.mfu.predicted_step_ms is not None
    # Four stages of 1, 1, 1.4, 1 do the work of four of 1.1.
    assert found.mfu.predicted_step_ms == pytest.approx(1.1 * clean.mfu.predicted_step_ms, rel=0.02)
    assert found.mfu.mfu < (found.mfu.predicted_mfu or 0)


@pytest.mark.wide
def test_without_mfu_there_is_no_prediction_but_the_reason(tmp_path: Path) -> None:
    found = analyze(read(plant(JOB, Faults(), tmp_path).traces)).review
    assert found.mfu.predicted_mfu is None
    reasons = {item.metric: item.reason for item in found.quality.withheld}
    assert reasons["mfu.predicted_mfu"] == reasons["mfu.mfu"]
