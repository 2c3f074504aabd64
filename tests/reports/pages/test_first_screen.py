"""The first screen: who the run is, what to do first, and a waterfall that sums."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from msgspec import to_builtins
from report_cases import PAYLOADS, expert_case, field, hostile, mfu_case, pipeline_case, review_of

from reports import full_markdown, report, svg, text
from reports.page.model import Opening
from reports.sections.material import Material
from reports.sections.opening import opening
from traceanalyzer.schema import TABLES

KERNELS = {"classes": [], "top": [], "phases": []}


def finding(name: str, **fields: Any) -> dict[str, Any]:
    blank = {
        "id": name, "title": f"title of {name}", "passed": False, "worth_ms": None, "worth_mfu_points": None, "evidence": "",
        "action": f"do {name}", "remedy": "fault", "culprit": f"culprit {name}", "statement": f"the statement of {name}",
    }  # fmt: skip
    return blank | fields


def opened(*findings: dict[str, Any], devices: int | None = 48, **changes: Any) -> Opening:
    """The first screen of a run with a step of 200 ms."""
    plain = to_builtins(pipeline_case()[0])
    plain["step"]["duration_ms"]["median"] = 200.0
    plain["step"]["least_reported_ms"] = 2.0
    plain["findings"] = list(findings)
    plain["kernels"] = KERNELS
    plain["job"]["hardware"] = None
    plain["job"]["num_devices"] = None if devices is None else field(devices)
    plain["job"].pop("world_size", None)
    plain["job"] = {name: value for name, value in plain["job"].items() if value is not None}
    return opening(Material(review_of(plain | changes), {}))


def test_the_largest_savings_come_first_whatever_their_class() -> None:
    found = opened(
        finding("small", worth_ms=4.0),
        finding("schedule", worth_ms=50.0, remedy="change"),
        finding("ideal", worth_ms=90.0, remedy="ideal"),
        finding("noise", worth_ms=1.0),
        finding("bound", at_most_ms=20.0),
        finding("fourth", worth_ms=3.0),
        finding("passed", worth_ms=80.0, passed=True),
    )
    assert [(each.finding, each.kind) for each in found.remedies] == [
        ("schedule", "change"),
        ("bound", "fault"),
        ("small", "fault"),
    ]
    assert "1 more in the findings" in found.remedies_note


def test_a_saving_is_told_in_time_in_share_and_in_hours_of_the_whole_job() -> None:
    first, bound = opened(finding("slow", worth_ms=50.0), finding("late", at_most_ms=10.0)).remedies
    assert (first.saves, first.share, first.device_hours) == ("50.0 ms", "25.0%", "288")  # 0.25 × 48 × 24
    assert (bound.saves, bound.share, bound.device_hours) == ("≤ 10.0 ms", "≤ 5.00%", "≤ 57.6")
    assert first.culprit == "culprit slow"
    assert first.todo == "do slow"


@pytest.mark.parametrize(("devices", "kernels"), [(None, KERNELS), (48, None)])
def test_hours_are_not_told_without_devices(devices: int | None, kernels: object) -> None:
    found = opened(finding("slow", worth_ms=50.0), devices=devices, kernels=kernels)
    assert found.remedies[0].device_hours == ""


def test_a_run_without_a_priced_remedy_says_so() -> None:
    assert opened(finding("noise", worth_ms=1.0)).remedies == ()
    assert opened().remedies_note == "No priced fault or change worth more than 2.00 ms per step was found."


def test_the_waterfall_of_a_phase_ends_where_it_was_measured() -> None:
    found = opening(Material(*pipeline_case()))
    bars = found.bars
    assert bars[0].name == "computation"
    assert bars[-1].name == "measured phase"
    assert bars[-1].text == "1.66 s"
    for before, after in pairwise(bars[:-1]):
        assert before.end in (pytest.approx(after.start), pytest.approx(after.end))
    assert max(bar.end for bar in bars[:-1]) == pytest.approx(1.0, abs=2e-3)


def test_the_waterfall_of_owners_sums_to_the_step() -> None:
    review = to_builtins(expert_case()[0])
    review["accounting"]["owners"] = [
        {"owner": "compute", "share": 0.5, "ms": 30.0},
        {"owner": "wait", "share": 0.4, "ms": 24.0},
        {"owner": "host", "share": 0.1, "ms": 6.0},
    ]
    bars = opening(Material(review_of(review), {})).bars
    assert [(bar.name, round(bar.start, 3), round(bar.end, 3)) for bar in bars] == [
        ("computation", 0.0, 0.5),
        ("wait", 0.5, 0.9),
        ("host", 0.9, 1.0),
        ("measured step", 0.0, 1.0),
    ]
    assert bars[1].text == "24.0 ms · 40.0%"


def test_the_identity_tells_job_mesh_and_capture() -> None:
    ranks = pl.DataFrame(
        {
            "rank": [0, 1],
            "host": ["a", "b"],
            "start_ns": [1_790_857_031_000_000_000] * 2,
            "devices": ['[{"id": 0, "name": "Card X"}]'] * 2,
        },
    )
    review = to_builtins(pipeline_case()[0])
    review["source"]["path"] = "runs/night-7/traces"
    review["job"]["layout"] = field({"pp": 2, "dp": 3, "tp": 1, "ep": 1})
    review["job"]["num_devices"] = field(6)
    del review["job"]["hardware"]
    frame = pl.DataFrame(schema=TABLES["ranks"].schema)
    facts = dict(
        opening(Material(review_of(review), {"ranks": pl.concat([frame, ranks], how="diagonal_relaxed")})).identity
    )
    assert facts["Job"] == "night-7"
    assert facts["Captured on"] == "2026-10-01 12:17 UTC"
    assert facts["Mesh"] == "PP 2 × DP 3 on 6 × Card X on 2 hosts"
    assert facts["Captured"] == "4 of 4 ranks, 3 steps"


def test_the_terminal_and_markdown_tell_the_same_remedies() -> None:
    plain = to_builtins(pipeline_case()[0])
    plain["findings"] = [finding("slow", worth_ms=83.0)]
    review = review_of(plain)
    assert "  1. fault: culprit slow (83.0 ms per step, 4.97%)" in text(review, {})
    assert "| fault | culprit slow | 83.0 ms | 4.97% | do slow |" in full_markdown(review, {})
    assert "culprit slow" in report(review, {})


@pytest.mark.parametrize("case", [pipeline_case, expert_case, mfu_case])
def test_the_picture_is_well_formed_and_names_are_inert(case: Any) -> None:
    for review, tables in (case(), hostile(case())):
        drawn = ET.fromstring(svg(review, tables))  # noqa: S314 - our own text
        assert {element.tag.rpartition("}")[2] for element in drawn.iter()} == {"svg", "rect", "text"}
        assert not any(name.startswith("on") for element in drawn.iter() for name in element.attrib)
    assert PAYLOADS[0] not in svg(*hostile(case()))
