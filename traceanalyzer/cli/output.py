"""Writing results: whole or not at all."""

from __future__ import annotations

import sys
from pathlib import Path

from traceanalyzer.errors import OutputError
from traceanalyzer.traces.capture.manifest import write_whole


def write_bytes(target: str, content: bytes) -> None:
    """Write to a file (through a temporary one beside it), or to standard output for `-`. Raises `OutputError`."""
    if target == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    path = Path(target)
    try:
        write_whole(path, content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{path}: cannot be written: {reason}", "choose another place; nothing was left behind"
        ) from None
