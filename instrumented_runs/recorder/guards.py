"""What must hold before a recorder starts; each in one line to the user, instead of a crash or a mixed folder later."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch
import torch.distributed as dist

from traceanalyzer.errors import OutputError, UsageError

LOCK_FILE = ".rank{rank:05d}.recording"
_active: list[Path] = []
"""The folder of this process's running recorder."""


def check_ranks(environ: Mapping[str, str]) -> None:
    """Raise `UsageError` where a launcher started several processes and they do not know of each other yet."""
    try:
        world = int(environ.get("WORLD_SIZE", "1"))
    except ValueError:
        return
    if world > 1 and not dist.is_initialized():
        raise UsageError(
            f"the recorder was made before init_process_group, and WORLD_SIZE is {world}: every process would write as rank 0",
            "make the recorder after torch.distributed.init_process_group",
        )


def check_process(folder: Path) -> None:
    """Raise `UsageError` where this process cannot record: there is one Kineto per process."""
    if _active:
        raise UsageError(
            f"this process records into {_active[0]} already", "close that recorder before the next starts"
        )
    if getattr(torch.autograd, "_profiler_enabled", bool)():  # torch has no public question for it
        raise UsageError(
            f"another profiler is active, so nothing can be recorded into {folder}",
            "turn the framework's own profiler off: torch has one per process",
        )


class FolderLock:
    """This rank's claim on a folder, which ends with `release` or with the process."""

    def __init__(self, folder: Path, rank: int) -> None:
        """Raises `UsageError` where another process records as this rank, `OutputError` where nothing can be written."""
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
