"""What the schedule of a run should give: its closed form, and the simulation of the order it really ran.

Both use *uniform stages*: the median time of each phase over microbatches, steps and stages (`blame.base_times`), free
transfer, no jitter, no host delay. That is the ideal of the attribution, too. The share is pooled as the measured one is:
every whole captured pipeline of a step in its own order, Σ dependency ÷ Σ phase, median over steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.gaps.causes.blame import base_times
from traceanalyzer.job import Job
from traceanalyzer.review import BubbleTheory, Withheld
from traceanalyzer.schedule import Action, Op, OverlappedPair, Phase, RankOrders, ScheduleName
from traceanalyzer.theory.schedules.closed_forms import ClosedForm, bubble_share
from traceanalyzer.theory.schedules.recognise import recognise
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode
from traceanalyzer.theory.simulator.simulation import Simulation, simulate

StageTimes = dict[tuple[int, str], int]
"""Median duration of a phase on a stage, in nanoseconds, by stage and phase letter."""


@dataclass(frozen=True, slots=True)
class IdealPipeline:
    """Theory of one run."""

    figures: BubbleTheory
    simulation: Simulation | None
    recognised: ScheduleName | None
    """The schedule whose order the run executed; None if it is none that is known by name."""
    withheld: tuple[Withheld, ...]


_NO_ORDER = (
    "the unlabelled chunks do not follow any schedule known by name (zero-bubble orders are among these), so their stages "
    "and microbatches are unknown"
)
UNORDERED = IdealPipeline(
    figures=BubbleTheory(
        closed_form_share=None,
        closed_form_ratio=None,
        simulated_share=None,
        simulated_ratio=None,
        simulated_span_share=None,
        simulated_phase_ms=None,
        formula=None,
        schedule=None,
        domain=None,
        source=None,
    ),
    simulation=None,
    recognised=None,
    withheld=tuple(
        Withheld(metric=metric, reason=_NO_ORDER)
        for metric in (
            "bubble.theory.closed_form_share",
            "bubble.theory.simulated_share",
            "bubble.theory.simulated_span_share",
            "bubble.theory.simulated_phase_ms",
            "bubble.attribution_ms",
            "job.schedule",
        )
    ),
)
"""No theory: the order of the measured actions is not known."""


def measured_orders(actions: pl.DataFrame) -> tuple[RankOrders, tuple[int, ...], list[int]]:
    """The order of the first pipeline step, the pipeline position of every stage, and the ranks by position."""
    first = actions.filter(pl.col("pipeline") == actions["pipeline"].min())
    first = first.filter(pl.col("step") == first["step"].min()).sort("rank", "start_ns")
    by_stage = first.group_by("rank").agg(pl.col("stage").min()).sort("stage")
    ranks = [int(rank) for rank in by_stage["rank"]]
    orders = [rank_ops(first.filter(pl.col("rank") == rank)) for rank in ranks]
    holder = dict(first.select("stage", "rank").unique().iter_rows())
    return orders, tuple(ranks.index(holder[stage]) for stage in sorted(holder)), ranks


def rank_ops(actions: pl.DataFrame) -> list[Op]:
    """A rank's ops: actions released together form an overlapped pair."""
    ops: list[Op] = []
    rows = list(actions.select("stage", "phase", "microbatch", "release_ns").iter_rows())
    at = 0
    while at < len(rows):
        action = Action(rows[at][0], Phase(rows[at][1]), rows[at][2])
        paired = rows[at][3] is not None and at + 1 < len(rows) and rows[at + 1][3] == rows[at][3]
        if paired:
            second = rows[at + 1]
            ops.append(OverlappedPair(action, Action(second[0], Phase(second[1]), second[2])))
        else:
            ops.append(action)
        at += 2 if paired else 1
    return ops


def uniform_times(actions: pl.DataFrame) -> dict[str, int]:
    """Stages evened out, for what else these layers could do: the mean over stages of each phase's median duration, in nanoseconds, by phase letter."""
    duration = pl.col("end_ns") - pl.col("start_ns")
    medians = actions.group_by("stage", pl.col("phase").cast(pl.String)).agg(duration.median().alias("ns"))
    means = medians.group_by("phase").agg(pl.col("ns").mean())
    return {phase: round(ns) for phase, ns in means.iter_rows()}


def ideal_pipeline(actions: pl.DataFrame, job: Job | None) -> IdealPipeline:
    """Theory for complete pipeline steps (`ACTIONS` with `pipeline`)."""
    orders, stage_ranks, _ = measured_orders(actions)
    times = base_times(actions)
    withheld: list[Withheld] = []
    recognised = recognise(orders, stage_ranks)
    declared = job.schedule if job is not None else None
    closed = _closed_form(recognised, declared, orders, stage_ranks, actions, times, withheld)
    simulation = _simulation(orders, stage_ranks, times, withheld)
    pooled = _pooled(actions, times, simulation) if simulation else None
    own = _pooled(actions, times, simulation, _stage_times(actions)) if simulation else None
    figures = BubbleTheory(
        closed_form_share=closed.share if closed else None,
        closed_form_ratio=closed.ratio if closed else None,
        simulated_share=pooled.share if pooled else None,
        simulated_ratio=pooled.ratio if pooled else None,
        simulated_span_share=pooled.span_share if pooled else None,
        simulated_phase_ms=pooled.phase_ns / 1e6 if pooled else None,
        own_times_share=own.share if own else None,
        formula=f"bubble = {closed.formula}, share = bubble ÷ (M·T + bubble)" if closed else None,
        schedule=recognised,
        domain=closed.domain if closed else None,
        source=closed.source if closed else None,
    )
    return IdealPipeline(figures, simulation, recognised, tuple(withheld))


