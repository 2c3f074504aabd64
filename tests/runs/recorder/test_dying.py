"""Real ranks of a recorded loop that die, hang, are asked to end, or cannot write: who is named, and what is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from launched.processes import start_loop, wait_for_line
from launched.run_jobs import read_trace

pytest.importorskip("torch", reason="the recorder needs torch")

from traceanalyzer.analysis.run import Run, read

NUM_RANKS = 3
pytestmark = pytest.mark.runs


def loop(tmp_path: Path, fault: str = "", steps: int = 60, **environ: str) -> list[subprocess.Popen[str]]:
    folders = [tmp_path / "run"] * NUM_RANKS
    return start_loop(folders, tmp_path / "store", str(steps), "", fault, **environ)


def ended(processes: list[subprocess.Popen[str]], within_s: float) -> list[str]:
    """What every process wrote to standard error, once it ended."""
    deadline = time.monotonic() + within_s
    try:
        return [each.communicate(timeout=max(deadline - time.monotonic(), 0.1))[1] for each in processes]
    finally:
        for each in processes:
            each.kill()


def last_line(error: str) -> str:
    """What a process said last; how gloo's threads end with it is not its word."""
    return [line for line in error.splitlines() if line.strip() and not line.startswith("terminate called")][-1]


def whole_traces(folder: Path, ranks: list[int]) -> bool:
    """Whether exactly these ranks left a trace, each with profiled steps."""
    found = sorted(path.name for path in (folder / "traces").iterdir())
    steps = [[e for e in read_trace(folder, rank)["traceEvents"] if e["name"] == "gloo:all_reduce"] for rank in ranks]
    return found == [f"rank{rank:05d}.json.gz" for rank in ranks] and all(steps)


def result(folder: Path) -> Run:
    run = read(folder)
    assert run.state is not None
    assert not list(folder.rglob("*.tmp"))
    return run


@pytest.mark.parametrize(
    ("fault", "kept", "says", "reason"),
    [
        (
            "kill:1@6",
            [0, 2],
            "rank 1 ended without a word (killed, or the host was lost)",
            "by peer",
        ),
        pytest.param("raise:2@6", [0, 1, 2], "rank 2: ValueError: planted", "by peer", marks=pytest.mark.wide),
        pytest.param("full:0@6", [1, 2], "rank 0: OutputError", "no usable trace of rank 0", marks=pytest.mark.wide),
    ],
)
def test_a_rank_that_dies_is_named_and_the_others_traces_are_kept(
    tmp_path: Path, fault: str, kept: list[int], says: str, reason: str
) -> None:
    steps = 12 if fault.startswith("full") else 60
    errors = ended(loop(tmp_path, fault, steps), within_s=240)
    assert whole_traces(tmp_path / "run", kept)
    assert says in str(result(tmp_path / "run").state)
    assert any(reason in error for error in errors)
    for rank in {0, 1, 2} - {int(fault[-3])} if fault.startswith("kill") else range(NUM_RANKS):
        assert f"rank {rank} ended" in errors[rank]


@pytest.mark.wide
def test_of_a_rank_that_hangs_the_dumps_say_what_it_did_not_call(tmp_path: Path) -> None:
    processes = loop(tmp_path, "spin:1@6", LOOP_TIMEOUT_S="12")
    for rank in (0, 2):
        assert processes[rank].wait(200) != 0
    processes[1].terminate()
    ended(processes, within_s=20)
    assert whole_traces(tmp_path / "run", [0, 1, 2])
    state = str(result(tmp_path / "run").state)
    assert "rank 1 did not communicate while others waited, last in __main__.endless_wait:" in state
    assert "By the flight recorders rank 1 did not call gloo:all_reduce" in state
    assert "in which ranks 0, 2 waited" in state


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.wide)])
def test_ranks_that_are_asked_to_end_write_what_they_have_also_where_they_wait_for_one_that_froze(
    tmp_path: Path, number: signal.Signals
) -> None:
    processes = loop(tmp_path, "freeze:2@6")
    wait_for_line(processes[0], "step 5")
    time.sleep(1)  # into the call that never ends
    for each in processes:
        each.send_signal(number)
    asked = time.monotonic()
    for rank in (0, 1):
        processes[rank].wait(60)
    took_s = time.monotonic() - asked
    ended(processes[:2], within_s=5)
    os.kill(processes[2].pid, signal.SIGKILL)
    processes[2].wait(10)
    assert took_s < 60
    assert whole_traces(tmp_path / "run", [0, 1])
    assert "The run stopped in step" in str(result(tmp_path / "run").state)


@pytest.mark.wide
def test_a_folder_that_cannot_be_written_is_refused_on_every_rank_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    for error in ended(loop(tmp_path, steps=4), within_s=200):
        assert "rank 0: " in error
        assert "cannot write here" in last_line(error)


@pytest.mark.wide
def test_a_rank_in_another_run_s_folder_ends_the_start_on_all_ranks(tmp_path: Path) -> None:
    (tmp_path / "run/steps").mkdir(parents=True)
    (tmp_path / "run/steps/rank00001.jsonl").write_text("{}\n")
    for error in ended(loop(tmp_path, steps=4), within_s=200):
        assert "rank 1: " in last_line(error)
        assert "holds an earlier run (steps/rank00001.jsonl)" in error
    assert (tmp_path / "run/steps/rank00001.jsonl").read_text() == "{}\n"


@pytest.mark.wide
def test_two_nodes_with_disks_of_their_own_are_one_run_side_by_side(tmp_path: Path) -> None:
    folders = [tmp_path / "out/a", tmp_path / "out/a", tmp_path / "out/b"]
    errors = ended(start_loop(folders, tmp_path / "store", "8", "dp=1,pp=3"), within_s=200)
    assert not any("Traceback" in error for error in errors)
    run = read(tmp_path / "out")
    assert run.state is None
    assert run.job is not None
    assert (sorted(run.traces.ranks["rank"]), run.job.layout and run.job.layout.pp) == ([0, 1, 2], 3)
    assert run.step_records["rank"].unique().sort().to_list() == [0, 1, 2]
