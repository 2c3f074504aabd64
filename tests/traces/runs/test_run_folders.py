"""Run folders of nodes, of runs that stopped, and of runs that wrote over each other."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from inputs.flight_dumps import call, dumped

from traceanalyzer.analysis.run import Run, read
from traceanalyzer.cli import main
from traceanalyzer.errors import InputError
from traceanalyzer.job import Job, RankRecord, RankStatus, StepRecord
from traceanalyzer.traces.run_status import Observer, run_state

JOB_ID = "20260301T101112-0badcafe"


def trace(rank: int, world: int, job_id: str | None, start_us: float = 10.0) -> bytes:
    events = [
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 40 + rank, "tid": 1, "ts": start_us + at, "dur": 3.0}
        for at in range(0, 40, 5)
    ]
    note = {} if job_id is None else {"traceanalyzer": {"job_id": job_id, "rank": rank, "world_size": world}}
    return gzip.compress(json.dumps({"schemaVersion": 1, **note, "traceEvents": events}).encode())


def node(folder: Path, ranks: range, world: int, job_id: str, *, described: bool = False) -> Path:
    """What the ranks of one node wrote to its own disk."""
    for name in ("traces", "steps", "status"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for rank in ranks:
        record = RankRecord(rank=rank, host="n", pid=40 + rank, cores=(0,))
        status = RankStatus(
            job_id=job_id, record=record, world_size=world, state="completed", started_ns=1, beat_ns=2, last_step=3
        )
        step = StepRecord(step=3, rank=rank, start_ns=10, end_ns=50, profiled=True, job_id=job_id)
        (folder / f"traces/rank{rank:05d}.json.gz").write_bytes(trace(rank, world, job_id))
        (folder / f"steps/rank{rank:05d}.jsonl").write_bytes(msgspec.json.encode(step) + b"\n")
        (folder / f"status/rank{rank:05d}.json").write_bytes(msgspec.json.encode(status))
    if described:
        job = dataclasses.replace(
            Job.of(), job_id=job_id, num_ranks=world, status="completed", basis={"layout": "none"}
        )
        (folder / "run.json").write_bytes(msgspec.json.encode(job))
    return folder


def run_codes(run: Run) -> list[str]:
    """Codes of what is wrong with the run folder."""
    return [code for code in run.traces.defects["code"] if code.startswith(("run.", "file.", "rank."))]


def test_folders_of_nodes_are_one_run_with_the_records_of_all(tmp_path: Path) -> None:
    node(tmp_path / "a", range(2), 5, JOB_ID, described=True)
    node(tmp_path / "b", range(2, 5), 5, JOB_ID)
    run = read(tmp_path)
    assert sorted(run.traces.ranks["rank"]) == [0, 1, 2, 3, 4]
    assert sorted(run.step_records["rank"]) == [0, 1, 2, 3, 4]
    assert run.job is not None
    assert [record.rank for record in run.job.ranks] == [0, 1, 2, 3, 4]
    assert run.state is None
    assert run_codes(run) == []


def test_folders_of_two_runs_are_refused(tmp_path: Path) -> None:
    node(tmp_path / "a", range(2), 4, JOB_ID, described=True)
    node(tmp_path / "b", range(2, 4), 4, "20260301T101113-0badcafe")
    with pytest.raises(InputError, match="2 jobs in one place"):
        read(tmp_path)


def steps(*spans: tuple[int, int, int]) -> bytes:
    """Lines of rank 0: step, start and end."""
    lines = [StepRecord(step=s, rank=0, start_ns=a, end_ns=b, profiled=False) for s, a, b in spans]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


@pytest.mark.parametrize(
    ("spans", "code"),
    [
        ([(0, 0, 10), (1, 10, 20), (2, 20, 30)], None),
        ([(0, 0, 10), (0, 3, 13), (1, 10, 20), (1, 13, 25)], "run.several_writers"),
        ([(1, 0, 10), (2, 10, 20), (1, 15, 22), (2, 22, 30)], "run.several_writers"),
        ([(0, 0, 10), (1, 10, 20), (0, 90, 99), (1, 99, 109)], "run.earlier_run"),
    ],
)
def test_a_rank_that_several_processes_wrote_is_flagged(
    tmp_path: Path, spans: list[tuple[int, int, int]], code: str | None
) -> None:
    node(tmp_path, range(1), 1, JOB_ID, described=True)
    (tmp_path / "steps/rank00000.jsonl").write_bytes(steps(*spans))
    assert run_codes(read(tmp_path)) == ([code] if code else [])


NOW = 10**18
SEEN = Observer(now_ns=NOW, host="here", boot="b")


def status(rank: int, state: str = "running", age_s: float = 1, last: int | None = 6, **more: str) -> RankStatus:
    record = RankRecord(rank=rank, host="there", pid=1, cores=(0,), boot="c")
    beat = NOW - int(age_s * 1e9)
    return RankStatus(
        job_id="j", record=record, world_size=4, state=state, started_ns=0, beat_ns=beat, last_step=last, **more
    )


@pytest.mark.parametrize(
    ("statuses", "says"),
    [
        ([status(0, "completed"), status(1, "completed")], None),
        ([status(0), status(1, last=8)], "The run is still running, in step 7."),
        (
            [status(0, "stopped", reason="RuntimeError: Connection closed by peer"), status(1, age_s=90, last=4)],
            "The run stopped in step 7: rank 1 ended without a word (killed, or the host was lost); rank 0: RuntimeError: Connection closed by peer.",
        ),
        (
            [status(0, age_s=90, last=None, calls="loop.train:7 < a.b:2")],
            "The run stopped before its first step ended, or up to 5 s later: rank 0 ended without a word (killed, or the host was lost), last in loop.train:7.",
        ),
    ],
)
def test_a_run_that_stopped_is_told_from_one_that_runs(statuses: list[RankStatus], says: str | None) -> None:
    assert run_state(statuses, SEEN) == says


def test_a_process_of_this_host_is_asked() -> None:
    here = Observer.here()
    if not here.boot:
        pytest.skip("no boot id")
    record = RankRecord(rank=0, host=here.host, pid=os.getpid(), cores=(0,), boot=here.boot)
    base = RankStatus(job_id="j", record=record, world_size=1, state="running", started_ns=0, beat_ns=here.now_ns)
    assert "stopped" in str(run_state([base], here))  # the number belongs to a process that began at another time


def test_a_capture_of_a_run_folder_keeps_what_its_ranks_said(tmp_path: Path) -> None:
    node(tmp_path / "run", range(2), 2, JOB_ID, described=True)
    assert main(["ingest", str(tmp_path / "run"), "--out", str(tmp_path / "capture")]) == 0
    assert (tmp_path / "capture/status/rank00001.json").exists()
    assert read(tmp_path / "capture").state is None


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({"job_id": "20260301T101113-5eaf00d5"}, f"it is of run 20260301T101113-5eaf00d5, the traces are of {JOB_ID}"),
        ({"size": 5}, "its default group has 5 ranks, the traced job has 3"),
        ({"rank": 7}, "it is of rank 7, and the traced job has 3 ranks"),
    ],
)
def test_a_dump_of_another_run_beside_traces_is_named_and_set_apart(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], others: dict[str, Any], says: str
) -> None:
    node(tmp_path, range(3), 3, JOB_ID, described=True)
    for folder in ("flight", "old"):
        (tmp_path / folder).mkdir()
    for rank in range(3):
        dumped(tmp_path / "flight", rank, [call(1), call(2)], size=3, job_id=JOB_ID)
    more = {"size": 3} | {key: value for key, value in others.items() if key != "rank"}
    dumped(tmp_path / "old", others.get("rank", 1), [call(1)], **more)
    run = read(tmp_path)
    defects = run.traces.defects.filter(pl.col("code") == "record.other_run")
    assert says in str(defects["message"][0])
    assert run.records.flight.group_by("rank").len().sort("rank")["len"].to_list() == [2, 2, 2]
    assert main(["check", str(tmp_path)]) == 0
    assert says in " ".join(capfd.readouterr().out.split())


def test_dumps_of_the_traced_run_and_those_that_name_no_run_stay(tmp_path: Path) -> None:
    node(tmp_path, range(2), 2, JOB_ID, described=True)
    dumped(tmp_path, 0, [call(1)], job_id=JOB_ID, size=2)
    dumped(tmp_path, 1, [call(1)], size=2)
    run = read(tmp_path)
    assert sorted(run.records.flight["rank"]) == [0, 1]
    assert "record.other_run" not in set(run.traces.defects["code"])
