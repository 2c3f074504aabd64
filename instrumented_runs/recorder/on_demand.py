"""Windows asked for while a job runs: by a file in the run folder, or by a signal to any one rank.

All ranks must begin in the same step, so what they agree on is a file: `record_at` holds the number of the step. A
signal, or an empty file, becomes such a number a few steps ahead.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

REQUEST_FILE = "record_at"
"""In the run folder: the number of the step in which a further window begins. Ranks look for it between steps."""
LEAD_STEPS = 3
"""A request without a number begins this many steps after a rank saw it: others may be a step ahead."""


class Requests:
    """What is asked of one rank. The handler of `start_signal` is this one's until `close`."""

    def __init__(self, folder: Path, rank: int, start_signal: signal.Signals | None) -> None:
        self._path = folder / REQUEST_FILE
        self._rank = rank
        self._signal = start_signal
        self._came = False
        self._handler: Any = None
        if start_signal is not None and threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(start_signal, self._on_signal)

    def begins(self, step: int) -> bool:
        """Whether a window was asked for that begins in `step`, which begins now."""
        if self._came:
            self._came = False
            self._ask(step + LEAD_STEPS)
        try:
            text = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return False
        if not text and self._rank == 0:
            self._ask(step + LEAD_STEPS)
        return text == str(step)

    def close(self) -> None:
        """Give the signal back to whom it belonged."""
        if self._signal is not None and self._handler is not None:
            signal.signal(self._signal, self._handler)
            self._handler = None

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True

    def _ask(self, step: int) -> None:
        temporary = self._path.with_name(f".{REQUEST_FILE}.{self._rank}.{os.getpid()}.tmp")
        temporary.write_text(f"{step}\n", encoding="utf-8")
        temporary.replace(self._path)
