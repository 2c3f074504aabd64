"""Several schedules for one job, simulated side by side with their closed forms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import polars as pl

from traceanalyzer.errors import DomainError, TraceAnalyzerError
from traceanalyzer.schedule import RankOrders, ScheduleName
from traceanalyzer.theory.model.stage_times import Cut, StageTimes
from traceanalyzer.theory.schedules.closed_forms import ClosedForm, bubble_share
from traceanalyzer.theory.schedules.known import schedule
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order, placement
from traceanalyzer.theory.simulator.deadlock import DeadlockError
from traceanalyzer.theory.simulator.in_flight import in_flight, peaks
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode, SendMode
from traceanalyzer.theory.simulator.simulation import Simulation, simulate

SWEEP = pl.Schema(
    {
        "schedule": pl.String,
        "num_ranks": pl.Int32,
        "num_microbatches": pl.Int32,
        "num_chunks": pl.Int32,
        "bubble_share": pl.Float64,  # of the pipeline phase
        "bubble_ratio": pl.Float64,  # to useful time
        "span_bubble_share": pl.Float64,  # with the longest per-rank window
        "closed_form_share": pl.Float64,  # null if no formula holds
        "makespan_ns": pl.Int64,
        "peak_in_flight": pl.Float64,  # microbatches' activations of a rank's share of the model, worst rank
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is to be scheduled: the shape of the pipeline, its times, and what messages cost."""

    num_ranks: int
    num_microbatches: int
    cut: Cut
    num_chunks: int = 2
    """For the schedules that leave it open."""
    group_size: int | None = None
    """Likewise."""
    recompute_ns: int = 0
    """Forward run again before the gradients, for a rank's share of the model."""
    gradient_reduction_ns: int = 0
    """Likewise, once a step."""
    optimizer_ns: int = 0
    """Likewise, once a step."""
    costs: OpTimes = field(default=OpTimes(forward_ns=0))
    """What messages and pairs cost; its times are not used."""
    activation_bytes: int | None = None
    """What one microbatch keeps on a rank's share of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One schedule, simulated."""

    title: str
    schedule: ScheduleName | None
    """None: an order that no named schedule generates."""
    num_chunks: int
    """Pieces of one model copy on every rank."""
    stage_ranks: tuple[int, ...]
    simulation: Simulation
    closed_form: ClosedForm | None
    no_closed_form: str
    """Why there is none; empty if there is."""
    peak_in_flight: tuple[float, ...]
    """Most microbatches whose activations a rank holds, in its share of the model, per rank."""
    peak_bytes: tuple[int, ...] | None
    """The same in bytes; None if the size of an activation is not known."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A schedule that does not exist for the workload, or deadlocks with its sends."""

    title: str
    error: TraceAnalyzerError


def predict(name: ScheduleName, workload: Workload) -> Prediction:
    """Simulate a named schedule. Raises `DomainError` if it does not exist for the workload."""
    num_chunks = chunks_per_rank(name) or workload.num_chunks
    group_size = workload.group_size if schedule(name).is_grouped else None
    orders = order(name, workload.num_ranks, workload.num_microbatches, num_chunks, group_size)
    stage_ranks = placement(name, workload.num_ranks, num_chunks)
    times = workload.cut(workload.num_ranks * num_chunks)
    closed_form, reason = _closed_form(name, workload, num_chunks, group_size, times)
    copies = len(stage_ranks) // (workload.num_ranks * num_chunks)
    simulated = _simulated(orders, stage_ranks, times.doubled() if copies == 2 else times, workload, num_chunks)
    return _prediction(str(name), name, num_chunks, stage_ranks, simulated, workload, (closed_form, reason))


