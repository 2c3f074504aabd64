"""What holds of every command on every input, however odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from traceanalyzer.cli import main

COMMANDS = {
    "check": ["check"],
    "analyze": ["analyze"],
    "ingest": ["ingest", "--out", "{out}/capture"],
    "report": ["report", "-o", "{out}/page.html"],
}


def outcome(
    command: str, path: Path | str, out: Path, capfd: pytest.CaptureFixture[str], *more: str
) -> tuple[int, str]:
    """Status and everything that was said; the terms that hold of every input are checked."""
    words = [word.format(out=out) for word in COMMANDS[command]]
    status = main([words[0], str(path), *words[1:], *more])
    printed, error = capfd.readouterr()
    assert status in (0, 3), error
    assert status == 0 or len(error.strip().splitlines()) == 2
    assert all(c.isprintable() or c == "\n" for c in printed + error)
    assert "Warning" not in error
    return status, printed + error
