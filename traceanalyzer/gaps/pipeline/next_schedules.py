"""What follows: every named schedule simulated at this run's times and global batch, and layers worth moving.

Stages are taken as equal (the mean over stages of each phase's median), transfer as free. A full backward is cut into
halves where a schedule splits it. Where a schedule needs more microbatches, each is half as large and takes half as
long (devices are less efficient on smaller ones, so this flatters it).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.gaps.efficiency.declaration import Declaration
from traceanalyzer.gaps.pipeline.ideal import measured_orders, uniform_times
from traceanalyzer.job import Job
from traceanalyzer.review import LayerMove, NextSchedules, ScheduleOption
from traceanalyzer.schedule import Action, ScheduleName
from traceanalyzer.theory.model.stage_times import from_times
from traceanalyzer.theory.prediction.comparison import Prediction, Workload, predict
from traceanalyzer.theory.schedules.known import schedules
from traceanalyzer.theory.schedules.orders import chunks_per_rank
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode
from traceanalyzer.theory.simulator.simulation import Simulation, simulate

_ASSUMPTIONS = (
    "equal stages, free transfer, same global batch; a split backward takes its halves; half as large microbatches take "
    "half as long; memory counts activations only"
)
_MAX_OPS = 200_000
"""Ops of one simulated step beyond which options are not simulated."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What limits how a run can be cut otherwise; None: not known."""

    num_layers: int | None = None
    num_sequences: int | None = None
    """Of one pipeline in one step."""

    def can_halve(self, num_microbatches: int) -> bool:
        """Whether a microbatch holds at least two sequences, as far as is known."""
        return self.num_sequences is None or self.num_sequences // num_microbatches >= 2


def batch_of(job: Job | None, declared: Declaration, num_pipelines: int) -> Batch:
    """From what is declared, else from the job; without a job there are as many pipelines as were captured."""
    model = declared.model or (job.model if job else None)
    tokens = declared.tokens_per_step or (job.tokens_per_step if job else 0)
    length = declared.sequence_length or (job.sequence_length if job else 0)
    replicas = job.layout.dp if job and job.layout else num_pipelines
    return Batch(
        num_layers=model.num_layers or None if model else None,
        num_sequences=tokens // (length * replicas) if tokens and length else None,
    )


def next_schedules(actions: pl.DataFrame, schedule: ScheduleName | None, batch: Batch) -> NextSchedules | None:
    """Options for a run whose complete pipeline steps are `actions` (`ACTIONS` with `pipeline`); None for one rank."""
    orders, stage_ranks, _ = measured_orders(actions)
    num_microbatches = actions["microbatch"].n_unique()
    if len(orders) < 2 or len(stage_ranks) * num_microbatches * 3 > _MAX_OPS:
        return None
    times = uniform_times(actions)
    chunks = len(stage_ranks) / len(orders)
    simulated = simulate(
        orders,
        stage_ranks,
        OpTimes(
            forward_ns=times["F"],
            input_gradient_ns=times.get("I", 0),
            weight_gradient_ns=times.get("W", 0),
            backward_ns=times.get("B"),
            pairs=PairMode.SERIAL_LATE,
        ),
    )
    own_peak = max(simulated.peak_in_flight) / chunks
    found, refused = _options(len(orders), num_microbatches, _rank_times(times, chunks), batch)
    options = [
        _option(each, scale, simulated.makespan_ns, own_peak, num_microbatches, schedule) for each, scale in found
    ]
    return NextSchedules(
        assumptions=_ASSUMPTIONS,
        options=sorted(options, key=lambda option: (option.phase_ms, option.memory_ratio, option.schedule)),
        refused=refused,
        layers_to_move=_layers_to_move(actions, batch.num_layers),
    )


def _rank_times(times: dict[str, int], chunks: float) -> tuple[float, float, float]:
    """Forward, input- and weight-gradient of one microbatch through a rank's share of the model."""
    full = times.get("B", 0)
    inputs, weights = (times["I"], times.get("W", 0)) if "I" in times else (full / 2, full / 2)
    return times["F"] * chunks, inputs * chunks, weights * chunks


