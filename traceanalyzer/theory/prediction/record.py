"""A prediction as one record: what `predict --json` writes, every number with its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from traceanalyzer.theory.prediction.comparison import Prediction, Refusal, Workload

SCHEMA_VERSION = 1
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """How the bubble changes with one thing."""

    varied: str
    """The column of `table` that was varied: num_ranks, num_microbatches or num_chunks."""
    table: pl.DataFrame
    """In the `SWEEP` schema."""
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Everything that one call of `predict` found."""

    workload: Workload
    source: str
    """Where the times are from, in words."""
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


def record(predicted: Predicted) -> dict[str, Any]:
    """The prediction as plain data. Shares are of 1; `null` where something is not known, with the reason beside it."""
    workload, costs = predicted.workload, predicted.workload.costs
    swept = predicted.sweep
    return {
        "schema_version": SCHEMA_VERSION,
        "inputs": {
            "num_ranks": workload.num_ranks,
            "num_microbatches": workload.num_microbatches,
            "times": predicted.source,
            "recompute_ms": workload.recompute_ns / _NS_PER_MS,
            "gradient_reduction_ms": workload.gradient_reduction_ns / _NS_PER_MS,
            "optimizer_ms": workload.optimizer_ns / _NS_PER_MS,
            "hop_ms": costs.hop_ns / _NS_PER_MS,
            "message_bytes": costs.message_bytes,
            "link_bytes_per_second": costs.bytes_per_second,
            "sends": str(costs.sends),
            "pairs": str(costs.pairs),
            "pair_share": costs.pair_share,
            "activation_bytes": workload.activation_bytes,
        },
        "schedules": [_schedule(prediction) for prediction in predicted.predictions],
        "refused": [_refusal(refusal) for refusal in predicted.refusals],
        "sweep": None
        if swept is None
        else {
            "varied": swept.varied,
            "rows": swept.table.to_dicts(),
            "refused": [_refusal(refusal) for refusal in swept.refusals],
        },
    }


def _schedule(prediction: Prediction) -> dict[str, Any]:
    simulated, form = prediction.simulation, prediction.closed_form
    return {
        "name": prediction.title,
        "schedule": None if prediction.schedule is None else str(prediction.schedule),
        "num_chunks": prediction.num_chunks,
        "stage_ranks": list(prediction.stage_ranks),
        "bubble_share": simulated.bubble_share,
        "bubble_ratio": simulated.bubble_ratio,
        "span_bubble_share": simulated.span_bubble_share,
        "makespan_ms": simulated.makespan_ns / _NS_PER_MS,
        "step_ms": simulated.step_ns / _NS_PER_MS,
        "busy_ms": [busy / _NS_PER_MS for busy in simulated.busy_ns],
        "closed_form": None
        if form is None
        else {
            "bubble_share": form.share,
            "bubble_ratio": form.ratio,
            "span_bubble_share": form.span_share,
            "bubble_ms": form.bubble / _NS_PER_MS,
            "formula": form.formula,
            "domain": form.domain,
            "source": form.source,
        },
        "no_closed_form": prediction.no_closed_form or None,
        "peak_in_flight": list(prediction.peak_in_flight),
        "peak_activation_bytes": None if prediction.peak_bytes is None else list(prediction.peak_bytes),
        "num_messages": list(simulated.num_messages),
        "message_bytes": simulated.message_bytes,
    }


def _refusal(refusal: Refusal) -> dict[str, str]:
    return {"name": refusal.title, "reason": refusal.error.message, "hint": refusal.error.hint}


def to_json(found: dict[str, Any]) -> bytes:
    """The record as JSON text."""
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"
