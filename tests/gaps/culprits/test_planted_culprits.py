"""Ranks that fall behind their peers, on planted GPU traces: named, with their cause, and priced like the clean twin says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import Review

CLEAN = Faults(varying_compute=0.01, varying_transfer=0.2)


def review_of(job: Job, faults: Faults, folder: Path) -> Review:
    plant(job, faults, folder)
    return analyze(read(folder)).review


def median_ms(review: Review) -> float:
    assert review.step.duration_ms.median is not None
    return review.step.duration_ms.median


DATA = Job(pp=1, dp=3, num_microbatches=3, num_steps=3, gradient_bytes=8 << 20)
SLOW = {
    "two replicas": (Job(pp=1, dp=2, num_microbatches=4, num_steps=3), 1, 1.25),
    "three replicas": (DATA, 2, 1.1),
    "a pipeline's replica": (Job(pp=3, dp=2, num_microbatches=6, num_steps=2), 3, 1.6),
    "unlabelled": (Job(pp=2, dp=4, num_microbatches=4, num_steps=2, labels=None, coalesced=True), 6, 1.4),
    "one step": (Job(pp=1, dp=4, num_microbatches=5, num_steps=1), 0, 1.5),
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", SLOW)
def test_a_slow_rank_is_named_and_priced(name: str, tmp_path: Path) -> None:
    job, rank, factor = SLOW[name]
    clean = review_of(job, Faults(), tmp_path / "clean")
    slow = review_of(job, Faults(slow_compute={rank: factor}), tmp_path / "slow")
    assert clean.culprits == []
    (fault,) = slow.culprits
    assert (fault.rank, fault.cause, fault.basis) == (rank, "computation", "replay")
    assert fault.ms == pytest.approx(median_ms(slow) - median_ms(clean), rel=0.1)
    assert fault.slowdown == pytest.approx(factor, rel=0.05)
    assert fault.kernel is not None
    assert ("whether it recurs is not known" in fault.evidence) == (job.num_steps == 1)
    assert [each.rank for each in slow.stragglers] == [rank]
    assert [each.rank for each in slow.findings if each.id == "ranks.computation"] == [rank]


STALLED = {
    "replicas": (replace(DATA, steps_ahead=0), 1, 3, 9_000_000),
    "experts": (
        Job(pp=1, dp=4, ep=4, moe_layers=2, num_microbatches=2, num_steps=3, steps_ahead=0), 2, 1, 9_000_000,
    ),
    "a stage without replicas": (Job(pp=3, num_microbatches=5, num_steps=3, steps_ahead=0), 1, 6, 60_000_000),
}  # fmt: skip


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", STALLED)
def test_a_host_that_pauses_is_named_and_priced(name: str, tmp_path: Path) -> None:
    job, rank, position, pause = STALLED[name]
    stalls = {(rank, step, position): pause for step in range(1, job.num_steps + 1)}
    clean = review_of(job, Faults(), tmp_path / "clean")
    late = review_of(job, Faults(host_stall_ns=stalls), tmp_path / "late")
    assert clean.culprits == []
    (fault,) = late.culprits
    assert (fault.rank, fault.cause) == (rank, "host")
    assert fault.ms == pytest.approx(median_ms(late) - median_ms(clean), rel=0.1)
    assert "host of rank" in fault.evidence


def test_a_pause_in_one_step_of_three_is_no_fault(tmp_path: Path) -> None:
    once = Faults(host_stall_ns={(1, 2, 3): 9_000_000})
    assert review_of(DATA, once, tmp_path).culprits == []


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    "job",
    [
        DATA,
        Job(pp=2, dp=3, num_microbatches=4, num_steps=3),
        Job(pp=1, dp=4, ep=4, moe_layers=2, moe_hot_share=0.5, num_microbatches=2, num_steps=3),
        Job(pp=4, num_microbatches=6, num_steps=2),
    ],
)
def test_nobody_is_named_where_ranks_are_alike(job: Job, tmp_path: Path) -> None:
    review = review_of(job, CLEAN, tmp_path)
    assert review.culprits == []
    passed = {each.id: each.passed for each in review.findings}
    assert passed.get("ranks.computation", job.dp == 1)


@pytest.mark.wide
def test_the_replica_of_a_captured_pipeline_is_priced_in_its_place(tmp_path: Path) -> None:
    job = Job(pp=3, dp=3, num_microbatches=5, num_steps=2, ranks_per_host=16)
    away = frozenset({1, 2, 7, 8})
    clean = review_of(job, Faults(), tmp_path / "clean")
    found = review_of(job, Faults(slow_compute={5: 1.4}, missing_ranks=away), tmp_path / "slow")
    whole = review_of(job, Faults(slow_compute={5: 1.4}), tmp_path / "whole")
    (fault,) = found.culprits
    assert (fault.rank, fault.basis) == (5, "replica")
    assert fault.ms == pytest.approx(median_ms(whole) - median_ms(clean), rel=0.1)
