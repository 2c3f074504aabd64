"""Checks are data: documented, unique, and each one can fail and pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from traceanalyzer.gaps.checks.registry import CHECKS, page

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_of_findings_is_current() -> None:
    assert (DOCS / "findings.md").read_text() == page()


def test_ids_are_unique_and_titles_say_what_holds() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.passed != check.failed
        assert check.why.endswith(".")
        assert not check.action.endswith(".")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_every_check_is_named_by_a_test_of_runs(check: object) -> None:
    tests = Path(__file__).parents[2]
    name = f'"{check.id}"'  # type: ignore[attr-defined]
    own = Path(__file__)
    assert any(name in file.read_text() for file in tests.rglob("test_*.py") if file != own), f"no test names {name}"
