"""A plan as one record: what `plan job --json` writes, every number with its unit in its name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from msgspec import Meta, Struct

from traceanalyzer.theory.memory.rank import stage_memory
from traceanalyzer.theory.planning.decisions import Decision, Rule
from traceanalyzer.theory.planning.found import Ranked
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.plan import Plan, bubble_share

SCHEMA_VERSION = 1
_NS_PER_MS = 1e6


class PlanRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One configuration with its price."""

    tp: int
    cp: int
    pp: int
    dp: int
    ep: int
    etp: int
    zero: int
    schedule: str
    num_chunks: int
    microbatch_size: int
    num_microbatches: int
    policy: str
    num_recomputed_layers: int
    step_ms: float
    mfu: float
    tokens_per_second: float
    bubble_share: float | None
    memory_bytes: float
    headroom_bytes: float
    parts_ms: Annotated[dict[str, float], Meta(description="Of the step, by what takes it.")]


class RejectedRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configurations that fell for one reason."""

    reason: str
    count: int
    nearest: Annotated[str, Meta(description="The configuration that came nearest.")]
    off_by: Annotated[float | None, Meta(description="By how much it fell, in `unit`.")]
    unit: str


class PlanRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `plan job --json` writes."""

    schema_version: int
    inputs: dict[str, Any]
    num_priced: int
    num_feasible: int
    steps: Annotated[list[Decision], Meta(description="How the fastest was chosen.")]
    rules_of_thumb: list[Rule]
    ranked: Annotated[list[PlanRow], Meta(description="Fastest first.")]
    pareto: Annotated[list[PlanRow], Meta(description="None is both slower and larger than another.")]
    best_memory: Annotated[list[dict[str, Any]] | None, Meta(description="Bytes of the fastest, by pipeline rank.")]
    simulated_bubble_share: float | None
    rejected: list[RejectedRow]
    calibration: Annotated[dict[str, Any] | None, Meta(description="What a measured run gave; with --calibrate.")] = (
        None
    )
    sizes_and_devices: Annotated[
        list[dict[str, Any]] | None, Meta(description="Other sizes and numbers of devices; with --html.")
    ] = None


def record(plan: Plan, *, most: int = 100) -> dict[str, Any]:
    """The plan as plain data, as `PlanRecord` describes it; `most` ranked configurations."""
    found = plan.found
    return {
        "schema_version": SCHEMA_VERSION,
        "inputs": _inputs(plan.job),
        "num_priced": found.num_priced,
        "num_feasible": found.num_feasible,
        "steps": [asdict(each) for each in plan.decisions],
        "rules_of_thumb": [asdict(each) for each in plan.rules],
        "ranked": [_row(plan, each) for each in found.ranked[:most]],
        "pareto": [_row(plan, each) for each in found.pareto],
        "best_memory": _memory(plan) if plan.best else None,
        "simulated_bubble_share": plan.simulated_bubble_share,
        "rejected": [
            {"reason": each.reason, "count": each.count, "nearest": each.nearest, "off_by": None if each.by == float("inf") else each.by, "unit": each.unit}
            for each in found.rejections.values()
        ],
    }  # fmt: skip


def _inputs(job: PlanJob) -> dict[str, Any]:
    return {
        "num_devices": job.num_devices,
        "cluster": job.cluster.name,
        "device": job.cluster.device,
        "capacity_bytes": job.capacity_bytes,
        "sequence_length": job.sequence_length,
        "batch_size": job.batch_size,
        "tokens_per_step": job.tokens_per_step,
        "recipe": job.recipe.name,
        "framework": job.framework.name,
        "gemm_share_of_peak": job.cluster.gemm,
        "attention_share_of_peak": job.cluster.attention,
        "fixed_bytes": job.allowance.fixed_bytes,
        "fragmentation_share": job.allowance.fragmentation,
    }


def _row(plan: Plan, ranked: Ranked) -> dict[str, Any]:
    chosen = asdict(ranked.configuration)
    return {
        **{name: str(value) if isinstance(value, str) else value for name, value in chosen.items()},
        "step_ms": ranked.step_ns / _NS_PER_MS,
        "mfu": plan.mfu(ranked),
        "tokens_per_second": plan.tokens_per_second(ranked),
        "bubble_share": bubble_share(ranked),
        "memory_bytes": ranked.memory_bytes,
        "headroom_bytes": plan.job.capacity_bytes - ranked.memory_bytes,
        "parts_ms": {name: ns / _NS_PER_MS for name, ns in ranked.parts_ns.items()},
    }


def _memory(plan: Plan) -> list[dict[str, Any]]:
    best = plan.best
    if best is None:
        return []
    chosen = best.configuration
    stages = stage_memory(chosen.training(plan.job), chosen.sharding, plan.job.allowance)
    return [{"pipeline_rank": rank, **asdict(memory), "total": memory.total} for rank, memory in stages.items()]
