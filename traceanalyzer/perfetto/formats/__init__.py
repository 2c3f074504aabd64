"""The formats that a timeline is written in, process by process."""

from __future__ import annotations

from typing import Protocol

from traceanalyzer.perfetto.timeline import Process


class Writer(Protocol):
    """Writes a timeline as it is made."""

    num_slices: int
    """Written so far."""

    def process(self, process: Process) -> None:
        """Write a process with all its tracks."""
        ...

    def close(self) -> None:
        """Write what ends the file."""
        ...
