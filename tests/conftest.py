"""What all tests share: a corpus of third-party traces, and a browser test that must not be skipped in CI."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real traces named by TRACEANALYZER_CORPUS."""
    folder = os.environ.get("TRACEANALYZER_CORPUS")
    if not folder:
        pytest.skip("TRACEANALYZER_CORPUS names no folder of real traces")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"TRACEANALYZER_CORPUS={folder} is no folder")
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped browser test is a failure where a browser is required."""
    report = yield
    required = os.environ.get("TRACEANALYZER_REQUIRE_BROWSER")
    if required and report.skipped and item.get_closest_marker("browser"):
        report.outcome = "failed"
        report.longrepr = f"browser test skipped where a browser is required: {report.longrepr}"
    return report
