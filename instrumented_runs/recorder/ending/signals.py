"""SIGTERM and Ctrl-C reach the loop as exceptions, so that what was profiled is written; also where it hangs in a call.

Python runs signal handlers only between its own instructions, and a rank that waits for another one inside torch has none.
So the byte that the interpreter writes on arrival of a signal wakes a thread here. If the loop has not begun to end some
seconds later, this process's connections are cut: the call fails, and the exception unwinds the loop.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

_AROUND = re.compile(r"^\[[^\]\s]+\.(?:cc|cpp|h|cu):\d+\] ?|\.? This is typically caused by .*$")
PATIENCE_S = 5.0
"""Seconds a loop gets to end by itself; launchers kill 20 to 30 seconds after they asked."""


class Terminated(SystemExit):
    """The process was asked to end by SIGTERM. Its exit status is that of a process that the signal ended."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Termination:
    """Watches for SIGTERM and SIGINT from its making until `close`; only in the main thread, and only if nobody else does."""

    def __init__(self) -> None:
        self.ending = threading.Event()
        """Set by the recorder once the loop ends, for whatever reason."""
        self._handler: Any = None
        self._pipe: tuple[int, int] | None = None
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._handler = signal.signal(signal.SIGTERM, _raise)
        self._watch()

    def close(self) -> None:
        """Give the signals back."""
        self.ending.set()
        if self._pipe is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._pipe[1])  # ends the thread
            self._pipe = None
        if self._handler is not None and signal.getsignal(signal.SIGTERM) is _raise:
            signal.signal(signal.SIGTERM, self._handler)
            self._handler = None

    def _watch(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        if before != -1:  # somebody's event loop: it stays theirs
            signal.set_wakeup_fd(before)
            os.close(reading)
            os.close(writing)
            return
        self._pipe = (reading, writing)
        threading.Thread(target=self._listen, args=(reading,), name="recorder signals", daemon=True).start()

    def _listen(self, reading: int) -> None:
        while came := os.read(reading, 64):
            if {signal.SIGTERM, signal.SIGINT} & set(came) and not self.ending.wait(PATIENCE_S):
                cut_connections()
        os.close(reading)


def why(error: BaseException | None) -> str:
    """Why a loop ended, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted (SIGINT)"
    if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
        return "terminated (SIGTERM)"
    return "" if error is None else f"{type(error).__name__}: {first_line(error)}"


def tell_end(rank: int, step: int, reason: str, folder: Path) -> None:
    """One line on standard error of a loop that did not come to its end."""
    sys.stderr.write(f"rank {rank} ended in step {step}: {reason}; what it recorded is in {folder}\n")


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without the place in torch's source and its advice to read other logs."""
    return _AROUND.sub("", (str(error).splitlines() or [""])[0])[:300]


def cut_connections() -> None:
    """Shut every connection of this process: whoever waits in one gets an error."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as same:
                if not same.getsockopt(
                    socket.SOL_SOCKET, socket.SO_ACCEPTCONN
                ):  # gloo ends a process whose listener goes
                    same.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            continue


def _raise(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the trace is being written
    raise Terminated
