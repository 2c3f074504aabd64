"""What all tests share: tiers, a corpus of third-party traces, and a browser test that must not be skipped in CI.

Three tiers: `make test` leaves `wide` and `soak` out, `make test-all` leaves `soak` out, `make soak` runs the rest. A test that
is one of many alike says `@pytest.mark.sweep(n)`: n of its cases, spread evenly over them, are quick and the others `wide`.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from hypothesis import settings

settings.register_profile("every tier", deadline=None)  # a busy host is not a failure
settings.register_profile("quick", deadline=None, max_examples=30)


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples a property is tried on, before test modules are imported."""
    settings.load_profile("quick" if "not wide" in config.option.markexpr else "every tier")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all but a few cases of every sweep as wide, before `-m` selects and the order is shuffled."""
    sweeps: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sweep"):
            sweeps[item.nodeid.partition("[")[0]].append(item)
    for cases in sweeps.values():
        num_quick = min(cases[0].get_closest_marker("sweep").args[0], len(cases))  # type: ignore[union-attr]
        quick = {at * len(cases) // num_quick for at in range(num_quick)}
        for at, case in enumerate(cases):
            if at not in quick:
                case.add_marker(pytest.mark.wide)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real traces named by TRACEANALYZER_CORPUS."""
    folder = os.environ.get("TRACEANALYZER_CORPUS")
    if not folder:
        pytest.skip("TRACEANALYZER_CORPUS names no folder of real traces")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"TRACEANALYZER_CORPUS={folder} is not a folder")
    return path


@pytest.fixture(scope="session")
def running_chromium() -> Iterator[Any]:
    """A running Chromium, driven by playwright."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=list(browser.QUIET_ARGUMENTS))
        yield found
        found.close()


@pytest.fixture
def chromium(running_chromium: Any) -> Iterator[Any]:
    """The running Chromium. The pages that a test opened close with it, so that none takes time from a later test."""
    yield running_chromium
    for context in running_chromium.contexts:
        context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped browser test is a failure where a browser is required."""
    report = yield
    required = os.environ.get("TRACEANALYZER_REQUIRE_BROWSER")
    if required and report.skipped and item.get_closest_marker("browser"):
        report.outcome = "failed"
        report.longrepr = f"browser test skipped where a browser is required: {report.longrepr}"
    return report
