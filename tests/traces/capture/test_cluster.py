"""Ingest on a Dask cluster: a scheduler and workers in processes of their own, one of which is killed midway."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.review import to_json
from traceanalyzer.traces.capture.ingest import ingest
from traceanalyzer.traces.capture.many.cluster import each_on_cluster

pytest.importorskip("distributed")

JOB = Job(pp=3, dp=4, num_microbatches=4, num_steps=2, kernels_per_action=2)
FAULTS = Faults(slow_compute={5: 1.4}, clock_offset_ns={2: 700_000})


def figures(path: Path) -> dict[str, Any]:
    """The review, less times of making it and the path of the capture."""
    review = json.loads(to_json(analyze(read(path)).review))
    for name in ("source", "provenance", "created"):
        review.pop(name, None)
    return review


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    told = tmp_path / "scheduler.json"
    scheduler = start(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)
    )
    workers = [
        start("worker", "--scheduler-file", str(told), "--nthreads", "1", "--nworkers", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path))
        for _ in range(2)
    ]  # fmt: skip
    try:
        for _ in range(600):
            if told.exists() and told.read_text():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                scheduler.wait(0.1)
        yield json.loads(told.read_text())["address"], workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


@pytest.mark.wide
def test_a_cluster_that_loses_a_worker_gives_the_local_result(
    cluster: tuple[str, list[subprocess.Popen[str]]], tmp_path: Path
) -> None:
    address, workers = cluster
    traces = plant(JOB, FAULTS, tmp_path / "planted").traces
    killed: list[int] = []

    def on_progress(done: int, total: int) -> None:
        if not killed and 0 < done < total:
            workers[0].kill()
            killed.append(done)

    spread = ingest([traces], tmp_path / "spread", cluster=address, progress=on_progress)
    assert killed
    assert workers[0].wait() != 0
    assert spread.manifest.complete
    local = ingest([traces], tmp_path / "local", num_workers=1)
    assert [[p.sha256 for d in s.documents for p in d.parts] for s in spread.manifest.sources] == [
        [p.sha256 for d in s.documents for p in d.parts] for s in local.manifest.sources
    ]
    assert figures(tmp_path / "spread") == figures(tmp_path / "local")


@pytest.mark.wide
def test_workers_that_do_not_see_the_capture_are_not_used(
    cluster: tuple[str, list[subprocess.Popen[str]]], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"\d of \d workers do not see .*/absent"):
        next(each_on_cluster(cluster[0], tmp_path / "absent", print, ["item"]))


def test_an_address_without_a_scheduler_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("traceanalyzer.traces.capture.many.cluster._CONNECT_SECONDS", 1)
    traces = plant(Job(pp=1, dp=1, num_microbatches=1, num_steps=1), Faults(), tmp_path / "planted").traces
    with pytest.raises(InputError, match="does not answer"):
        ingest([traces], tmp_path / "made", cluster="tcp://127.0.0.1:9")
