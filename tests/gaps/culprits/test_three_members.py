"""A slow link of one of three members, whose own line is half of what the group shows; and two that only seem to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import Review

TABLES = Job(pp=1, dp=3, num_microbatches=2, num_steps=2, steps_ahead=0, tables_bytes=28 << 20, gradient_bytes=8 << 20)


def review(job: Job, faults: Faults, folder: Path) -> Review:
    return analyze(read(plant(job, faults, folder).traces)).review


@pytest.mark.parametrize(("rank", "factor"), [(2, 3.0), pytest.param(0, 2.5, marks=pytest.mark.wide)])
def test_it_is_named_and_priced_less_what_the_reductions_cost(rank: int, factor: float, tmp_path: Path) -> None:
    slow, twin = (
        review(TABLES, Faults(slow_link={rank: factor}), tmp_path / "a"),
        review(TABLES, Faults(), tmp_path / "b"),
    )
    assert twin.culprits == []
    fault = slow.culprits[0]
    assert (fault.rank, fault.cause) == (rank, "link")
    assert slow.step.duration_ms.median is not None
    assert twin.step.duration_ms.median is not None
    truth = slow.step.duration_ms.median - twin.step.duration_ms.median
    assert fault.ms is not None
    assert 0.9 * truth <= fault.ms <= truth


@pytest.mark.parametrize("job", [Job(pp=1, dp=3, ep=3, moe_layers=2, moe_hot_share=0.5, num_microbatches=2), TABLES])
def test_loads_and_slow_kernels_are_no_links(job: Job, tmp_path: Path) -> None:
    found = review(job, Faults(slow_compute={1: 1.3} if job is TABLES else {}), tmp_path)
    assert [each.rank for each in found.culprits if each.cause == "link"] == []