def _options(
    num_ranks: int, num_microbatches: int, rank_ns: tuple[float, float, float], batch: Batch
) -> tuple[list[tuple[Prediction, int]], dict[str, str]]:
    """Predictions, each with the number of pieces a microbatch was cut into, and refusals by schedule."""
    names = [name for name, record in schedules().items() if not record.is_baseline]
    found: list[tuple[Prediction, int]] = []
    refused: dict[str, str] = {}
    for scale in (1, 2):
        whole = (rank_ns[0] / scale, rank_ns[1] / scale, rank_ns[2] / scale)
        work = Workload(
            num_ranks=num_ranks, num_microbatches=num_microbatches * scale, cut=from_times(num_ranks, whole)
        )
        again: list[ScheduleName] = []
        for name in names:
            reason = _too_few_layers(name, num_ranks, batch.num_layers)
            if reason:
                refused[name] = reason
                continue
            try:
                found.append((predict(name, work), scale))
            except TraceAnalyzerError as error:
                refused[name] = error.message
                again.append(name)
            else:
                refused.pop(name, None)
        names = again if batch.can_halve(num_microbatches) else []
    return found, refused


def _too_few_layers(name: ScheduleName, num_ranks: int, num_layers: int | None) -> str:
    num_stages = num_ranks * (chunks_per_rank(name) or 2)
    if num_layers is None or num_layers >= num_stages:
        return ""
    return f"{num_layers} layers cannot be cut into {num_stages} stages"


def _saved_ms(nanoseconds: int) -> float:
    """Milliseconds; what is less than a microsecond comes from halving odd nanoseconds and is nothing."""
    return 0.0 if abs(nanoseconds) < 1000 else nanoseconds / 1e6


def _option(
    each: Prediction, scale: int, current_ns: int, current_peak: float, num_microbatches: int, current: ScheduleName | None
) -> ScheduleOption:  # fmt: skip
    peak = max(each.peak_in_flight) / scale
    stages = len(each.stage_ranks)
    return ScheduleOption(
        schedule=each.title,
        num_chunks=each.num_chunks,
        num_microbatches=num_microbatches * scale,
        microbatch="same" if scale == 1 else "half",
        phase_ms=each.simulation.makespan_ns / 1e6,
        saves_ms=_saved_ms(current_ns - each.simulation.makespan_ns),
        bubble_share=each.simulation.bubble_share,
        peak_in_flight=peak,
        memory_ratio=peak / current_peak,
        num_parameter_copies=stages // (each.num_chunks * each.simulation.num_ranks),
        is_current=each.schedule is current and scale == 1,
    )


def _layers_to_move(actions: pl.DataFrame, num_layers: int | None) -> LayerMove | None:
    """Layers from the slowest stage to the fastest, if evenly cut stages differ by a layer's time or more."""
    num_stages = actions["stage"].n_unique()
    if num_layers is None or num_layers % num_stages:
        return None
    duration = pl.col("end_ns") - pl.col("start_ns")
    medians = actions.group_by("stage", "phase").agg(duration.median().alias("ns"))
    per_stage = medians.group_by("stage").agg(pl.col("ns").sum()).sort("ns", "stage")
    layers = num_layers // num_stages
    usual = per_stage["ns"].median()
    fastest, slowest = per_stage.row(0), per_stage.row(-1)
    if not isinstance(usual, float) or usual <= 0:
        return None
    moving = min(layers - 1, int((slowest[1] - fastest[1]) / 2 / (usual / layers) + 0.5))
    if moving < 1:
        return None
    phases = actions.group_by("phase").agg(duration.median().alias("ns"))
    per_layer = {str(phase): ns / layers for phase, ns in phases.iter_rows()}
    times = {(int(stage), str(phase)): float(ns) for stage, phase, ns in medians.iter_rows()}
    moved = times | {
        (stage, phase): max(0.0, times[stage, phase] + sign * moving * per_layer[phase])
        for stage, sign in ((int(slowest[0]), -1), (int(fastest[0]), 1))
        for phase in per_layer
        if (stage, phase) in times
    }
    try:
        saved = _simulated(actions, times).makespan_ns - _simulated(actions, moved).makespan_ns
    except TraceAnalyzerError:
        return None
    if saved <= 0:
        return None
    return LayerMove(from_stage=slowest[0], to_stage=fastest[0], num_layers=moving, saves_ms=saved / 1e6)


def _simulated(actions: pl.DataFrame, times: dict[tuple[int, str], float]) -> Simulation:
    orders, stage_ranks, _ = measured_orders(actions)
    exact = {
        Action(stage, phase, microbatch): round(times[stage, str(phase.value)])
        for order in orders
        for op in order
        for action in ((op,) if isinstance(op, Action) else (op.first, op.second))
        for stage, phase, microbatch in ((action.stage, action.phase, action.microbatch),)
    }
    return simulate(orders, stage_ranks, OpTimes(forward_ns=0, exact_ns=exact, pairs=PairMode.SERIAL_LATE))
