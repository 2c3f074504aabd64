"""What even experts would save beside a rank that is slow itself: priced like the same job with even loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from planted import Faults, Job, plant, simulate

from traceanalyzer.analysis.assemble import analyze, read

ALONE = {"pp": 1, "num_microbatches": 2, "num_steps": 2, "steps_ahead": 0}
JOBS = {
    "a light rank is slow": (Job(**ALONE, dp=5, ep=5, moe_layers=2, moe_hot_share=0.35), 3, 1.4),
    "the hot rank is slow": (Job(**ALONE, dp=4, ep=4, moe_layers=1, moe_hot_share=0.2), 0, 1.6),
    "in a pipeline": (Job(pp=2, dp=3, ep=3, moe_layers=1, moe_hot_share=0.4, num_microbatches=3), 4, 1.5),
}


def step_ms(job: Job, faults: Faults) -> float:
    """Of the last step, from the end of the one before it."""
    ends: dict[int, int] = {}
    for operation in simulate(job, faults).device_ops:
        ends[operation["step"]] = max(ends.get(operation["step"], 0), operation["end_ns"])
    last = max(ends)
    return (ends[last] - ends[last - 1]) / 1e6


@pytest.mark.parametrize("name", JOBS)
def test_a_load_beside_a_slow_rank_is_priced_at_the_slow_ranks_own_speed(name: str, tmp_path: Path) -> None:
    job, rank, factor = JOBS[name]
    faults = Faults(slow_compute={rank: factor})
    measured = step_ms(job, faults)
    truth = measured - step_ms(replace(job, moe_hot_share=0.0), faults)
    planted = plant(job, faults, tmp_path)
    figures = analyze(read(planted.traces)).review.all_to_all
    assert figures is not None
    (worth,) = [item for item in figures.worth if item.remedy == "balanced_experts"]
    assert worth.ms == pytest.approx(truth, abs=0.01 * measured)


@pytest.mark.wide
@pytest.mark.parametrize("num_steps", [1, 2])
def test_a_rank_with_more_tokens_is_not_called_slow(num_steps: int, tmp_path: Path) -> None:
    """Uneven experts cost too little beside rank 5 to be reported; the fullest ranks of other stages are as fast by row."""
    job = Job(pp=4, dp=4, ep=2, moe_layers=1, moe_hot_share=0.25, num_microbatches=4, num_steps=num_steps)
    review = analyze(read(plant(job, Faults(slow_compute={5: 2.0}), tmp_path).traces)).review
    slow = [
        each for each in review.findings if each.id in ("pipeline.straggler", "pipeline.stage", "ranks.computation")
    ]
    assert {each.rank for each in slow if not each.passed} == {5}
