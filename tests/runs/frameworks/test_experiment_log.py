"""Headline numbers in trackers: what is known under the names of the review, and nothing of what is withheld."""

from __future__ import annotations

from pathlib import Path

import pytest
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, with_job

from instrumented_runs.frameworks.experiment_log import (
    headline_numbers,
    log_to_mlflow,
    log_to_tensorboard,
    log_to_wandb,
)
from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import Review


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Review:
    return analyze(read(with_job(run_of(tmp_path_factory.mktemp("run"), GPIPE)))).review


def test_known_figures_have_their_names_and_withheld_ones_are_left_out(review: Review) -> None:
    numbers = headline_numbers(review)
    assert numbers["traceanalyzer/bubble.measured_share"] == pytest.approx(1 / 3)
    assert numbers["traceanalyzer/step.duration_ms.median"] == pytest.approx(90)
    assert numbers["traceanalyzer/findings.num_failed"] == sum(not finding.passed for finding in review.findings)
    assert "traceanalyzer/mfu.mfu" not in numbers
    assert not any("all_to_all" in name for name in numbers)
    assert all(isinstance(value, float) for value in numbers.values())


def test_tensorboard_keeps_them(review: Review, tmp_path: Path) -> None:
    tracker = pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no TensorBoard")
    with tracker.SummaryWriter(str(tmp_path)) as writer:
        logged = log_to_tensorboard(review, writer, step=7)
    found = reader.EventAccumulator(str(tmp_path)).Reload()
    kept = {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert kept == {name: [(7, pytest.approx(value, rel=1e-6))] for name, value in logged.items()}


def test_mlflow_keeps_them(review: Review, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    mlflow.set_experiment("test")
    with mlflow.start_run() as run:
        logged = log_to_mlflow(review, mlflow, step=3)
    assert mlflow.get_run(run.info.run_id).data.metrics == pytest.approx(logged)


def test_wandb_keeps_them_offline(review: Review, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=str(tmp_path), project="test")
    logged = log_to_wandb(review, run, step=2)
    kept = dict(run.summary)
    run.finish()
    assert {name: kept[name] for name in logged} == pytest.approx(logged)
