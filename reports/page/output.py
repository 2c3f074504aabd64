"""Writing the report: whole or not at all, readable by its owner only (it may name files and hosts)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from traceanalyzer.errors import OutputError


def write_whole(text: str, path: Path) -> Path:
    """Write `text` to `path` through a new file beside it. Raises `OutputError`; nothing partial is left."""
    temporary: Path | None = None
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is no ordinary file", "give the path of a file, for example report.html")
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: {error.strerror or error}",
            "choose a folder that exists, can be written to and has space left",
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return path
