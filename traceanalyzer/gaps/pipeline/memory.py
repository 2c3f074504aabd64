"""What the ranks of a pipeline hold for backward, against what their schedule and model say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.gaps.pipeline.bubble import PipelineGap
from traceanalyzer.hardware import parse_dtype
from traceanalyzer.job import Job
from traceanalyzer.review import Memory, RankMemory, Withheld
from traceanalyzer.theory.model.activation_memory import stage_activation_bytes
from traceanalyzer.theory.simulator.in_flight import in_flight, peaks

_FORMULA = "e·(4h + heads·head size·(2 + 2·kv heads/heads) + 2f) + 4·(4 + heads) bytes per token and layer (2205.05198, no dropout, fused attention)"
_ELEMENT_BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class MemoryGap(SubjectPart):
    """The memory section of the review."""

    figures: Memory | None
    withheld: tuple[Withheld, ...] = ()

    @property
    def sections(self) -> Mapping[str, object]:
        """Held for backward."""
        return {"memory": self.figures}


def memory_gap(pipeline: PipelineGap, step_records: pl.DataFrame, job: Job | None) -> MemoryGap:
    """Set microbatches in flight and bytes against theory; only where a pipeline was measured."""
    if pipeline.actions.is_empty() or pipeline.ideal_actions.is_empty():
        reason = "no complete pipeline step was measured, so the microbatches in flight are unknown"
        return MemoryGap(None, withheld=(Withheld(metric="memory", reason=reason, code="no_pipeline_step"),))
    kept, why_not = _activation_bytes(pipeline, job)
    counted = _counted(pipeline.actions)
    predicted = _predicted(pipeline.ideal_actions, kept)
    metered = _metered(step_records)
    rows = [
        _rank_memory(rank, counted[rank], predicted[counted[rank][0]], metered.get(rank, {}), known=bool(kept))
        for rank in sorted(counted)
        if counted[rank][0] in predicted
    ]
    figures = Memory(stages=rows, activation_bytes=list(kept), formula=_FORMULA if kept else None)
    return MemoryGap(figures, tuple(_withheld(rows, why_not)))


def _activation_bytes(pipeline: PipelineGap, job: Job | None) -> tuple[tuple[int, ...], str | None]:
    """What a microbatch keeps on each stage; or nothing, and why."""
    if job is None or job.layout is None or not job.model.num_layers or not job.tokens_per_step:
        return (), "the model or its tokens per step are not known"
    if job.layout.tp > 1:
        return (), "how tensor parallelism divides activations is not known"
    places = pipeline.actions.select("stage", "microbatch").max().row(0)
    num_stages, num_microbatches = places[0] + 1, places[1] + 1
    tokens = job.tokens_per_step // (job.layout.num_batch_parts * num_microbatches)
    try:
        size = _ELEMENT_BYTES[parse_dtype(job.dtype)]
        return stage_activation_bytes(job.model, num_stages, tokens, size, job.recompute), None
    except (DomainError, UsageError) as error:
        return (), error.message
    except KeyError:
        return (), f"activations in {job.dtype} are not counted"


def _counted(actions: pl.DataFrame) -> dict[int, tuple[tuple[int, ...], int]]:
    """Rank to its stages and the most microbatches in flight over all steps."""
    stages = {
        rank: tuple(sorted(held)) for rank, held in actions.group_by("rank").agg(pl.col("stage").unique()).iter_rows()
    }
    most = pl.concat([peaks(in_flight(step)) for step in actions.partition_by("step")])
    found = most.group_by("rank").agg(pl.col("peak_in_flight").max()).iter_rows()
    return {rank: (stages[rank], peak) for rank, peak in found}


def _predicted(ideal: pl.DataFrame, kept: tuple[int, ...]) -> dict[tuple[int, ...], tuple[int, int]]:
    """Stages of a rank to its microbatches in flight and their bytes, in the simulated step."""
    stages = {
        rank: tuple(sorted(held)) for rank, held in ideal.group_by("rank").agg(pl.col("stage").unique()).iter_rows()
    }
    held = peaks(in_flight(ideal, kept or 0)).iter_rows()
    return {stages[rank]: (count, num_bytes) for rank, count, num_bytes in held}


def _metered(records: pl.DataFrame) -> dict[int, dict[str, int | None]]:
    """Rank to what its loop metered: over the profiled steps, or over others where only those were metered."""
    names = ["peak_in_flight", "peak_saved_bytes", "peak_allocated_bytes", "peak_reserved_bytes"]
    first = [pl.col(name).filter(pl.col("profiled")).max().fill_null(pl.col(name).max()) for name in names]
    return {row["rank"]: row for row in records.group_by("rank").agg(first).iter_rows(named=True)}


def _rank_memory(
    rank: int,
    counted: tuple[tuple[int, ...], int],
    predicted: tuple[int, int],
    metered: dict[str, int | None],
    *,
    known: bool,
) -> RankMemory:
    own = metered.get("peak_in_flight")
    return RankMemory(
        rank=rank,
        stage=list(counted[0]),
        in_flight=counted[1] if own is None else own,
        in_flight_basis="actions" if own is None else "loop",
        predicted_in_flight=predicted[0],
        peak_bytes=metered.get("peak_saved_bytes"),
        predicted_bytes=predicted[1] if known else None,
        peak_allocated_bytes=metered.get("peak_allocated_bytes"),
        peak_reserved_bytes=metered.get("peak_reserved_bytes"),
    )


def _withheld(rows: list[RankMemory], why_not: str | None) -> Iterable[Withheld]:
    if why_not is not None:
        yield Withheld(metric="memory.stages.predicted_bytes", reason=why_not)
    if all(row.peak_bytes is None for row in rows):
        reason = "the run did not meter what autograd keeps (the reference pipelines on CPU do)"
        yield Withheld(metric="memory.stages.peak_bytes", reason=reason)
