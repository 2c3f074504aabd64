"""Traces and captures on an S3 server in a process of its own, behind a proxy that slows, cuts and refuses."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launched.faulty_proxy import Faults as Suffered
from launched.faulty_proxy import FaultyProxy
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.errors import InputError
from traceanalyzer.review import to_json
from traceanalyzer.traces.capture.ingest import ingest
from traceanalyzer.traces.input import remote

s3fs = pytest.importorskip("s3fs", reason="needs the extra s3")
pytest.importorskip("moto", reason="needs an S3 server")
pytestmark = pytest.mark.wide

JOB = Job(pp=2, dp=2, num_microbatches=3, num_steps=2, kernels_per_action=2)
NETWORKS = {
    "whole": Suffered(),
    "refused": Suffered(refused=4),
    "cut": Suffered(cut=5),
    "slow": Suffered(slow_seconds=0.01),
}


def figures(path: str | Path) -> dict[str, Any]:
    """The review without what names its files."""
    review = json.loads(to_json(analyze(read(path)).review))
    for name in ("source", "provenance", "files", "created"):
        review.pop(name, None)
    for defect in review["quality"]["defects"]:
        defect.pop("file", None)
    return review


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.01)
    proxy = FaultyProxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    s3fs.S3FileSystem.clear_instance_cache()
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    traces = plant(JOB, Faults(slow_compute={3: 1.5}), folder / "run").traces
    ingest([traces], folder / "capture", num_workers=1)
    shutil.copytree(traces, folder / "traces")
    return folder


def put(server: int, folder: Path, bucket: str) -> None:
    store = s3fs.S3FileSystem(endpoint_url=f"http://127.0.0.1:{server}", key="test", secret="test")  # noqa: S106
    if not store.exists(bucket):
        store.mkdir(bucket)
    store.put(f"{folder}/", f"{bucket}/{folder.name}", recursive=True)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", ["traces", "capture"])
def test_what_lies_on_an_object_store_gives_the_local_result(
    server: int, proxy: FaultyProxy, local: Path, kind: str, network: str
) -> None:
    put(server, local / kind, "runs")
    proxy.faults = Suffered(**vars(NETWORKS[network]))
    assert figures(f"s3://runs/{kind}") == figures(local / kind)
    assert (proxy.faults.refused, proxy.faults.cut) == (0, 0)


def test_a_store_that_never_answers_is_told(server: int, proxy: FaultyProxy, local: Path) -> None:
    put(server, local / "capture", "runs")
    proxy.faults = Suffered(refused=10_000)
    with pytest.raises(InputError, match=r"s3://runs/capture.*tried 5 times"):
        read("s3://runs/capture")


def test_an_ingest_of_remote_traces_resumes(server: int, proxy: FaultyProxy, local: Path, tmp_path: Path) -> None:
    put(server, local / "traces", "again")
    first = ingest(["s3://again/traces"], tmp_path / "capture")
    again = ingest(["s3://again/traces"], tmp_path / "capture")
    assert (first.num_read, again.num_read, again.num_unchanged) == (4, 0, 4)
    assert figures(tmp_path / "capture") == figures(local / "traces")
    assert proxy.faults == Suffered()