@dataclass(frozen=True, slots=True)
class _Pooled:
    """Simulated shares of all pipelines of a step together, median over steps."""

    share: float
    ratio: float
    span_share: float
    phase_ns: float


def _pooled(
    actions: pl.DataFrame, times: dict[str, int], first: Simulation, stage_times: StageTimes | None = None
) -> _Pooled:
    """Every pipeline step in its own order; each different order is simulated once, one that cannot be as the first."""
    simulated_of = {
        order: _simulated_as(rows, times, stage_times) or first
        for (order,), rows in _with_order(actions).partition_by("_order", as_dict=True).items()
    }
    sums = [
        (step, sum(each.busy_ns), sum(each.span_ns), each.makespan_ns * len(each.busy_ns), len(each.busy_ns))
        for _, step, order in _with_order(actions).select("pipeline", "step", "_order").unique().iter_rows()
        for each in (simulated_of[order],)
    ]
    totals = (
        pl.DataFrame(sums, schema=["step", "busy", "span", "phase", "num_ranks"], orient="row").group_by("step").sum()
    )
    shares = totals.select(
        (1 - pl.col("busy") / pl.col("phase")).median().alias("share"),
        (pl.col("phase") / pl.col("busy") - 1).median().alias("ratio"),
        (1 - pl.col("busy") / pl.col("span")).median().alias("span_share"),
        (pl.col("phase") / pl.col("num_ranks")).median().alias("phase_ns"),
    )
    return _Pooled(*shares.row(0))


def _with_order(actions: pl.DataFrame) -> pl.DataFrame:
    """Add `_order`, the same number for pipeline steps whose ranks by place run the same actions in the same order."""
    group = ["pipeline", "step"]
    place = pl.col("stage").min().over(*group, "rank").alias("_place")
    paired = (pl.col("release_ns") == pl.col("release_ns").shift(-1).over(*group, "rank")).fill_null(value=False)
    what = pl.struct("_place", "stage", "phase", "microbatch", paired.alias("paired")).rank("dense")
    ordered = actions.with_columns(place).sort(*group, "_place", "start_ns").with_columns(what.alias("_what"))
    texts = ordered.group_by(group).agg(pl.col("_what").cast(pl.String).str.join(" ").alias("_text"))
    numbered = texts.select(*group, pl.col("_text").rank("dense").alias("_order"))
    return actions.join(numbered, on=group, how="left", maintain_order="left")


def _stage_times(actions: pl.DataFrame) -> StageTimes:
    duration = pl.col("end_ns") - pl.col("start_ns")
    medians = actions.group_by("stage", pl.col("phase").cast(pl.String)).agg(duration.median().round().cast(pl.Int64))
    return {(stage, phase): ns for stage, phase, ns in medians.iter_rows()}


def _own_times(orders: RankOrders, stage_times: StageTimes) -> dict[Action, int]:
    halves = [(op.first, op.second) if isinstance(op, OverlappedPair) else (op,) for order in orders for op in order]
    return {each: stage_times[each.stage, each.phase.value] for single in halves for each in single}


def _simulated_as(
    actions: pl.DataFrame, times: dict[str, int], stage_times: StageTimes | None = None
) -> Simulation | None:
    """The simulation of the first pipeline step of `actions`; None if its order cannot run."""
    orders, stage_ranks, _ = measured_orders(actions)
    exact = None if stage_times is None else _own_times(orders, stage_times)
    try:
        return simulated(orders, stage_ranks, times, exact=exact)
    except TraceAnalyzerError:
        return None


def _closed_form(
    name: ScheduleName | None,
    declared: str | None,
    orders: RankOrders,
    stage_ranks: tuple[int, ...],
    actions: pl.DataFrame,
    times: dict[str, int],
    withheld: list[Withheld],
) -> ClosedForm | None:
    metric = "bubble.theory.closed_form_share"
    if name is None:
        beside = f", though {declared} was declared" if declared else ""
        reason = f"the measured order does not match any schedule known by name{beside}"
        withheld.append(Withheld(metric=metric, reason=reason))
        return None
    num_microbatches = int(actions["microbatch"].max() or 0) + 1  # type: ignore[arg-type, operator]
    chunks = len(stage_ranks) // len(orders)
    input_gradient = times.get("I", times.get("B", 0))
    try:
        return bubble_share(
            name,
            len(orders),
            num_microbatches,
            chunks,
            forward=times["F"],
            backward_input=input_gradient,
            backward_weight=times.get("W", 0),
        )
    except TraceAnalyzerError as error:
        withheld.append(Withheld(metric=metric, reason=error.message))
        return None


def _simulation(
    orders: RankOrders, stage_ranks: tuple[int, ...], times: dict[str, int], withheld: list[Withheld]
) -> Simulation | None:
    try:
        return simulated(orders, stage_ranks, times)
    except TraceAnalyzerError as error:
        withheld.append(Withheld(metric="bubble.theory.simulated_share", reason=error.message))
        return None


def simulated(
    orders: RankOrders,
    stage_ranks: tuple[int, ...],
    times: dict[str, int],
    *,
    hop_ns: int = 0,
    exact: Mapping[Action, int] | None = None,
) -> Simulation:
    """A measured order with equal stages or `exact` durations, each message taking `hop_ns`; raises what `simulate` raises."""
    op_times = OpTimes(
        forward_ns=times["F"],
        input_gradient_ns=times.get("I", 0),
        weight_gradient_ns=times.get("W", 0),
        backward_ns=times.get("B"),
        hop_ns=hop_ns,
        exact_ns=exact,
        pairs=PairMode.SERIAL_LATE,
    )
    return simulate(orders, stage_ranks, op_times)
