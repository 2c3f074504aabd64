"""A prediction as one record: what `predict --json` writes, every number with its unit in its name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import polars as pl
from msgspec import Meta, Struct

from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.prediction.comparison import Prediction, Refusal, Workload
from traceanalyzer.theory.schedules.closed_forms import ClosedForm
from traceanalyzer.theory.simulator.op_times import PairMode, SendMode

SCHEMA_VERSION = 1
_NS_PER_MS = 1e6

Varied = Literal["num_ranks", "num_microbatches", "num_chunks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """How the bubble changes with one thing."""

    varied: Varied
    """The column of `table` that was varied."""
    table: pl.DataFrame
    """In the `SWEEP` schema."""
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Everything that one call of `predict` found."""

    workload: Workload
    source: str
    """Source of the times, in words."""
    results: tuple[Prediction | Refusal, ...]
    sweep: Sweep | None

    @property
    def predictions(self) -> list[Prediction]:
        """What could be simulated, in the order asked for."""
        return [result for result in self.results if isinstance(result, Prediction)]

    @property
    def refusals(self) -> list[Refusal]:
        """What does not exist for the workload."""
        return [result for result in self.results if isinstance(result, Refusal)]


class Inputs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was predicted: the shape of the pipeline, its times, and what messages cost."""

    num_ranks: int
    num_microbatches: Annotated[int, Meta(description="Per step and pipeline.")]
    times: Annotated[str, Meta(description="Source of the times, in words.")]
    recompute_ms: float
    gradient_reduction_ms: float
    optimizer_ms: float
    hop_ms: Annotated[float, Meta(description="Latency of a message.")]
    message_bytes: int
    link_bytes_per_second: Annotated[float | None, Meta(description="null: unlimited.")]
    sends: SendMode
    pairs: PairMode
    pair_share: Annotated[float, Meta(description="Time of an overlapped pair ÷ that of its parts.")]
    activation_bytes: Annotated[
        int | None, Meta(description="Of one microbatch on a rank's share of the model; null if unknown.")
    ]


class ClosedFormRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a formula gives."""

    bubble_share: float
    bubble_ratio: float
    span_bubble_share: float
    bubble_ms: float
    formula: str
    domain: Annotated[str, Meta(description="Domain of the formula.")]
    source: str


class ScheduleRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One schedule, simulated."""

    name: Annotated[str, Meta(description="As asked for: a schedule's name, or an order's file.")]
    schedule: Annotated[ScheduleName | None, Meta(description="null: an order that no named schedule generates.")]
    num_chunks: Annotated[int, Meta(description="Pieces of one model copy on every rank.")]
    stage_ranks: Annotated[list[int], Meta(description="The rank of every stage.")]
    bubble_share: Annotated[float, Meta(description="Of the pipeline phase.")]
    bubble_ratio: Annotated[float, Meta(description="To useful time.")]
    span_bubble_share: Annotated[float, Meta(description="With the longest per-rank window in place of the phase.")]
    makespan_ms: Annotated[float, Meta(description="Length of the pipeline phase.")]
    step_ms: float
    busy_ms: Annotated[list[float], Meta(description="Per rank.")]
    closed_form: ClosedFormRecord | None
    no_closed_form: Annotated[str | None, Meta(description="Why there is none.")]
    peak_in_flight: Annotated[
        list[float], Meta(description="Most microbatches in a rank's share of the model, per rank.")
    ]
    peak_activation_bytes: Annotated[list[int] | None, Meta(description="The same in bytes.")]
    num_messages: Annotated[list[int], Meta(description="Per rank.")]
    message_bytes: int


class RefusalRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule that does not exist for the workload, or deadlocks with its sends."""

    name: str
    reason: str
    hint: str


class SweepRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One schedule at one point of a sweep: a row of the table `SWEEP`."""

    schedule: str
    num_ranks: int
    num_microbatches: int
    num_chunks: int
    bubble_share: float
    bubble_ratio: float
    span_bubble_share: float
    closed_form_share: Annotated[float | None, Meta(description="null if no formula holds.")]
    makespan_ns: int
    peak_in_flight: float


class SweepRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the bubble changes with one thing."""

    varied: Varied
    rows: list[SweepRow]
    refused: list[RefusalRecord]


class PredictionRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `predict --json` writes. Shares are of 1; `null` where something is not known, with the reason beside it."""

    schema_version: int = SCHEMA_VERSION
    inputs: Inputs
    schedules: list[ScheduleRecord]
    refused: list[RefusalRecord]
    sweep: SweepRecord | None
    job: Annotated[
        dict[str, Any] | None, Meta(description="MFU, tokens/s, memory and exchanges of the whole job; with a cluster.")
    ] = None


def record(predicted: Predicted) -> PredictionRecord:
    """The prediction as plain data."""
    return PredictionRecord(
        inputs=_inputs(predicted.workload, predicted.source),
        schedules=[_schedule(prediction) for prediction in predicted.predictions],
        refused=[_refusal(refusal) for refusal in predicted.refusals],
        sweep=None if predicted.sweep is None else _sweep(predicted.sweep),
    )


def _inputs(workload: Workload, source: str) -> Inputs:
    costs = workload.costs
    return Inputs(
        num_ranks=workload.num_ranks,
        num_microbatches=workload.num_microbatches,
        times=source,
        recompute_ms=workload.recompute_ns / _NS_PER_MS,
        gradient_reduction_ms=workload.gradient_reduction_ns / _NS_PER_MS,
        optimizer_ms=workload.optimizer_ns / _NS_PER_MS,
        hop_ms=costs.hop_ns / _NS_PER_MS,
        message_bytes=costs.message_bytes,
        link_bytes_per_second=costs.bytes_per_second,
        sends=costs.sends,
        pairs=costs.pairs,
        pair_share=costs.pair_share,
        activation_bytes=workload.activation_bytes,
    )


def _sweep(swept: Sweep) -> SweepRecord:
    return SweepRecord(
        varied=swept.varied,
        rows=[SweepRow(**row) for row in swept.table.iter_rows(named=True)],
        refused=[_refusal(refusal) for refusal in swept.refusals],
    )


def _schedule(prediction: Prediction) -> ScheduleRecord:
    simulated, form = prediction.simulation, prediction.closed_form
    return ScheduleRecord(
        name=prediction.title,
        schedule=prediction.schedule,
        num_chunks=prediction.num_chunks,
        stage_ranks=list(prediction.stage_ranks),
        bubble_share=simulated.bubble_share,
        bubble_ratio=simulated.bubble_ratio,
        span_bubble_share=simulated.span_bubble_share,
        makespan_ms=simulated.makespan_ns / _NS_PER_MS,
        step_ms=simulated.step_ns / _NS_PER_MS,
        busy_ms=[busy / _NS_PER_MS for busy in simulated.busy_ns],
        closed_form=None if form is None else _closed_form(form),
        no_closed_form=prediction.no_closed_form or None,
        peak_in_flight=list(prediction.peak_in_flight),
        peak_activation_bytes=None if prediction.peak_bytes is None else list(prediction.peak_bytes),
        num_messages=list(simulated.num_messages),
        message_bytes=simulated.message_bytes,
    )


def _closed_form(form: ClosedForm) -> ClosedFormRecord:
    return ClosedFormRecord(
        bubble_share=form.share,
        bubble_ratio=form.ratio,
        span_bubble_share=form.span_share,
        bubble_ms=form.bubble / _NS_PER_MS,
        formula=form.formula,
        domain=form.domain,
        source=form.source,
    )


def _refusal(refusal: Refusal) -> RefusalRecord:
    return RefusalRecord(name=refusal.title, reason=refusal.error.message, hint=refusal.error.hint)


def to_json(found: PredictionRecord) -> bytes:
    """The record as JSON text."""
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema of what `predict --json` writes."""
    return msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(PredictionRecord)))


def schema_text() -> str:
    """The file `prediction.schema.json` of this package."""
    return json.dumps(json_schema(), indent=1) + "\n"