def predict_order(
    title: str, orders: RankOrders, stage_ranks: tuple[int, ...], known: ScheduleName | None, workload: Workload
) -> Prediction:
    """Simulate an order of any kind. Raises `DeadlockError` and `UsageError`.

    Its stages are the cuts of one model copy, or of two where the order is known to be DualPipe.
    """
    copies = schedule(known).num_copies if known else 1
    num_stages = len(stage_ranks) // copies
    times = workload.cut(num_stages)
    num_chunks = max(1, num_stages // len(orders))
    simulated = _simulated(orders, stage_ranks, times.doubled() if copies == 2 else times, workload, num_chunks)
    return _prediction(
        title, known, num_chunks, stage_ranks, simulated, workload, (None, "the order comes from a file")
    )


def predict_all(names: Iterable[ScheduleName], workload: Workload) -> list[Prediction | Refusal]:
    """Simulate several schedules; one that cannot run here is refused, the others go on."""
    results: list[Prediction | Refusal] = []
    for name in names:
        try:
            results.append(predict(name, workload))
        except (DomainError, DeadlockError) as error:
            results.append(Refusal(str(name), error))
    return results


def _simulated(
    orders: RankOrders, stage_ranks: Sequence[int], times: StageTimes, workload: Workload, num_chunks: int
) -> Simulation:
    stage = replace(
        workload.costs,
        forward_ns=times.forward_ns,
        input_gradient_ns=times.input_gradient_ns,
        weight_gradient_ns=times.weight_gradient_ns,
        recompute_ns=round(workload.recompute_ns / num_chunks),
        gradient_reduction_ns=round(workload.gradient_reduction_ns / num_chunks),
        optimizer_ns=round(workload.optimizer_ns / num_chunks),
    )
    return simulate(orders, stage_ranks, stage)


def _closed_form(
    name: ScheduleName, workload: Workload, num_chunks: int, group_size: int | None, times: StageTimes
) -> tuple[ClosedForm | None, str]:
    """The closed form, or why there is none."""
    costs = workload.costs
    if not times.uniform:
        return None, "stages take unequal times"
    if costs.sends is not SendMode.ASYNC or costs.occupancy_ns:
        return None, "messages hold ranks or share links"
    if schedule(name).has_pairs and not _pairs_as_published(costs):
        return None, "overlapped pairs do not run as one op that takes as long as its parts"
    recompute = round(workload.recompute_ns / num_chunks)
    try:
        form = bubble_share(
            name,
            workload.num_ranks,
            workload.num_microbatches,
            num_chunks,
            times.forward_ns[0] * num_chunks,
            (times.input_gradient_ns[0] + recompute) * num_chunks,
            times.weight_gradient_ns[0] * num_chunks,
            hop=costs.hop_ns,
            group_size=group_size,
        )
    except DomainError as error:
        return None, error.message
    return form, ""


def _pairs_as_published(costs: OpTimes) -> bool:
    """Serial pairs with late sends make the published bubble too, as long as messages take no time."""
    late = costs.pairs is PairMode.SERIAL_LATE and not costs.hop_ns
    return costs.pair_share == 1.0 and (late or costs.pairs is PairMode.OVERLAPPED)


def _prediction(
    title: str,
    name: ScheduleName | None,
    num_chunks: int,
    stage_ranks: tuple[int, ...],
    simulated: Simulation,
    workload: Workload,
    closed_form: tuple[ClosedForm | None, str],
) -> Prediction:
    kept = None if workload.activation_bytes is None else workload.activation_bytes // num_chunks
    peak_bytes = None
    if kept is not None:
        peak_bytes = tuple(peaks(in_flight(simulated.actions, kept))["peak_bytes"])
    return Prediction(
        title=title,
        schedule=name,
        num_chunks=num_chunks,
        stage_ranks=stage_ranks,
        simulation=simulated,
        closed_form=closed_form[0],
        no_closed_form=closed_form[1],
        peak_in_flight=tuple(held / num_chunks for held in simulated.peak_in_flight),
        peak_bytes=peak_bytes,
    )


class Sweep(NamedTuple):
    """Schedules over workloads."""

    table: pl.DataFrame
    """`SWEEP`."""
    refusals: list[Refusal]
    """What does not exist."""


def sweep(names: Sequence[ScheduleName], workloads: Iterable[Workload]) -> Sweep:
    """The `SWEEP` table of every schedule for every workload, and what does not exist."""
    rows: list[tuple[object, ...]] = []
    refusals: list[Refusal] = []
    seen: set[tuple[object, ...]] = set()
    for workload in workloads:
        for name, result in zip(names, predict_all(names, workload), strict=True):
            if isinstance(result, Refusal):
                refusals.append(result)
                continue
            point = (str(name), workload.num_ranks, workload.num_microbatches, result.num_chunks)
            if point in seen:
                continue  # the schedule does not depend on what was varied
            seen.add(point)
            simulated, form = result.simulation, result.closed_form
            shares = (simulated.bubble_share, simulated.bubble_ratio, simulated.span_bubble_share)
            closed = form.share if form else None
            rows.append((*point, *shares, closed, simulated.makespan_ns, max(result.peak_in_flight)))
    return Sweep(pl.DataFrame(rows, schema=SWEEP, orient="row"), refusals)
