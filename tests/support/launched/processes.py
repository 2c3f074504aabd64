"""Real processes of a recorded loop, each with the environment that a launcher would give it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPT = Path(__file__).with_name("loop_process.py")
ROOT = Path(__file__).parents[3]


def start_loop(folders: Sequence[Path], store: Path, *arguments: str, **environ: str) -> list[subprocess.Popen[str]]:
    """One process per folder, in order of rank; output is kept in pipes."""
    found: list[subprocess.Popen[str]] = []
    for rank, folder in enumerate(folders):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(len(folders)), "STORE": str(store)}
        found.append(
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(folder), *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT), **own, **environ},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return found


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    """Read a process's output up to a line."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(text):
            return
    raise AssertionError(process.stderr.read() if process.stderr else "")
