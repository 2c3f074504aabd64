"""Checks are data: documented, unique, and each one can fail and pass."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from traceanalyzer.gaps.checks.check import Judged
from traceanalyzer.gaps.checks.registry import CHECKS, findings, page
from traceanalyzer.review import Finding, NextSchedules, ScheduleOption, ValidityFigures

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_of_findings_is_current() -> None:
    assert (DOCS / "findings.md").read_text() == page()


def test_ids_are_unique_and_titles_say_what_holds() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.passed != check.failed
        assert check.why.endswith(".")
        assert not check.action.endswith(".")


def only(found: list[Finding], check: str) -> Finding:
    (one,) = [each for each in found if each.id == check]
    return one


def validity(verdict: str) -> ValidityFigures:
    fields = {"cpu_pressure_share": 0.4, "involuntary_switches_per_second": None, "action_spread": 0.2, "reasons": []}
    return msgspec.convert({"verdict": verdict, **fields}, ValidityFigures)


@pytest.mark.parametrize(("verdict", "passed"), [("distorted", False), ("faithful", True)])
def test_a_distorted_timeline_fails(verdict: str, *, passed: bool) -> None:
    found = only(findings(Judged(validity=validity(verdict))), "timeline.faithful")
    assert (found.passed, found.remedy) == (passed, None)
    assert (found.action is None) == passed
    assert findings(Judged(validity=validity("unknown"))) == []


def option(schedule: str, saves_ms: float, *, is_current: bool = False) -> ScheduleOption:
    return ScheduleOption(
        schedule=schedule, num_chunks=1, num_microbatches=8, microbatch="same", phase_ms=100 - saves_ms, saves_ms=saves_ms,
        bubble_share=0.1, peak_in_flight=4, memory_ratio=1.5, num_parameter_copies=1, is_current=is_current,
    )  # fmt: skip


@pytest.mark.parametrize(("saves_ms", "passed"), [(12.0, False), (1.9, True)], ids=["12 of 120 ms", "within noise"])
def test_a_better_schedule_is_a_change_with_its_price(saves_ms: float, *, passed: bool) -> None:
    following = NextSchedules(
        assumptions="", refused={}, layers_to_move=None,
        options=[option("ZBH1", saves_ms), option("1F1B", 0.0, is_current=True)],
    )  # fmt: skip
    judged = Judged(validity=validity("unknown"), next_schedules=following, step_ms=120.0)
    found = only(findings(judged), "schedule.best")
    assert found.passed == passed
    if not passed:
        assert (found.remedy, found.worth_ms, found.culprit) == ("change", 12.0, "ZBH1 with 8 microbatches")
        assert "1.50 times the activations" in found.evidence
