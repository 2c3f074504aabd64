"""One writer at a time: a lock that ends with its holder, however that ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from traceanalyzer.errors import OutputError

try:
    import fcntl
except ImportError:  # no such locks on this platform: writers are not kept apart there
    fcntl = None

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the lock of a capture. Raises `OutputError` naming the holder if another process has it."""
    path = folder / LOCK
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.read(handle, 200).decode("utf-8", "replace").strip() or "another process"
                raise OutputError(
                    f"{folder}: {holder} is writing this capture", "wait until it is done, or choose another --out"
                ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(handle)
