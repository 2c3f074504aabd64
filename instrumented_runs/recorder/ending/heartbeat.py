"""A small file per rank that tells a run that lives from one that stopped, and where its ranks are.

A thread of its own writes it: a process that was killed or frozen stops beating, one that hangs in its loop beats on and
says where it hangs.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import msgspec

from traceanalyzer.job import HEARTBEAT_S, STATUS_FILE, RankRecord, RankStatus

_NUM_CALLS = 4
_OWN = os.sep + "recorder" + os.sep


class Heartbeat:
    """Writes this rank's `RankStatus` until it ends. A file that cannot be written is not a reason to stop a loop."""

    def __init__(self, folder: Path, job_id: str, record: RankRecord, num_ranks: int) -> None:
        self._path = folder / STATUS_FILE.format(rank=record.rank)
        self._loop_thread = threading.get_ident()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._status = RankStatus(
            job_id=job_id,
            record=record,
            world_size=num_ranks,
            state="running",
            started_ns=process_start_ns(),
            beat_ns=time.time_ns(),
        )
        self._write(self._status)
        threading.Thread(target=self._beat, name="recorder heartbeat", daemon=True).start()

    def at_step(self, last_step: int) -> None:
        """The loop finished a step; written with the next beat."""
        with self._lock:
            self._status = dataclasses.replace(self._status, last_step=last_step)

    def end(self, state: str, reason: str = "") -> None:
        """The last beat: `completed`, or `stopped` and why."""
        if self._over.is_set():
            return
        self._over.set()
        with self._lock:
            status = dataclasses.replace(self._status, state=state, reason=reason, beat_ns=time.time_ns())
            self._write(status)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            with self._lock:
                if self._over.is_set():
                    return
                calls = calls_of(sys._current_frames().get(self._loop_thread))  # noqa: SLF001 - a public function in all but name
                self._status = dataclasses.replace(self._status, beat_ns=time.time_ns(), calls=calls)
                self._write(self._status)

    def _write(self, status: RankStatus) -> None:
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.encode(status) + b"\n")
            temporary.replace(self._path)
        except OSError:
            return


def calls_of(frame: FrameType | None) -> str:
    """The innermost calls of a thread, innermost first, as `module.function:line`, this package's own left out."""
    found: list[str] = []
    while frame is not None and len(found) < _NUM_CALLS:
        if _OWN not in frame.f_code.co_filename:
            module = str(frame.f_globals.get("__name__", "?"))
            found.append(f"{module}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)


def process_start_ns() -> int:
    """When this process began, by the wall clock; now, where the kernel does not say."""
    now = time.time_ns()
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        since_boot = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return now
    return now - int((since_boot - ticks / os.sysconf("SC_CLK_TCK")) * 1e9)
