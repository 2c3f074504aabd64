"""A campaign in worker processes that live for many mutants; one that ends its process, or never ends, is a find as well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock

from fuzzing.campaign import Figures, joined

_PART = 500
"""Mutants of one worker process: what it loads and its seeds cost it about three seconds."""
_HANG_CPU_S = 120
_HANG_S = 3600
"""Of the clock: on a host that others load, or where the campaign is stopped for a while, a mutant may wait for long."""


def supervised(target: str, numbers: range, *, workers: int, journal: Path | None = None) -> Figures:
    """Give mutants to `workers` processes, each on a core of its own. `journal` gets a line of figures per part."""
    parts = [range(at, min(at + _PART, numbers.stop)) for at in range(numbers.start, numbers.stop, _PART)]
    begin, lock, total = time.monotonic(), Lock(), Figures(target)

    def noted(part: range, figures: Figures) -> None:
        with lock:
            joined(total, figures)
            if journal is not None:
                with journal.open("a") as file:
                    file.write(json.dumps({"target": target, "first": part.start, **figures.as_dict()}) + "\n")

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(partial(_part, target, noted), parts, [n % workers for n in range(len(parts))]))
    total.seconds = time.monotonic() - begin
    return total


def _part(target: str, noted: Callable[[range, Figures], None], part: range, worker: int) -> None:
    """Every mutant of a part, in a new process after each that ended one."""
    with tempfile.TemporaryDirectory() as scratch:
        mark, found = Path(scratch) / "mark", Path(scratch) / "found"
        while len(part):
            mark.write_text("")
            found.unlink(missing_ok=True)
            ended = _worker(target, part, worker, mark, found)
            if found.exists():
                noted(part, Figures(**json.loads(found.read_text())))
                return
            number = int(mark.read_text() or part.start)
            done = Figures(target, num_mutants=number + 1 - part.start, finds={ended: [number]})
            noted(part, done)
            part = range(number + 1, part.stop)


def _worker(target: str, part: range, worker: int, mark: Path, found: Path) -> str:
    """Run one worker process to its end; how it ended."""
    command = [sys.executable, "-m", "fuzzing", target, "--first", str(part.start), "--count", str(len(part))]
    command += ["--mark", str(mark), "--figures", str(found), "--core", str(worker)]
    said = mark.with_name("said")
    with said.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
    last, since, spent = "", time.monotonic(), 0.0
    while True:
        try:
            status = process.wait(timeout=20)
            lines = said.read_text("utf-8", "replace").strip().splitlines()
            return f"its process ended with status {status}: {lines[-1][:200] if lines else ''}"
        except subprocess.TimeoutExpired:
            now = mark.read_text()
            if now != last:
                last, since, spent = now, time.monotonic(), _cpu_s(process.pid)
            if _cpu_s(process.pid) - spent > _HANG_CPU_S or time.monotonic() - since > _HANG_S:
                process.kill()
                process.wait()
                return f"no end in {_HANG_CPU_S} s of CPU"


def _cpu_s(pid: int) -> float:
    """What a process has spent, where the system tells it; else nothing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
