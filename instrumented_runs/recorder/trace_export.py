"""Writes one rank's trace so that a file under its final name is whole and belongs to that rank.

Torch's exporter can fail without saying so, or leave half a file under the name it was given. So it writes to a
temporary name in the same folder, the result is read back and checked, and only then renamed.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from pathlib import Path
from typing import Protocol

from traceanalyzer.errors import OutputError


class Exporter(Protocol):
    """What is needed of `torch.profiler.profile`."""

    def export_chrome_trace(self, path: str) -> None:
        """Write the trace as JSON."""


def publish_trace(profiler: Exporter, path: Path, rank: int, clock_error_ns: int = 0) -> int:
    """Export to `path` (`.json.gz`) and return its bytes. Raises `OutputError` if the trace is not whole.

    `clock_error_ns` is added to all its times: a planted fault.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = path.with_name(f".{path.name}.{os.getpid()}.raw.tmp")
    packed = path.with_name(f".{path.name}.{os.getpid()}.gz.tmp")
    try:
        profiler.export_chrome_trace(str(raw))
        _check(raw, path, rank)
        if clock_error_ns:
            raw.write_bytes(_shifted(raw.read_bytes(), clock_error_ns))
        with raw.open("rb") as source, gzip.open(packed, "wb", compresslevel=5) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        with packed.open("rb") as written:
            os.fsync(written.fileno())
        packed.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: the trace of rank {rank} was not written: {error}", "is the disk full?") from error
    finally:
        for leftover in (raw, packed, raw.with_name(raw.name + ".tmp")):
            leftover.unlink(missing_ok=True)
    return path.stat().st_size


def _check(written: Path, path: Path, rank: int) -> None:
    """What is to be `path` exists, is JSON to its end, holds events and names the right rank (torch names it if it knows one)."""
    try:
        trace = json.loads(written.read_bytes())
    except (OSError, ValueError) as error:
        found = f"only the first {written.stat().st_size:,} bytes" if written.exists() else "no file"
        raise OutputError(
            f"{path}: torch wrote no usable trace of rank {rank}: {found}; {shutil.disk_usage(path.parent).free >> 20:,} MB are free there",
            "is the disk full, or a quota? Is a range name odd?",
        ) from error
    if not trace.get("traceEvents"):
        raise OutputError(f"{path}: the trace of rank {rank} has no events", "was the profiler's window too short?")
    named = trace.get("distributedInfo", {}).get("rank", rank)
    if named != rank:
        raise OutputError(f"{path}: holds rank {named}, expected {rank}", "two ranks wrote to one name")


def _shifted(trace: bytes, by_ns: int) -> bytes:
    """The trace with its base time moved; every event's time is relative to it."""
    return re.sub(rb'("baseTimeNanoseconds": *)(\d+)', lambda m: m[1] + str(int(m[2]) + by_ns).encode(), trace, count=1)
