"""What becomes of a launched job that cannot start, or whose rank dies: who is named, after how many seconds, and what is kept.

    python benchmarks/accuracy/dying_jobs.py FOLDER [FAULT...]

Prints one row per fault of a Markdown table.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

RUN = [sys.executable, "-m", "traceanalyzer", "run", "mix", "--compute", "real", "--set", "start_timeout_s=12"]
LOOP = ["--ranks", "2", "--set", "dp=2", "--steps", "40"]
STEP = 5
PLANTED = ("die", "raise", "hang", "stop", "full")
AT_START = ("never", "port", "interface", "unwritable")


def job(fault: str, out: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a job with this fault."""
    if fault in PLANTED:
        step = 4 if fault == "full" else STEP
        return [
            *RUN,
            *LOOP[:-1],
            "4" if fault == "full" else "40",
            "--fault",
            f"{fault}:rank=1,step={step}",
            "--out",
            str(out),
        ], {}
    nodes = ["--nnodes", "2", "--node-rank", "0", "--rdzv", f"127.0.0.1:{port}"] if fault in {"never", "port"} else []
    environ = {"GLOO_SOCKET_IFNAME": "nic99"} if fault == "interface" else {}
    return [*RUN, *LOOP, *nodes, "--out", str(out)], environ


def processes_of(out: Path) -> list[str]:
    """Processes of the job that writes to `out`."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"instrumented_runs.worker" in words and str(out).encode() in words:
            found.append(path.parent.name)
    return found


def survivor_says(out: Path) -> str:
    """The line of rank 0 at its end."""
    log = next(iter(out.rglob("log.txt")), None)
    lines = log.read_text(errors="replace").splitlines() if log else []
    return next((line for line in lines if line.startswith("rank 0 ended in")), "").partition("; what it")[0]


def tried(fault: str, folder: Path) -> str:
    """One row: the fault, the launcher's line and when it came, when all was over, what a survivor said, traces, processes left."""
    out = folder / fault
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        if fault == "port":
            held.listen()
        else:
            held.close()
        if fault == "unwritable":
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text("a file")
        words, environ = job(fault, out, port)
        struck = time.monotonic()
        named_s, line_told = 0.0, ""
        with subprocess.Popen(
            words, env=os.environ | environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as process:
            for line in process.stderr or ():
                if fault in PLANTED and line.startswith(f"step {STEP} of"):
                    struck = time.monotonic()
                if not line_told and (line.startswith(("rank 1 ", "traceanalyzer: "))):
                    named_s, line_told = time.monotonic() - struck, line.strip()
            process.wait()
    over_s = time.monotonic() - struck
    left = processes_of(out)
    traces = sorted(path.name for path in out.rglob("rank*.json.gz")) if out.is_dir() else []
    return f"| {fault} | {line_told} | {named_s:.0f} | {over_s:.0f}, status {process.returncode} | {survivor_says(out) if out.is_dir() else ''} | {', '.join(traces) or 'none'} | {len(left)} |"


def main(folder: str, *faults: str) -> None:
    """Try every fault, or those named."""
    for fault in faults or (*PLANTED, *AT_START):
        sys.stdout.write(tried(fault, Path(folder)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
