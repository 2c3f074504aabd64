"""What `predict` says of the whole job where a cluster is given: MFU, tokens/s, memory of a rank, exposed exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.options.prediction import Options, read_shape
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.memory.recipes import find_recipe
from traceanalyzer.theory.memory.sharding import check
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pipelines import Pipeline, refusal
from traceanalyzer.theory.planning.prices.pricing import price
from traceanalyzer.theory.planning.runs.published import mfu
from traceanalyzer.theory.prediction.comparison import Prediction
from traceanalyzer.theory.prediction.record import Predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedSchedule:
    """One schedule's price for the job, or why there is none."""

    title: str
    job: PlanJob
    step_ns: float = 0.0
    memory_bytes: float = 0.0
    parts_ns: dict[str, float] | None = None
    reason: str = ""


def price_job(given: Options, predicted: Predicted) -> tuple[PricedSchedule, ...]:
    """Every schedule that was simulated, priced on the cluster. Raises where the degrees make no job."""
    if given.model is None or given.hardware is None:
        raise UsageError("a job needs a model and a cluster", "give --model and --hardware")
    job = PlanJob(
        shape=read_shape(given.model),
        cluster=find_cluster(given.hardware),
        num_devices=given.tp * given.cp * given.dp * given.num_ranks,
        sequence_length=given.sequence_length,
        batch_size=given.dp * given.num_microbatches * given.microbatch_size,
        recipe=find_recipe(given.recipe),
    )
    return tuple(_priced(given, job, each) for each in predicted.predictions)


def _priced(given: Options, job: PlanJob, prediction: Prediction) -> PricedSchedule:
    if prediction.schedule is None:
        return PricedSchedule(title=prediction.title, job=job, reason="an order without a name has no price")
    pipeline = Pipeline(prediction.schedule, given.num_ranks, prediction.num_chunks)
    why = refusal(pipeline, given.num_microbatches)
    if why:
        return PricedSchedule(title=prediction.title, job=job, reason=why)
    chosen = Configuration(
        tp=given.tp,
        cp=given.cp,
        pp=given.num_ranks,
        dp=given.dp,
        ep=given.ep,
        etp=given.etp,
        zero=given.zero,
        schedule=prediction.schedule,
        num_chunks=prediction.num_chunks,
        microbatch_size=given.microbatch_size,
        num_microbatches=given.num_microbatches,
        policy=Policy(given.recompute),
    )
    check(job.shape, chosen.sharding)
    try:
        step, memory, parts = price(job, chosen)
    except DomainError as error:
        return PricedSchedule(title=prediction.title, job=job, reason=error.message)
    return PricedSchedule(title=prediction.title, job=job, step_ns=step, memory_bytes=memory, parts_ns=parts)


def job_record(priced: Sequence[PricedSchedule]) -> list[dict[str, Any]]:
    """As plain data, every number with its unit in its name."""
    return [_record(each) for each in priced]


def _record(each: PricedSchedule) -> dict[str, Any]:
    if each.parts_ns is None:
        return {"name": each.title, "reason": each.reason}
    return {
        "name": each.title,
        "num_devices": each.job.num_devices,
        "step_ms": each.step_ns / 1e6,
        "mfu": mfu(each.job, each.step_ns),
        "tokens_per_second": each.job.tokens_per_step / each.step_ns * 1e9,
        "memory_bytes": each.memory_bytes,
        "fits": each.memory_bytes <= each.job.capacity_bytes,
        "parts_ms": {name: ns / 1e6 for name, ns in each.parts_ns.items()},
        "allowance": asdict(each.job.allowance),
    }
