"""Paths of review.json: what they find, and that a slip of the pen is refused."""

from __future__ import annotations

import pytest
from report_cases import expert_case, pipeline_case

from traceanalyzer.errors import UsageError
from traceanalyzer.gates.paths import parse_path, values_at

REVIEW = pipeline_case()[0]


def at(path: str) -> list[object]:
    return [each.value for each in values_at(REVIEW, parse_path(path))]


def test_names_indices_fields_and_lengths() -> None:
    owners = REVIEW.accounting.owners
    assert at("step.duration_ms.median") == [REVIEW.step.duration_ms.median]
    assert at("accounting.owners[0].share") == [owners[0].share]
    assert at("accounting.owners[-1].owner") == [owners[-1].owner]
    assert at(f"accounting.owners[owner={owners[1].owner}].ms") == [owners[1].ms]
    assert at("accounting.owners[*].share") == [each.share for each in owners]
    assert at("accounting.owners.length") == [len(owners)]
    assert at("findings[passed=false].title") == [each.title for each in REVIEW.findings if not each.passed]
    assert at("job.num_stages.value") == [REVIEW.job.num_stages.value if REVIEW.job.num_stages else None]


def test_what_is_not_there_is_nothing_and_what_is_null_is_null() -> None:
    assert at("accounting.owners[99].share") == []
    assert at("accounting.owners[-99].share") == []
    assert at("accounting.owners[owner=nobody].share") == []
    assert at("all_to_all.wait_share") == [None]
    assert at('figures["no.such"].low') == []


def test_entries_of_mappings_are_known_by_key() -> None:
    review = expert_case()[0]
    parse_path('figures["bubble.measured_share"].low')
    assert values_at(review, parse_path('quality.events_dropped["no reason"]')) == []


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("step.duration_ms.medain", "no field 'medain'"),
        ("bubble.measured_shares", "no field 'measured_shares'"),
        ("accounting.owners.share", "there is a list before"),
        ("accounting.owners[onwer=compute].share", "no field 'onwer'"),
        ("step[0]", "no list before"),
        ("step.duration_ms.median.value", "no field 'value'"),
        ("step..median", "cannot read"),
        ("", "is not a path"),
        ("[0]", "is not a path"),
        ("accounting.owners[0", "cannot read"),
    ],
)
def test_what_the_schema_does_not_know_is_refused(path: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_path(path)
