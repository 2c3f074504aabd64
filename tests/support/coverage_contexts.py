"""A pytest plugin, `-p coverage_contexts`: coverage notes which test reached a line.

PYTHONPATH=tests/support coverage run -m pytest -p coverage_contexts tests/theory
"""

from __future__ import annotations

from collections.abc import Generator

import coverage
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Lines from here to the end of the test, fixtures too, are reached by it."""
    running = coverage.Coverage.current()
    if running is not None:
        running.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        if running is not None:
            running.switch_context("")
