"""Gates: limits that hold and that break, against nothing and against a baseline, and what is withheld."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from msgspec.structs import replace
from report_cases import pipeline_case

from traceanalyzer.errors import UsageError
from traceanalyzer.gates.file import Gate, Limit, read_gate
from traceanalyzer.gates.formats import github, junit, lines
from traceanalyzer.gates.initial import initial_gate
from traceanalyzer.gates.outcome import Outcome, judged, noise_share
from traceanalyzer.review import Review

REVIEW = pipeline_case()[0]
STEP = REVIEW.step.duration_ms.median or 0.0


def with_step(ms: float, noise_ms: float = 0.0) -> Review:
    step = replace(REVIEW.step, duration_ms=replace(REVIEW.step.duration_ms, median=ms), noise_ms=noise_ms)
    return replace(REVIEW, step=step)


def outcome(review: Review = REVIEW, baseline: Review | None = None, floor: str = "0%", **limit: Any) -> Outcome:
    (found,) = judged(Gate(limit=[Limit(**limit)], floor=floor), review, baseline)
    return found


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ({"max": STEP * 1.001}, "held"),
        ({"max": STEP * 0.999}, "broken"),
        ({"min": STEP * 0.999}, "held"),
        ({"min": STEP * 1.001}, "broken"),
        ({"min": STEP * 0.9, "max": STEP * 0.95}, "broken"),
    ],
)
def test_absolute_limits(limit: dict[str, float], status: str) -> None:
    assert outcome(path="step.duration_ms.median", **limit).status == status


@pytest.mark.parametrize(
    ("ms", "limit", "status"),
    [
        (101.9, {"max_increase": "2%"}, "held"),
        (102.1, {"max_increase": "2%"}, "broken"),
        (104.9, {"max_increase": 5}, "held"),
        (105.1, {"max_increase": 5}, "broken"),
        (97.9, {"max_decrease": "2%"}, "broken"),
        (50.0, {"max_increase": "2%"}, "held"),
    ],
)
def test_limits_against_a_baseline(ms: float, limit: dict[str, Any], status: str) -> None:
    assert outcome(with_step(ms), with_step(100), path="step.duration_ms.median", **limit).status == status


def test_noise_widens_limits_against_a_baseline_and_can_be_left_out() -> None:
    new, base = with_step(103.5, noise_ms=1.2), with_step(100, noise_ms=1.6)
    limit = {"path": "step.duration_ms.median", "max_increase": "2%"}
    assert noise_share(new, base, 0.0) == pytest.approx(0.02, rel=0.02)  # √(1.2² + 1.6²) = 2
    assert outcome(new, base, **limit).status == "held"
    assert outcome(new, base, noise=False, **limit).status == "broken"
    assert outcome(with_step(103.5), with_step(100), floor="2%", **limit).status == "held"


def test_a_limit_without_its_baseline_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="against a baseline, and there is none"):
        outcome(path="step.duration_ms.median", max_increase="2%")


def test_what_is_withheld_never_passes_silently() -> None:
    limit = {"path": "all_to_all.wait_share", "max": 0.5}
    broken, skipped = outcome(**limit), outcome(on_withheld="skip", **limit)
    assert (broken.status, skipped.status) == ("broken", "skipped")
    assert broken.text.startswith("withheld: ")
    assert "gate skipped: all_to_all.wait_share: withheld" in lines([skipped])[0]
    assert outcome(path="findings[id=no.such].passed", equals=True).status == "broken"


def test_an_open_end_is_no_step() -> None:
    opened = replace(REVIEW, step=replace(REVIEW.step, open_end=True))
    found = outcome(opened, path="step.duration_ms.median", max=1e9)
    assert found.status == "broken"
    assert "open" in found.text


def test_every_element_must_hold_and_none_is_as_good_as_all() -> None:
    outcomes = judged(Gate(limit=[Limit(path="accounting.owners[*].share", max=0.3)]), REVIEW, None)
    assert [each.status == "held" for each in outcomes] == [each.share <= 0.3 for each in REVIEW.accounting.owners]
    assert len({each.name for each in outcomes}) == len(outcomes)
    assert outcome(replace(REVIEW, stragglers=[]), path="stragglers[*].cost_ms", max=1).status == "held"


@pytest.mark.parametrize(
    ("limit", "status", "is_withheld"),
    [
        ({"max_increase": "2%"}, "skipped", True),
        ({"max_increase": "2%", "max": 110.0}, "broken", False),
        ({"max_increase": "30%"}, "held", False),
        ({"max": 110.0}, "broken", False),
    ],
)
def test_a_busy_host_is_no_regression(limit: dict[str, Any], status: str, is_withheld: bool) -> None:  # noqa: FBT001 - a parameter of cases
    told = replace(REVIEW.validity, verdict="distorted", reasons=["tasks waited for a core"])
    busy = replace(with_step(120), validity=told, kernels=None)
    found = outcome(busy, with_step(100), path="step.duration_ms.median", on_withheld="skip", **limit)
    assert (found.status, found.is_withheld) == (status, is_withheld)
    assert ("tasks waited for a core" in found.text) is is_withheld


def test_equals() -> None:
    assert outcome(path="quality.verdict", equals=REVIEW.quality.verdict).status == "held"
    assert outcome(path="quality.verdict", equals="unusable").status == "broken"
    assert outcome(path="step.open_end", equals=False).status == "held"


def test_too_few_steps_and_ranks_break_a_gate() -> None:
    limit = [Limit(path="quality.verdict", equals=REVIEW.quality.verdict)]
    found = judged(Gate(limit=limit, min_steps=10_000, min_ranks=1), REVIEW, None)
    assert [(each.name, each.status) for each in found[:2]] == [("min_steps", "broken"), ("min_ranks", "held")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no limit|missing required field"),
        ("[[limit]]\npath = 'step.nothing'\nmax = 1", "no field 'nothing'"),
        ("[[limit]]\npath = 'step.open_end'", "does not say what its value must be"),
        ("[[limit]]\npath = 'mfu.mfu'\nmaxi = 1", "unknown field `maxi`"),
        ("[[limit]]\npath = 'mfu.mfu'\nmax_decrease = '2 points'", "is not a percentage"),
        ("[[limit]]\npath = 'mfu.mfu'\nmax_decrease = -0.1", "negative"),
        ("on_withheld = 'ignore'\n[[limit]]\npath = 'mfu.mfu'\nmin = 0.1", "Invalid enum value"),
        ("[[limit]]\npath = 'mfu.mfu'\nmin = nan", "min is nan, which every value passes or none"),
        ("[[limit]]\npath = 'mfu.mfu'\nmax_decrease = inf", "max_decrease is inf"),
        ("[[limit]]\npath = 'mfu.mfu'\nmin = 0.5\nmax = 0.4", "min is above max"),
        ("min_steps = -1\n[[limit]]\npath = 'mfu.mfu'\nmin = 0.5", "min_steps is negative"),
        ("[[limit\n", "not a gate's file"),
        ("floor = '1'\n[[limit]]\npath = 'mfu.mfu'\nmin = 0.1", "floor '1' is not a percentage"),
    ],
)
def test_a_file_that_is_no_gate_is_refused_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=told) as refused:
        read_gate(file)
    assert str(file) in refused.value.message
    assert "\n" not in refused.value.message


def test_what_init_writes_is_a_gate_that_its_own_result_passes(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(initial_gate(REVIEW, 'base "line".json'))
    gate = read_gate(file)
    assert gate.baseline == 'base "line".json'
    assert gate.limit
    assert {each.status for each in judged(gate, REVIEW, REVIEW)} == {"held"}


HOSTILE = Outcome(name="a,b: c\n<x>", path="p", status="broken", text='100% & "more"\n::error::\x0b')


def test_junit_counts_and_escapes() -> None:
    held = Outcome(name="n", path="p", status="held", text="t")
    skipped = Outcome(name="s", path="p", status="skipped", text="withheld: w")
    root = ET.fromstring(junit([HOSTILE, held, skipped], "gate.toml"))  # noqa: S314 - our own
    (suite,) = root
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    assert [[child.tag for child in case] for case in suite] == [["failure"], [], ["skipped"]]
    assert suite[0][0].get("message", "").startswith("100% & ")


JUNIT: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"testsuite"}, set(), {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
    ),
    "testcase": ({"skipped", "error", "failure", "system-out", "system-err"}, {"name"}, {"time", "classname", "group"}),
    "failure": (set(), set(), {"type", "message"}),
    "skipped": (set(), set(), {"type", "message"}),
}
"""What Jenkins' junit-10.xsd allows in an element: children, attributes that it must have, and that it may have."""
_COUNTS = ("tests", "failures", "errors", "skipped")


