"""The wheel installs one top-level package, which works beside packages of other people called like our folders."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from inputs.tiny_trace import run_of

from hatch_build import moved

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from reports.page.model import Page", "from traceanalyzer.reports.page.model import Page"),
        ("    from reports import text", "    from traceanalyzer.reports import text"),
        ("import reports", "from traceanalyzer import reports"),
        ('"instrumented_runs.worker"', '"traceanalyzer.instrumented_runs.worker"'),
        ("from reports_of_mine import x", "from reports_of_mine import x"),
        ("reports = 3  # reports.", "reports = 3  # reports."),
        ('"reports"', '"reports"'),
    ],
)
def test_imports_are_moved_and_nothing_else(source: str, expected: str) -> None:
    assert moved(source) == expected


@pytest.mark.wide
def test_the_wheel_beside_other_peoples_packages(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(ROOT),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    tops = {path.name for path in (tmp_path / "installed").iterdir()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"traceanalyzer"}
    here = tmp_path / "here"
    for name in ("reports", "instrumented_runs"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise RuntimeError('somebody else')")
    run_of(tmp_path / "run", ["0F0@0-10 0B0@30-50", "1F0@10-20 1B0@20-30"])
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    for arguments in (
        ["analyze", str(tmp_path / "run")],
        ["report", str(tmp_path / "run"), "-o", str(here / "r.html")],
        ["run", "--help"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "traceanalyzer", *arguments],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    assert (here / "r.html").stat().st_size > 100_000
