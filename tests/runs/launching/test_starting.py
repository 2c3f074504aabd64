"""Jobs that cannot start, or freeze: one line of cause, one of remedy, and nobody left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instrumented_runs.launching.log_causes import cause_in, last_error
from instrumented_runs.launching.nodes import Nodes

THREE = Nodes(count=3, rank=0, address="head", port=4411)


@pytest.mark.parametrize(
    ("log", "nodes", "says"),
    [
        ("x\nError: port: 4411, name: EADDRINUSE, message: address already in use", THREE, "port 4411 of this machine is in use"),
        ("enforce fail at device.cc:84] ifa != nullptr. Unable to find address for: ib7\nDistStoreError: late", THREE, "no network interface ib7"),
        ("DistStoreError: Timed out after 9 seconds waiting for clients. 1/3 clients joined.", THREE, "not all of nodes 1 to 2 came to head:4411"),
        ("DistStoreError: Timed out after 9 seconds", Nodes(count=2, rank=0, address="head"), "node 1 (rank 3 to 5) never started"),
        ("The client socket has timed out after 9000ms", Nodes(count=2, rank=1, address="head"), "node 0 (rank 0 to 2), or another node"),
        ("socket.gaierror: [Errno -2] Name or service not known", THREE, "the host head is not known here"),
    ],
)  # fmt: skip
def test_the_cause_is_read_from_the_log(log: str, nodes: Nodes, says: str) -> None:
    found = cause_in(log, nodes, 6)
    assert found is not None
    assert says in found.reason
    assert found.remedy


def test_of_an_unknown_cause_the_last_error_is_told() -> None:
    log = 'Traceback (most recent call last):\n  File "a.py"\n[rank1]: torch.cuda.OutOfMemoryError: no room\nx.ChildFailedError: summary'
    assert cause_in(log, Nodes(), 2) is None
    assert last_error(log) == "OutOfMemoryError: no room"
    assert last_error("all is well") is None


def start(out: Path, *more: str, **environ: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "traceanalyzer", "run", "mix", "--compute", "real", "--set", "timeout_s=12", "--set", "start_timeout_s=12", "--out", str(out), *more]  # fmt: skip
    return subprocess.Popen(command, env=os.environ | environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)  # fmt: skip


def left_behind(out: Path) -> list[str]:
    """Processes of the job that is written to `out`."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"instrumented_runs.worker" in words and any(str(out).encode() in word for word in words):
            found.append(path.parent.name)
    return found


def gone(out: Path, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while left_behind(out) and time.monotonic() < deadline:
        time.sleep(0.5)
    return not left_behind(out)


@pytest.mark.runs
@pytest.mark.wide
@pytest.mark.parametrize("fault", ["port", "interface", "never"])
def test_a_job_that_cannot_start_says_so_in_two_lines(tmp_path: Path, fault: str) -> None:
    pytest.importorskip("torch", reason="reference jobs need torch")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        nodes = ["--nnodes", "2", "--node-rank", "0", "--rdzv", f"127.0.0.1:{port}"]
        if fault == "port":
            held.listen()
        else:
            held.close()
        more, environ = (["--ranks", "2"], {"GLOO_SOCKET_IFNAME": "nic99"}) if fault == "interface" else (nodes, {})
        process = start(tmp_path / "run", "--set", "dp=2", *more, **environ)
        _, told = process.communicate(timeout=200)
    assert process.returncode == 5
    says = {"port": f"port {port} of this machine", "interface": "network interface nic99", "never": "node 1 (rank 1)"}
    *_, message, hint = told.splitlines()
    assert says[fault] in message
    assert "log.txt" in hint
    assert "Traceback" not in told
    assert gone(tmp_path / "run", 5)


@pytest.mark.runs
@pytest.mark.wide
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("stop", "rank 1 failed in step 5: it was stopped (SIGSTOP)"),
        ("hang", "rank 1 hung in step 5, last in instrumented_runs.pacing.faults._hang"),
    ],
)
def test_of_a_rank_that_does_nothing_more_the_launcher_names_it_and_all_traces_are_kept(
    tmp_path: Path, fault: str, says: str
) -> None:
    pytest.importorskip("torch", reason="reference jobs need torch")
    out = tmp_path / "run"
    _, told = start(out, "--set", "dp=2", "--steps", "40", "--fault", f"{fault}:rank=1,step=5").communicate(timeout=200)
    assert says in told.splitlines()[-2]
    assert sorted(path.name for path in (out / "traces").iterdir()) == ["rank00000.json.gz", "rank00001.json.gz"]
    assert gone(out, 5)


@pytest.mark.runs
@pytest.mark.wide
def test_a_launcher_that_is_asked_to_end_leaves_nobody_behind(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="reference jobs need torch")
    out = tmp_path / "run"
    process = start(out, "--set", "dp=2", "--steps", "3000")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 3 "):
            break
    os.kill(int(left_behind(out)[0]), signal.SIGSTOP)  # it cannot take SIGTERM: the launcher wakes it
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode in (130, 143)
    assert gone(out, 5)
