"""Small jobs to plan, and their whole space by plain loops."""

from __future__ import annotations

import itertools
from dataclasses import replace

from traceanalyzer.errors import DomainError
from traceanalyzer.model import ModelShape
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.memory.recipes import find_recipe
from traceanalyzer.theory.planning.frameworks import ANY
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pipelines import CHUNKS
from traceanalyzer.theory.schedules.orders import check, chunks_per_rank

GIB = 2**30
DENSE = ModelShape(
    num_layers=6,
    hidden_size=512,
    num_heads=8,
    num_kv_heads=4,
    head_size=64,
    ffn_size=1536,
    vocab_size=8000,
    gated_mlp=True,
)
SPARSE = replace(DENSE, num_experts=4, experts_per_token=2, expert_ffn_size=768, num_dense_layers=1)


def job(shape: ModelShape = DENSE, **changes: object) -> PlanJob:
    given = {
        "shape": shape,
        "cluster": find_cluster("DGX A100"),
        "num_devices": 8,
        "sequence_length": 2048,
        "batch_size": 16,
        "recipe": find_recipe("bf16"),
        "framework": ANY,
    }
    return PlanJob(**(given | changes))  # type: ignore[arg-type]


def plain_space(at: PlanJob) -> list[Configuration]:
    """Every configuration that the texts call valid, by plain loops; only whole policies or so many whole layers."""
    shape, n = at.shape, at.num_devices
    found = []
    experts = range(1, shape.num_experts + 1) if shape.num_experts else (1,)
    for tp, cp, pp, ep in itertools.product(range(1, n + 1), range(1, n + 1), range(1, n + 1), experts):
        if n % (tp * cp * pp) or shape.num_heads % tp or pp > shape.num_layers or at.sequence_length % tp:
            continue
        if shape.num_kv_heads % tp and tp % shape.num_kv_heads:
            continue
        if cp > 1 and (at.sequence_length % (2 * cp * tp) or at.sequence_length < 1024 * cp):
            continue
        dp = n // (tp * cp * pp)
        if at.batch_size % dp or (shape.num_experts and shape.num_experts % ep):
            continue
        for etp in {1, tp} if shape.num_experts else {1}:
            if dp * cp * tp % (ep * etp) or (shape.num_experts and shape.expert_ffn_size % etp):
                continue
            places = {"tp": tp, "cp": cp, "pp": pp, "dp": dp, "ep": ep, "etp": etp}
            found += [replace(each, **places) for each in plain_steps(at, dp, pp)]
    return found


def plain_steps(at: PlanJob, dp: int, pp: int) -> list[Configuration]:
    found = []
    schedules = ANY.schedules if pp > 1 else (ScheduleName("GradAccumulation"),)
    for schedule, size, zero in itertools.product(schedules, range(1, at.batch_size // dp + 1), range(4)):
        if at.batch_size % (dp * size):
            continue
        count = at.batch_size // (dp * size)
        for chunks in CHUNKS if chunks_per_rank(schedule) is None else (chunks_per_rank(schedule) or 1,):
            if pp * chunks > at.shape.num_layers or not runs(schedule, pp, count, chunks):
                continue
            one = Configuration(
                zero=zero, schedule=schedule, num_chunks=chunks, microbatch_size=size, num_microbatches=count
            )
            found += [replace(one, policy=policy) for policy in (Policy.NONE, Policy.SELECTIVE, Policy.FULL)]
            most = -(-at.shape.num_layers // (pp * chunks)) * chunks + 1
            found += [
                replace(one, policy=policy, num_recomputed_layers=layers)
                for policy in (Policy.NONE, Policy.SELECTIVE)
                for layers in range(1, most)
            ]
    return found


def runs(schedule: ScheduleName, pp: int, count: int, chunks: int) -> bool:
    try:
        check(schedule, pp, count, chunks)
    except DomainError:
        return False
    if schedule == ScheduleName("ZBVZeroBubble"):
        return count >= 2 * pp - 1
    if schedule == ScheduleName("ZBH1"):
        return count >= pp
    return schedule != ScheduleName("InterleavedZeroBubble") or count % pp == 0
