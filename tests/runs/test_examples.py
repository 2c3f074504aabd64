"""The examples run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.runs


def example(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_recorded_loop_and_its_tables(tmp_path: Path) -> None:
    verdict = example("record_a_loop.py", str(tmp_path / "run"))
    assert "The only rank" in verdict
    tables = example("ask_the_tables.py", str(tmp_path / "run"))
    assert tables.splitlines()[0] == verdict.splitlines()[0]
    assert "compute" in tables


def test_a_schedule_is_chosen() -> None:
    rows = {line.split()[0]: line for line in example("choose_a_schedule.py").splitlines()}
    assert "27.3% simulated, 27.3% by formula" in rows["1F1B"]
    assert "11.1% simulated" in rows["ZBH1"]


def test_every_example_is_run() -> None:
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert names == {"record_a_loop.py", "ask_the_tables.py", "choose_a_schedule.py"}
