"""Pairs of planted runs that differ by one thing, and what that thing costs: the step with it less the step without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from planted import Faults, Job, simulate

CHANCE = Faults(varying_compute=0.01, varying_transfer=0.2)
"""What every run has."""
SHAPES = ("6144x1536 1536x4608", "6144x4608 4608x1536")
PIPELINE = Job(pp=4, num_microbatches=6, num_steps=5, forward_ns=2_100_000, backward_ns=3_900_000)
SHAPED = replace(PIPELINE, gemm_shapes=SHAPES)
REPLICAS = Job(pp=2, dp=3, num_microbatches=4, num_steps=5, forward_ns=1_700_000, backward_ns=3_300_000)
EXPERTS = Job(pp=1, dp=4, ep=4, moe_layers=1, num_microbatches=3, num_steps=5, moe_tokens=6144)


@dataclass(frozen=True)
class Planting:
    """One change, and what must be named for it."""

    job: Job
    changed: Callable[[Job, Faults], tuple[Job, Faults]]
    kind: str
    ranks: tuple[int, ...] = ()
    word: str = ""
    """What the sentence must say."""


def _slow(rank: int, factor: float) -> Callable[[Job, Faults], tuple[Job, Faults]]:
    return lambda job, chance: (job, replace(chance, slow_compute={rank: factor}))


PLANTINGS = {
    "stage 2 computes 10% longer": Planting(PIPELINE, _slow(2, 1.1), "stage", (2,), "stage 2 (rank 2)"),
    "one rank is slow": Planting(REPLICAS, _slow(4, 1.3), "rank", (4,), "rank 4 computes"),
    "one shape is slower": Planting(
        SHAPED, lambda job, chance: (job, replace(chance, slow_shape={SHAPES[1]: 1.2})), "kernel", (), SHAPES[1]
    ),
    "one link is slower": Planting(
        PIPELINE, lambda job, chance: (job, replace(chance, slow_link={1: 5.0})), "link", (1,), "links of rank 1"
    ),
    "the expert load is worse": Planting(
        EXPERTS, lambda job, chance: (replace(job, moe_hot_share=0.15), chance), "expert_load", (0,), "expert load"
    ),
    "fewer microbatches": Planting(
        PIPELINE, lambda job, chance: (replace(job, num_microbatches=4), chance), "configuration", (), "microbatches 6 → 4"
    ),
}  # fmt: skip


def step_ns(job: Job, faults: Faults) -> float:
    """Median distance of the ends of two steps on the perfect clock, longest rank."""
    ends: dict[tuple[int, int], int] = {}
    for op in simulate(job, faults).device_ops:
        if op["stream"] == 7:  # compute
            key = (op["rank"], op["step"])
            ends[key] = max(ends.get(key, 0), op["end_ns"])
    steps = range(1, job.num_steps + 1)
    return median(max(ends[rank, step] - ends[rank, step - 1] for rank in range(job.world_size)) for step in steps)


def true_change_ns(planting: Planting, chance: Faults) -> float:
    """What the change does to a run with this chance."""
    return step_ns(*planting.changed(planting.job, chance)) - step_ns(planting.job, chance)
