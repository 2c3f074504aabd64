"""Predictions at a run's own times: other schedules, microbatches and chunks of planted jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from planted import Faults, Job, plant

from traceanalyzer.cli import main

RUN = Job(pp=3, num_microbatches=6, num_steps=4, forward_ns=3_000_000, backward_ns=7_000_000)


def planted(job: Job, folder: Path) -> Path:
    folder.mkdir()
    plant(job, Faults(varying_compute=0.01), folder)
    return folder


def step_ms(folder: Path, capsys: pytest.CaptureFixture[str]) -> float:
    assert main(["analyze", str(folder), "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)["step"]["duration_ms"]["median"]


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("other", "asked"),
    [
        (replace(RUN, schedule="GPipe"), ["-s", "GPipe", "-m", "6"]),
        (replace(RUN, num_microbatches=10), ["-s", "1F1B", "-m", "10"]),
        (replace(RUN, schedule="Interleaved1F1B", num_chunks=2), ["-s", "Interleaved1F1B", "-m", "6", "-v", "2"]),
    ],
    ids=["schedule", "microbatches", "chunks"],
)
def test_other_configurations_are_predicted_from_one_run(
    other: Job, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = planted(RUN, tmp_path / "run")
    truth = step_ms(planted(other, tmp_path / "other"), capsys)
    assert main(["predict", *asked, "-p", "3", "--calibrate", str(run), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schedules"][0]["step_ms"] == pytest.approx(truth, rel=0.03)
    assert "beyond the simulation" in found["inputs"]["times"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["-p", "4"], "is a run of 3 stages, not 4"),
        (["-p", "3", "--forward-ms", "2"], "both give times"),
    ],
)
def test_what_does_not_fit_is_refused(
    more: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = planted(RUN, tmp_path / "run")
    assert main(["predict", "-s", "1F1B", "-m", "6", *more, "--calibrate", str(run)]) == 2
    assert says in capsys.readouterr().err


def test_a_run_without_pipeline_is_of_one_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = planted(Job(pp=1, dp=2, num_microbatches=2), tmp_path / "dp")
    assert main(["predict", "-s", "1F1B", "-p", "2", "-m", "4", "--calibrate", str(alone)]) == 2
    assert "is a run of 1 stage, not 2" in capsys.readouterr().err


ALONE = Job(pp=1, dp=1, num_microbatches=2, num_steps=6, forward_ns=30_000_000, backward_ns=60_000_000)
MODEL = ["llama-3-8b", "2048", "1024"]


def kept(job: Job, folder: Path, **more: str) -> Path:
    planted(job, folder)
    declared = {
        "--job": MODEL[0],
        "--tokens-per-step": MODEL[1],
        "--sequence-length": MODEL[2],
        "--dtype": "bf16",
        **more,
    }
    given = [word for pair in declared.items() for word in pair]
    out = folder.with_name(f"{folder.name}.result")
    assert main(["analyze", str(folder), *given, "--out", str(out)]) == 0
    return out


def predicted(run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[float, str]:
    capsys.readouterr()
    assert (
        main(["predict", "-s", "GradAccumulation", "-p", "1", "-m", "2", *more, "--calibrate", str(run), "--json", "-"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    return found["schedules"][0]["step_ms"], found["inputs"]["times"]


def test_a_run_without_pipeline_predicts_other_batches_and_recomputation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two microbatches of 30 and 60 ms and a rest: forward and backward grow with the batch, recomputation adds a forward less logits."""
    run = kept(ALONE, tmp_path / "run")
    own, told = predicted(run, capsys)
    assert "later half of its own steps is" in told
    truth = step_ms(planted(replace(ALONE, forward_ns=90_000_000, backward_ns=180_000_000), tmp_path / "other"), capsys)
    assert predicted(run, capsys, "--microbatch-size", "3")[0] == pytest.approx(truth, rel=0.02)
    full, _ = predicted(run, capsys, "--recompute", "full")
    early, _ = predicted(run, capsys, "--recompute", "full", "--early-stop")
    assert full - own == pytest.approx(2 * 30 * 0.93, rel=0.01)  # logits are 7% of a forward of Llama 3 8B
    assert full - early == pytest.approx(14.8, rel=0.01)  # the last matrix of 32 MLPs: 3.76 of 15.2 GFLOP


def test_a_run_that_recomputes_is_predicted_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = kept(replace(ALONE, backward_ns=88_000_000), tmp_path / "run", **{"--recompute": "full"})
    own, _ = predicted(run, capsys)
    without, told = predicted(run, capsys, "--recompute", "none")
    assert own - without == pytest.approx(2 * 30 * 0.93, rel=0.02)
    assert "less" in told
    assert (
        main(["predict", "-s", "1F1B", "-p", "1", "-m", "2", "--recompute", "selective", "--calibrate", str(run)]) == 2
    )
    assert "recomputes full, not selective" in capsys.readouterr().err
