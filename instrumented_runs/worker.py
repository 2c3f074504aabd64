"""One rank of a reference job: `python -m instrumented_runs.worker KIND SETTINGS`, launched by torchrun.

Lines on standard output that begin with `PROGRESS` are for whoever launched the job.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType

import msgspec
import torch
import torch.distributed as dist

from instrumented_runs.kinds import JOBS, SETTINGS
from instrumented_runs.pipeline.host_staging import choose_backend, stage_messages
from instrumented_runs.recorder.ending.signals import Terminated, first_line
from instrumented_runs.settings import FAILURE_FILE, PROGRESS, Failure, RunSettings
from traceanalyzer.output import write_atomically

_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of <linux/prctl.h>."""


def announce(text: str) -> None:
    """Tell whoever launched the job."""
    sys.stdout.write(f"{PROGRESS}{text}\n")
    sys.stdout.flush()


def main(kind: str, text: str) -> None:
    """Run this rank of a job that was launched with its settings."""
    work(kind, msgspec.json.decode(text, type=SETTINGS[kind]))


def work(kind: str, settings: RunSettings, prepare: Callable[[], None] | None = None) -> None:
    """Run this rank of a job. `prepare`: what one rank of every node does before any of them writes into its folder."""
    run: Callable[[RunSettings], None] = importlib.import_module(JOBS[kind]).run
    signal.signal(signal.SIGTERM, _terminate)
    _end_with(settings.launcher_pid)
    torch.set_num_threads(1)
    backend, _ = choose_backend(int(os.environ["LOCAL_WORLD_SIZE"]))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        if backend == "gloo":
            stage_messages()
    dist.init_process_group(backend, timeout=timedelta(seconds=settings.timeout_s))
    if prepare is not None:
        if os.environ["LOCAL_RANK"] == "0":
            prepare()
        dist.barrier()
    try:
        run(settings)
    except Exception as error:
        _note_failure(settings, error)
        raise
    dist.destroy_process_group()


def device() -> torch.device:
    """Where this rank computes."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Leave by an exception, so that the recorder can write what it has; unless this rank is already leaving by one."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.exception() is None:
        raise Terminated


def _end_with(launcher_pid: int) -> None:
    """End this process when torchrun or whoever launched it has gone: nothing outlives a killed launcher.

    The kernel ends it with torchrun even if it is stopped; of the launcher it has to look itself.
    """
    torchrun_pid = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == torchrun_pid and _alive(launcher_pid):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _note_failure(settings: RunSettings, error: Exception) -> None:
    rank = dist.get_rank()
    path = Path(settings.folder) / FAILURE_FILE.format(rank=rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    reason = f"{type(error).__name__}: {first_line(error)}"
    write_atomically(path, msgspec.json.encode(Failure(rank=rank, reason=reason, at_ns=time.time_ns())))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
