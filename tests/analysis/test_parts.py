"""Subjects give parts: each table and each section of the result comes from one of them, and claims are the last gate."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.analysis.claimed import claimed
from traceanalyzer.analysis.measure import Measured, measure
from traceanalyzer.review import Review
from traceanalyzer.schema import result_tables

OF_RUN = {"actions", "collectives", "ops", "wait_bounds", "defects", "step_records"}
"""Tables that no single subject makes."""


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    plant(Job(pp=3, num_microbatches=5, num_steps=2), Faults(slow_compute={1: 1.3}), folder)
    return folder


@pytest.fixture(scope="module")
def found(traces: Path) -> Measured:
    return measure(read(traces))


def test_every_table_is_of_one_subject(found: Measured) -> None:
    given = Counter(name for part in found.subjects.parts for name in part.tables)
    assert set(given.values()) == {1}
    assert set(given) == set(result_tables()) - OF_RUN


def test_every_section_of_a_subject_is_a_field_of_the_result(found: Measured, traces: Path) -> None:
    given = Counter(name for part in found.subjects.parts for name in part.sections)
    assert set(given.values()) == {1}
    assert set(given) <= {field.name for field in msgspec.structs.fields(Review)}
    review = analyze(read(traces)).review
    assert all(getattr(review, name) == part.sections[name] for part in found.subjects.parts for name in part.sections)


def test_what_is_withheld_is_listed_subject_by_subject(found: Measured) -> None:
    of_parts = [item for part in found.subjects.parts for item in part.withheld]
    assert of_parts
    assert found.claimed.withheld == of_parts  # all ranks are here: coverage adds nothing


def test_coverage_is_applied_to_the_claims_and_not_to_the_parts(found: Measured, traces: Path) -> None:
    """Figures of all ranks under the coverage of one."""
    alone = measure(read(traces, ranks=[1])).captured
    claims = claimed(found.subjects, alone, None)
    whole = found.subjects.pipeline.figures
    assert whole is not None
    assert whole.blame
    assert claims.bubble is not None
    assert (claims.bubble.blame, claims.bubble.measured_share, claims.stragglers) == ([], None, [])
    reasons = {item.metric: item.reason for item in claims.withheld}
    assert reasons["bubble.blame"] == "one rank shows how long it waits, not which rank is slow"
