"""Runs torchrun: its output goes to the log, and it leaves no process behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from instrumented_runs.launching.nodes import Nodes
from instrumented_runs.launching.watch import GRACE_S, Watch, kill, ranks_of, watching
from instrumented_runs.launching.what_failed import LOG_FILE, Ends, failure
from instrumented_runs.recorder.nccl_inspector import inspector_environment
from instrumented_runs.settings import PROGRESS

_TORCHRUN_S = 5.0
"""Time for torchrun to end after its ranks."""
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    # Large tensors get pages of their own and give them back. Otherwise what the profiler allocates between them
    # fragments the heap, and the steps of the dense job grow by a third while they are recorded (glibc 2.36).
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
}
"""What ranks run with unless the user's environment says otherwise."""

_DEATH = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")


def run_torchrun(
    command: list[str], folder: Path, progress: Callable[[str], None], nodes: Nodes, num_ranks: int
) -> tuple[int, Ends]:
    """Run `command`; its exit status, and what was seen of its ranks."""
    inspector = inspector_environment(folder, os.environ)
    environment = {**ENVIRONMENT, **inspector, **os.environ, "OMP_NUM_THREADS": "1"}
    deaths: dict[int, int] = {}
    with (
        _interrupted_by_sigterm(),
        (folder / LOG_FILE).open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
        watching(process.pid, progress) as watch,
    ):
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            for local_rank, code in _failed(process.stdout, log, progress):
                watch.job_ends()
                deaths[nodes.first_rank(num_ranks) + local_rank] = code
                if len(deaths) == 1:
                    first = failure(folder, 1, Ends(deaths, watch.stopped_ranks), nodes, num_ranks)
                    progress(f"{first.message}; the other ranks write what they have")
        finally:
            _end(process, watch)
    return process.returncode, Ends(deaths, watch.stopped_ranks)


def _failed(lines: Iterable[str], log: TextIO, progress: Callable[[str], None]) -> Iterator[tuple[int, int]]:
    """Local rank and exit status of ranks that torchrun saw fail, while its output goes where it belongs."""
    for line in lines:
        log.write(line)
        log.flush()
        if line.startswith(PROGRESS):
            progress(line.removeprefix(PROGRESS).rstrip())
        elif death := _DEATH.search(line):
            yield int(death[2]), int(death[1])


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Being asked to end is an interrupt, so that torchrun and its ranks are ended first."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[str], watch: Watch) -> None:
    """Make sure that torchrun is gone, and its ranks with it."""
    if process.poll() is None:
        watch.job_ends()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_S + _TORCHRUN_S)
        except subprocess.TimeoutExpired:
            left = ranks_of(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
            kill(left)
            process.wait()
