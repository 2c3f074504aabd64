"""What must hold before a recorder starts; each in one line to the user, instead of a crash or a mixed folder later."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

import torch

from instrumented_runs.recorder.flight_dump import FLIGHT_FILE
from traceanalyzer.errors import OutputError, UsageError
from traceanalyzer.job import ROUTING_FILE, RUN_FILE, STATUS_FILE, STEPS_FILE, TRACE_FILE

LOCK_FILE = ".rank{rank:05d}.recording"
_active: list[Path] = []
"""The folder of this process's running recorder."""
_recorded: set[Path] = set()
"""Folders that this process recorded into: what is there is its own."""


def claim(folder: Path, rank: int, *, grouped: bool, replace: bool) -> FolderLock:
    """This rank's claim on `folder`, all guards passed. Raises as they do; `replace` lets an earlier run be replaced."""
    check_process(folder)
    lock = FolderLock(folder, rank)
    try:
        if not replace:
            check_earlier(folder, rank, grouped=grouped)
    except UsageError:
        lock.release()
        raise
    _recorded.add(folder.absolute())
    return lock


def check_process(folder: Path) -> None:
    """Raise `UsageError` where this process cannot record: there is one Kineto per process."""
    if _active:
        raise UsageError(
            f"this process records into {_active[0]} already", "close that recorder before the next starts"
        )
    if other_profiler():
        raise UsageError(
            f"another profiler is active, so nothing can be recorded into {folder}",
            "turn the framework's own profiler off: torch has one per process",
        )


def other_profiler() -> bool:
    """Whether a profiler of torch is active in this process."""
    return bool(getattr(torch.autograd, "_profiler_enabled", bool)())  # torch has no public question for it


def check_earlier(folder: Path, rank: int, *, grouped: bool) -> None:
    """Raise `UsageError` where `folder` holds an earlier run of another process.

    `grouped`: ranks speak to each other before any of them writes, so that a description is an earlier one. Else only what
    this rank would overwrite tells.
    """
    if folder.absolute() in _recorded:
        return
    own = [name.format(rank=rank) for name in (STATUS_FILE, STEPS_FILE, TRACE_FILE)]
    for name in (*own, *((RUN_FILE,) if grouped or rank == 0 else ())):
        if (folder / name).exists():
            raise UsageError(
                f"{folder}: holds an earlier run ({name})",
                "give another folder, or Recorder(..., replace=True) to replace it",
            )


def remove_earlier(folder: Path, rank: int) -> None:
    """Remove what an earlier run of this rank left."""
    for name in (STATUS_FILE, STEPS_FILE, ROUTING_FILE, FLIGHT_FILE, TRACE_FILE.replace(".json", "*.json")):
        for left in folder.glob(name.format(rank=rank)):
            left.unlink(missing_ok=True)


class FolderLock:
    """This rank's claim on a folder, which ends with `release` or with the process."""

    def __init__(self, folder: Path, rank: int) -> None:
        """Raises `UsageError` if another process records as this rank, `OutputError` where nothing can be written."""
        self._path = folder / LOCK_FILE.format(rank=rank)
        self._file: IO[bytes] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            raise UsageError(
                f"{folder}: another run records into this folder as rank {rank}", "give each run a folder of its own"
            ) from None
        except OSError as error:
            self._close()
            raise OutputError(
                f"{folder}: rank {rank} cannot write here: {error.strerror or error}",
                "choose a folder that can be written",
            ) from None
        _active.append(folder)

    def release(self) -> None:
        """Let others record here."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            _active.clear()
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None
