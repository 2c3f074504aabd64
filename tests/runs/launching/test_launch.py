"""What becomes of a job whose ranks fail: who, when, why; what is kept; and nothing is left running."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="reference jobs need torch")

from instrumented_runs.launching.launch import clear, launch
from instrumented_runs.pacing.faults import parse_fault
from instrumented_runs.settings import ORDER_FILE, PipelineSettings
from traceanalyzer.cli import main
from traceanalyzer.errors import JobError, UsageError
from traceanalyzer.job import RUN_FILE

SMALL = PipelineSettings(
    folder="",
    num_ranks=2,
    num_steps=3,
    num_unprofiled_steps=1,
    num_chunks=1,
    num_layers=2,
    num_microbatches=2,
    forward_ms=5.0,
    backward_ms=5.0,
    hidden_size=16,
    num_heads=2,
)


def workers_of(folder: Path) -> list[str]:
    """Processes of a job that runs in `folder`."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and "instrumented_runs" in line]


@pytest.mark.runs
def test_a_killed_rank_is_named_with_its_step_and_the_other_ranks_traces_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    told: list[str] = []
    with pytest.raises(JobError) as caught:
        launch("pipeline", dataclasses.replace(SMALL, folder=str(folder), faults=("die:rank=1,step=4",)), told.append)
    assert caught.value.message == "rank 1 failed in step 4: ended by signal 9 (SIGKILL)"
    assert str(folder) in caught.value.hint
    assert told[0].startswith("step 1 of 6  loss ")
    with gzip.open(folder / "traces/rank00000.json.gz") as file:
        trace = json.load(file)
    assert any(event["name"] == "ProfilerStep#3" for event in trace["traceEvents"])
    assert not (folder / "traces/rank00001.json.gz").exists()
    run = json.loads((folder / RUN_FILE).read_bytes())
    assert (run["status"], [r["last_step"] for r in run["ranks"]][1]) == ("failed", 3)
    assert not list(folder.rglob("*.tmp"))
    assert workers_of(folder) == []


@pytest.mark.runs
def test_an_interrupt_ends_every_rank_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "traceanalyzer", "run", "--ranks", "2", "--steps", "50", "--out", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 4"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait(30) == 130
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert json.loads((folder / RUN_FILE).read_bytes())["status"] == "failed"
    deadline = time.monotonic() + 10
    while workers_of(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert workers_of(folder) == []


@pytest.mark.runs
def test_a_run_from_the_command_line_ends_with_its_folder_on_stdout_and_replaces_an_earlier_one_if_forced(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    options = ["--schedule", "ZBH1", "--ranks", "2", "--microbatches", "2", "--steps", "1", "--forward-ms", "1"]
    command = [sys.executable, "-m", "traceanalyzer", "run", *options, "--backward-ms", "1", "--out", str(folder)]
    (folder / "traces").mkdir(parents=True)
    (folder / "traces/rank00007.json.gz").write_bytes(b"of an earlier run")
    (folder / RUN_FILE).write_text("{}")
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--force" in refused.stderr
    assert (folder / "traces/rank00007.json.gz").read_bytes() == b"of an earlier run"
    done = subprocess.run([*command, "--force"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{folder}\n")
    assert [line for line in done.stderr.splitlines() if line.startswith("step 3 of 7  loss ")]
    assert sorted(p.name for p in (folder / "traces").iterdir()) == ["rank00000.json.gz", "rank00001.json.gz"]
    assert (folder / ORDER_FILE).read_text().startswith("0F0,")
    assert json.loads((folder / RUN_FILE).read_bytes())["status"] == "completed"


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds no earlier run"):
        clear(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(UsageError, match="is a file"):
        clear(tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["experts", "--schedule", "GPipe"], "--schedule does not apply to a job of kind 'experts'"),
        (["dense", "--compute", "paced"], "a dense job measures computation"),
        (["--schedule", "3F1B"], "there is no schedule called '3F1B'"),
        (["--fault", "die:rank=2"], "fault 'die:rank=2' needs exactly rank, step"),
        (["--fault", "melt:rank=2"], "there is no fault called 'melt'"),
        (["--schedule", "Interleaved1F1B", "--microbatches", "9"], "cannot cut 9 microbatches"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_fault_must_be_numbers() -> None:
    with pytest.raises(UsageError, match="every value is a number"):
        parse_fault("die:rank=two,step=1")


def test_the_command_is_described_without_torch_or_polars() -> None:
    check = "import sys, traceanalyzer.cli.running.run; print(sorted({'torch', 'polars', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout == "[]\n"
