"""Why a run's pipeline steps are longer than their ideal, in the review's words and with the tables behind them."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.gaps.causes.attribution import Attributed, attribute
from traceanalyzer.gaps.causes.blame import Blamed
from traceanalyzer.gaps.causes.graph import DependencyGraph
from traceanalyzer.gaps.causes.message_nodes import device_messages
from traceanalyzer.gaps.causes.worth import MAX_REPLAY_ERROR
from traceanalyzer.gaps.efficiency.declaration import NOTHING, Declaration
from traceanalyzer.gaps.pipeline.bubble import PipelineGap
from traceanalyzer.gaps.pipeline.communication import main_thread_ranks, with_communication
from traceanalyzer.gaps.pipeline.next_schedules import batch_of, next_schedules
from traceanalyzer.gaps.pipeline.sampled import sampled_pipeline
from traceanalyzer.gaps.pipeline.verdict import fault_limit_ms, largest_fault
from traceanalyzer.job import Job
from traceanalyzer.measurements.efficiency.mfu import step_durations
from traceanalyzer.measurements.ledger.intervals import covered_within
from traceanalyzer.review import (
    AttributionMs,
    Culprit,
    Fault,
    NextSchedules,
    RemedyWorth,
    StragglerFigures,
    WaiterBlame,
    Withheld,
)
from traceanalyzer.schema import ATTRIBUTION, BLAME, RECEIVES, conform, empty
from traceanalyzer.tables import Tables

MAX_SHOWN = 100
NO_PIPELINE = -1
"""In place of the pipeline of a rank that was not captured."""
MIN_STRAGGLER_SHARE = 0.005
"""A rank that adds less than this share of the step is not listed as a straggler."""


@dataclass(frozen=True, slots=True)
class PipelineCauses:
    """Attribution, blame, worth and what follows; figures are None if the bubble could not be measured."""

    attribution_ms: AttributionMs | None = None
    culprits: tuple[Culprit, ...] = ()
    blame: tuple[WaiterBlame, ...] = ()
    worth: tuple[RemedyWorth, ...] = ()
    replay_error: float | None = None
    separable: bool | None = None
    fault: Fault | None = None
    fault_limit_ms: float | None = None
    stragglers: tuple[StragglerFigures, ...] = ()
    next_schedules: NextSchedules | None = None
    attribution_table: pl.DataFrame = field(default_factory=lambda: empty(ATTRIBUTION))
    blame_table: pl.DataFrame = field(default_factory=lambda: empty(BLAME))
    steps: tuple[tuple[DependencyGraph, Blamed], ...] = ()
    """The graphs of all pipelines and steps, where all stages were captured."""
    withheld: tuple[Withheld, ...] = ()


def pipeline_causes(
    pipeline: PipelineGap, tables: Tables, job: Job | None, declared: Declaration = NOTHING
) -> PipelineCauses:
    """Explain the complete pipeline steps that the bubble was measured on, else what was captured of them."""
    chosen, num_stages = pipeline.actions, None
    if pipeline.figures is None or chosen.is_empty():
        sampled = sampled_pipeline(tables, job)
        chosen, num_stages = sampled.actions, sampled.num_stages
    if chosen.is_empty() or pipeline.unordered:
        return PipelineCauses()
    received = conform(tables.p2p.filter((pl.col("direction") == "receive") & pl.col("end_ns").is_not_null()), RECEIVES)
    known = chosen if "comm_ns" in chosen.columns else with_communication(chosen, tables)
    actions = _with_launches(known, tables)
    coupled = _coupled(actions, tables)
    try:
        found = attribute(actions, received, num_stages, device_messages(tables.p2p, tables.kernels), coupled=coupled)
    except TraceAnalyzerError as error:
        return PipelineCauses(withheld=(Withheld(metric="bubble.attribution_ms", reason=error.message),))
    held = {
        int(rank): [int(stage) for stage in stages]
        for rank, stages in actions.group_by("rank").agg(pl.col("stage").unique().sort()).iter_rows()
    }
    return PipelineCauses(
        attribution_ms=AttributionMs(
            measured=found.measured_ms, ideal=found.ideal_ms, schedule=found.schedule_ms, **found.causes_ms
        ),
        culprits=tuple(
            Culprit(cause=cause, culprit=rank, stages=held.get(rank, []), ms=ms)
            for cause, rank, ms in found.culprits.head(MAX_SHOWN).iter_rows()
        ),
        blame=tuple(WaiterBlame(**row) for row in found.waits.head(MAX_SHOWN).iter_rows(named=True)),
        worth=tuple(
            RemedyWorth(remedy=each.title, cause=each.cause, rank=each.rank, stage=each.stage, ms=ns / 1e6)
            for each, ns in found.worth.savings
        ),
        replay_error=found.worth.replay_error,
        separable=found.separable,
        fault=largest_fault(found.attribution, tables.actions),
        fault_limit_ms=fault_limit_ms(step_durations(tables.steps)["duration_ns"] / 1e6),
        stragglers=() if num_stages else _stragglers(found, held),
        next_schedules=_next(pipeline, job, declared),
        attribution_table=found.attribution,
        blame_table=found.blame,
        steps=() if num_stages else found.steps,
        withheld=_withheld(found, sampled=num_stages is not None, coupled=coupled),
    )


def _next(pipeline: PipelineGap, job: Job | None, declared: Declaration) -> NextSchedules | None:
    """What to try next; nothing where the measured order cannot be simulated (the theory then says why)."""
    if pipeline.figures is None or pipeline.figures.theory is None or pipeline.figures.theory.simulated_share is None:
        return None
    num_pipelines = pipeline.actions["pipeline"].n_unique()
    return next_schedules(pipeline.actions, pipeline.schedule, batch_of(job, declared, num_pipelines))


def _coupled(actions: pl.DataFrame, tables: Tables) -> bool:
    """Whether ranks of different pipelines (EP, TP, CP) exchange data inside their actions, and so wait for each other."""
    pipeline_of: dict[int, int] = dict(actions.select("rank", "pipeline").unique().iter_rows())
    calls = tables.collectives.filter(pl.col("role").is_in(["ep", "tp", "cp"]) & pl.col("end_ns").is_not_null())
    groups = [text for text in calls["group"].unique() if text]
    across = [text for text in groups if len({pipeline_of.get(int(rank), NO_PIPELINE) for rank in text.split(",")}) > 1]
    shared = calls.filter(pl.col("group").is_in(across)).select("rank", "start_ns", "end_ns")
    return bool(covered_within(actions, shared, "start_ns", "end_ns", "_shared_ns")["_shared_ns"].sum())


def _with_launches(actions: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """Add `launched_ns`: when the call ended that launched an action's first kernel, on device ranks.

    On CPU ranks the main thread is the device: it launches at the start, so all of a late start is the host's. Op tables
    and marks alone show no launches, so a late start stays unexplained.
    """
    messages = tables.p2p.filter(pl.col("role") == "pp")  # they may start in the same nanosecond as an action
    first = tables.kernels.join(actions, on=["rank", "start_ns"], how="semi")
    work = first.join(messages, on=["rank", "cycle", "index"], how="anti")
    launches = work.group_by("rank", "start_ns").agg(pl.col("launch_end_ns").min().alias("launched_ns"))
    of_main = pl.col("rank").is_in(
        main_thread_ranks(tables).join(tables.host_ranks, on="rank", how="semi")["rank"].unique().to_list()
    )
    return actions.join(launches, on=["rank", "start_ns"], how="left", maintain_order="left").with_columns(
        pl.when(of_main).then("start_ns").otherwise("launched_ns").alias("launched_ns")
    )


def _stragglers(found: Attributed, held: dict[int, list[int]]) -> tuple[StragglerFigures, ...]:
    slowdowns: dict[int, float] = dict(found.slowdowns.iter_rows())
    least = MIN_STRAGGLER_SHARE * found.measured_ms
    slow = found.culprits.filter(pl.col("cause").is_in(["stage", "straggler"]) & (pl.col("ms") >= least))
    return tuple(
        StragglerFigures(
            rank=rank,
            stage=held.get(rank, []),
            cause=cause if found.separable or cause == "straggler" else "stage or rank",
            slowdown=slowdowns[rank],
            cost_ms=ms,
        )
        for cause, rank, ms in slow.iter_rows()
    )


def _withheld(found: Attributed, *, sampled: bool, coupled: bool) -> tuple[Withheld, ...]:
    error = found.worth.replay_error
    if error <= MAX_REPLAY_ERROR:
        reason = (
            "ranks of other pipelines wait for these inside their actions (EP, TP, CP): this replay of single pipelines "
            "does not show what they would gain from faster computation"
        )
        return (Withheld(metric="bubble.worth.computation", reason=reason, code="replay"),) if coupled else ()
    reason = f"the replay of all steps misses their measured length by {error:.1%} (limit {MAX_REPLAY_ERROR:.0%})"
    if sampled:
        reason += ": it does not know when ranks that were not captured send"
    return (Withheld(metric="bubble.worth", reason=reason, code="replay"),)
