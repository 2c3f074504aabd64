"""The recorder in a loop of one's own: windows, requests, chosen ranks, names; and a trace under its name is whole."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from launched.recorded_loop import WEIRD, loop, step_names
from launched.run_jobs import read_job, read_steps, read_trace

from instrumented_runs.recorder.capture import Window, termination_postponed
from instrumented_runs.recorder.on_demand import REQUEST_FILE
from instrumented_runs.recorder.recording import Recorder
from instrumented_runs.recorder.start.groups import chosen_ranks
from instrumented_runs.recorder.start.guards import FolderLock
from instrumented_runs.recorder.trace_export import publish_trace
from traceanalyzer.errors import OutputError, UsageError
from traceanalyzer.job import RUN_FILE
from traceanalyzer.layout import Layout


@pytest.mark.runs
def test_three_lines_record_any_loop(tmp_path: Path) -> None:
    loop(tmp_path, 7, Window(wait=2, warmup=1, active=2))
    job = read_job(tmp_path)
    assert (job.kind, job.status, job.profiled_steps, job.traced_ranks) == ("other", "completed", (3, 4), (0,))
    assert job.unprofiled_step_ms is not None
    assert [record.step for record in read_steps(tmp_path, 0) if record.profiled] == [3, 4]
    assert step_names(tmp_path / "traces/rank00000.json.gz") == ["ProfilerStep#3", "ProfilerStep#4"]


@pytest.mark.runs
def test_range_names_survive_the_exporter_and_can_be_read_back(tmp_path: Path) -> None:
    loop(tmp_path, 3, Window(wait=0, warmup=1, active=1))
    names = {unquote(event["name"]) for event in read_trace(tmp_path, 0)["traceEvents"]}
    assert WEIRD in names


@pytest.mark.runs
def test_a_second_window_is_recorded_on_request_under_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / REQUEST_FILE).write_text("4\n")
    loop(tmp_path, 8, Window(wait=0, warmup=1, active=1))
    assert step_names(tmp_path / "traces/rank00000.json.gz") == ["ProfilerStep#1"]
    assert step_names(tmp_path / "traces/rank00000.1.json.gz") == ["ProfilerStep#5"]
    assert read_job(tmp_path).profiled_steps == (1, 5)


@pytest.mark.runs
def test_a_rank_that_was_not_chosen_writes_its_steps_but_no_trace(tmp_path: Path) -> None:
    loop(tmp_path, 3, Window(wait=0, warmup=1, active=1), ranks=[1])
    assert not (tmp_path / "traces").exists()
    assert len(read_steps(tmp_path, 0)) == 3
    assert read_job(tmp_path).traced_ranks == (1,)


@pytest.mark.runs
def test_an_exception_in_the_loop_keeps_the_trace_so_far_and_is_not_hidden(tmp_path: Path) -> None:
    def failing() -> None:
        with Recorder(tmp_path, window=Window(0, 1, 5)) as recorder:
            for step in range(4):
                _ = 1 / (3 - step)
                recorder.step()

    with pytest.raises(ZeroDivisionError):
        failing()
    assert step_names(tmp_path / "traces/rank00000.json.gz") == ["ProfilerStep#1", "ProfilerStep#2", "ProfilerStep#3"]
    assert read_job(tmp_path).status == "started"


def test_a_large_job_records_one_pipeline_and_one_expert_group() -> None:
    assert chosen_ranks(Layout(pp=4, dp=2), 8) == (tuple(range(8)), "all ranks")
    assert chosen_ranks(Layout(pp=4, dp=64, ep=8), 256)[0] == (0, 1, 2, 3, 4, 5, 6, 7, 64, 128, 192)


class Exporter:
    """Writes what it is told to, as torch's exporter might."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content

    def export_chrome_trace(self, path: str) -> None:
        if self.content is not None:
            Path(path).write_bytes(self.content)


EVENTS = b'"traceEvents": [{"ph": "X", "name": "a", "ts": 1, "dur": 1}]'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "torch wrote no usable trace of rank 3"),
        (b'{"traceEvents": [{"ph": "X", "na', "torch wrote no usable trace of rank 3"),
        (b'{"traceEvents": []}', "the trace of rank 3 has no events"),
        (b'{"distributedInfo": {"rank": 1}, ' + EVENTS + b"}", "holds rank 1, expected 3"),
    ],
)
def test_a_trace_that_is_not_whole_never_gets_its_name(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "traces" / "rank00003.json.gz"
    with pytest.raises(OutputError, match=says):
        publish_trace(Exporter(content), path, 3)
    assert list(path.parent.iterdir()) == []


def test_a_whole_trace_gets_its_name_and_its_clock_error(tmp_path: Path) -> None:
    path = tmp_path / "rank00003.json.gz"
    content = b'{"baseTimeNanoseconds": 1000000000, "distributedInfo": {"rank": 3}, ' + EVENTS + b"}"
    publish_trace(Exporter(content), path, 3, clock_error_ns=-7)
    assert [p.name for p in tmp_path.iterdir()] == ["rank00003.json.gz"]
    assert json.loads(gzip.decompress(path.read_bytes()))["baseTimeNanoseconds"] == 999999993


def test_a_termination_waits_until_the_trace_is_written() -> None:
    seen: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("terminated"))
    try:
        with termination_postponed():
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append("written")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == ["written", "terminated"]


def test_the_recorder_needs_nothing_of_the_jobs_beside_it() -> None:
    check = (
        "import sys, instrumented_runs.recorder.recording\n"
        "print(sorted(m for m in sys.modules if m.startswith('instrumented_runs.')))\n"
        "print('polars' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    recorder = ["capture", "clocks", "device_state", "ending", "ending.heartbeat", "ending.signals", "flight_dump"]
    recorder += [
        "host_load",
        "nccl_inspector",
        "on_demand",
        "parquet",
        "recording",
        "run_file",
        "start",
        "start.environment",
    ]
    recorder += [f"start.{name}" for name in ("groups", "guards", "identity", "opening", "ranks")] + ["trace_export"]
    needed = ["pacing", "pacing.gemm_peak", "ranges", "recorder", *(f"recorder.{name}" for name in recorder)]
    assert done.stdout == f"{[f'instrumented_runs.{name}' for name in needed]}\nFalse\n"


def test_run_json_is_never_half_written(tmp_path: Path) -> None:
    loop(tmp_path, 1, Window(wait=5))
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))
    assert json.loads((tmp_path / RUN_FILE).read_bytes())["profiled_steps"] == []


@pytest.mark.wide
def test_a_recorder_before_the_process_group_has_rank_and_size_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "night"}.items():
        monkeypatch.setenv(name, value)
    loop(tmp_path, 3, Window(wait=0, warmup=1, active=1))
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["rank00003.json.gz"]
    named = read_trace(tmp_path, 3)["traceanalyzer"]
    assert (named["rank"], named["world_size"]) == (3, 4)
    monkeypatch.setenv("RANK", "0")
    loop(tmp_path, 3, Window(wait=0, warmup=1, active=1))
    job = read_job(tmp_path)
    assert (job.num_ranks, job.job_id) == (4, named["job_id"])
    assert {record.job_id for rank in (0, 3) for record in read_steps(tmp_path, rank)} == {job.job_id}


def test_two_runs_never_write_into_one_folder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, 0)
    try:
        with pytest.raises(UsageError, match="another run records into this folder as rank 0"):
            FolderLock(tmp_path, 0)
    finally:
        lock.release()
    FolderLock(tmp_path, 0).release()


def test_a_step_before_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not running"):
        Recorder(tmp_path).step()