def unlike_junit(node: ET.Element) -> list[str]:
    """Where an element and what is in it break the rules."""
    children, must, may = JUNIT[node.tag]
    told = [f"{child.tag} in {node.tag}" for child in node if child.tag not in children]
    told += [f"no {name} of {node.tag}" for name in must - set(node.attrib)]
    told += [f"{name} of {node.tag}" for name in set(node.attrib) - must - may]
    told += [f"{name} is no number" for name in _COUNTS if not node.get(name, "0").isdecimal()]
    if node.tag in ("testsuites", "testsuite", "testcase") and (node.text or "").strip():
        told.append(f"text in {node.tag}")
    return told + [fault for child in node if child.tag in JUNIT for fault in unlike_junit(child)]


def test_junit_keeps_to_the_published_schema() -> None:
    outcomes = [HOSTILE, *(Outcome(name=s, path="p", status=s, text="t") for s in ("held", "broken", "skipped"))]
    for told in (outcomes, outcomes[:1], []):
        root = ET.fromstring(junit(told, "gate.toml"))  # noqa: S314 - our own
        assert (root.tag, unlike_junit(root)) == ("testsuites", [])
    wrong = "<testsuites skipped='1'><testsuite tests='x'><case/></testsuite></testsuites>"
    assert len(unlike_junit(ET.fromstring(wrong))) == 6  # noqa: S314


def test_annotations_of_github_stay_on_their_line() -> None:
    error, notice = github([HOSTILE])
    assert error.startswith("::error title=gate%3A a%2Cb%3A c%0A<x>::100%25 & ")
    assert "\n" not in error
    assert notice == "::notice title=gate::1 limit: 0 held, 1 broken, 0 skipped"
