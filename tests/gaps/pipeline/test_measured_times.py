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
        (["-p", "4"], "is a pipeline of 3 ranks, not 4"),
        (["-p", "3", "--forward-ms", "2"], "both give times"),
    ],
)
def test_what_does_not_fit_is_refused(
    more: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = planted(RUN, tmp_path / "run")
    assert main(["predict", "-s", "1F1B", "-m", "6", *more, "--calibrate", str(run)]) == 2
    assert says in capsys.readouterr().err


def test_a_run_without_pipeline_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = planted(Job(pp=1, dp=2, num_microbatches=2), tmp_path / "dp")
    assert main(["predict", "-s", "1F1B", "-p", "2", "-m", "4", "--calibrate", str(alone)]) == 2
    message, hint = capsys.readouterr().err.splitlines()
    assert "holds no pipeline" in message
    assert "--forward-ms" in hint
