"""A slow stage of two: what its repair saves is what the job without the fault is shorter by, not half of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import Review


def review(job: Job, faults: Faults, folder: Path) -> Review:
    return analyze(read(plant(job, faults, folder).traces)).review


@pytest.mark.parametrize(
    ("job", "slow", "who"),
    [
        (Job(pp=2, num_microbatches=5, num_steps=2), {1: 1.4}, "rank 1 (stage 1)"),
        (Job(pp=2, dp=2, num_microbatches=3, num_steps=2, schedule="GPipe"), {0: 1.5, 1: 1.5}, "stage 0"),
    ],
)
def test_its_repair_is_worth_the_difference_to_the_twin(
    job: Job, slow: dict[int, float], who: str, tmp_path: Path
) -> None:
    faulty, twin = review(job, Faults(slow_compute=slow), tmp_path / "a"), review(job, Faults(), tmp_path / "b")
    finding = next(each for each in faulty.findings if each.id == "pipeline.stage")
    assert faulty.step.duration_ms.median is not None
    assert twin.step.duration_ms.median is not None
    truth = faulty.step.duration_ms.median - twin.step.duration_ms.median
    assert finding.worth_ms == pytest.approx(truth, rel=0.03)
    assert finding.statement == f"{who} computes longer than the other stage"
