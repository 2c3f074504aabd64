"""MFU that the same job would reach with equal stages and nobody waiting beyond the schedule: what measured MFU is read against.

    predicted step = pipeline phase, simulated + work outside it            (pipelines)
                   = work of a step                                         (everything else)

The phase is this run's own order with every stage at the mean over stages of its median chunk times, each message taking
the run's median transfer, no jitter and no host delay. *Work* is what the ledger owns to computation, transfer and copies,
mean over ranks, median over steps: imbalance, waiting, launches and the host are gone, kernels and links are as fast as
they were. Everything is measured under the profiler, so the prediction stands beside the traced step's MFU.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from msgspec.structs import replace

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.gaps.efficiency.utilisation import UtilisationGap
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.gaps.pipeline.bubble import PipelineGap
from traceanalyzer.gaps.pipeline.ideal import measured_orders, simulated, uniform_times
from traceanalyzer.measurements.efficiency.mfu import utilisation
from traceanalyzer.review import Mfu, Withheld
from traceanalyzer.review.words import percent

_WORK = ["compute", "transfer", "copy"]
_OUTSIDE = ["optimizer", "grad_sync", "other"]
"""Phases of a pipelined step outside the pipeline phase. What lies before a rank's first chunk is mostly the pipeline filling."""
MAX_INSEPARABLE_SHARE = 0.01
"""Share of the step in which wait and transfer may be one, before no prediction is made."""
_METRICS = ("mfu.predicted_mfu", "mfu.predicted_step_ms")


@dataclass(frozen=True, slots=True)
class PredictedMfu(SubjectPart):
    """The prediction, or why there is none."""

    mfu: float | None
    step_ms: float | None
    withheld: tuple[Withheld, ...]


def with_prediction(mfu: Mfu, predicted: PredictedMfu) -> Mfu:
    """The MFU section with its prediction."""
    return replace(mfu, predicted_mfu=predicted.mfu, predicted_step_ms=predicted.step_ms)


def predicted_mfu(
    gap: UtilisationGap, pipeline: PipelineGap, account: pl.DataFrame, exchanged: pl.DataFrame
) -> PredictedMfu:
    """Predict from `ACCOUNTING` and `COMMUNICATIONS` of the run."""
    figures = gap.figures
    if figures.mfu is None or figures.flops_per_step is None or figures.peak_flops_per_device is None:
        return _without(gap.reason or "MFU is not known")
    pipelined = not pipeline.actions.is_empty()
    by_pipeline = account["cause"].is_in(["pp", "receive"]).any()
    if by_pipeline and not pipelined:
        return _without("the pipeline's order of actions is not known")
    counted = account.filter(pl.col("phase").cast(pl.String).is_in(_OUTSIDE)) if pipelined else account
    inseparable = _per_step_ns(counted, ["communication"]) / _per_step_ns(account, None)
    if inseparable > MAX_INSEPARABLE_SHARE:
        return _without(f"in {percent(inseparable)} of the step, wait and transfer cannot be separated")
    try:
        phase_ns = _phase_ns(pipeline.actions, exchanged) if pipelined else 0
    except TraceAnalyzerError as error:
        return _without(error.message)
    step_ns = phase_ns + _per_step_ns(counted, _WORK)
    if step_ns <= 0:
        return _without("no computation in these steps")
    peak, devices = figures.peak_flops_per_device, figures.num_devices or 1
    return PredictedMfu(utilisation(figures.flops_per_step, step_ns, peak, devices), step_ns / 1e6, ())


def _without(reason: str) -> PredictedMfu:
    return PredictedMfu(None, None, tuple(Withheld(metric=metric, reason=reason) for metric in _METRICS))


def _per_step_ns(account: pl.DataFrame, owners: list[str] | None) -> float:
    """Nanoseconds of these owners, mean over ranks, median over steps."""
    ranks = account.group_by("step").agg(pl.col("rank").n_unique().alias("num_ranks"))
    mine = account if owners is None else account.filter(pl.col("owner").cast(pl.String).is_in(owners))
    totals = ranks.join(mine.group_by("step").agg(pl.col("duration_ns").sum()), on="step", how="left")
    median = totals.select(pl.col("duration_ns").fill_null(0) / pl.col("num_ranks")).to_series().median()
    return float(median) if isinstance(median, int | float) else 0.0


def _phase_ns(actions: pl.DataFrame, exchanged: pl.DataFrame) -> int:
    """Length of the simulated pipeline phase, messages included."""
    messages = exchanged.filter((pl.col("role") == "pp") & (pl.col("transfer_ns") > 0))["transfer_ns"].median()
    hop_ns = round(messages) if isinstance(messages, int | float) else 0
    orders, stage_ranks, _ = measured_orders(actions)
    return simulated(orders, stage_ranks, uniform_times(actions), hop_ns=hop_ns).makespan_ns
