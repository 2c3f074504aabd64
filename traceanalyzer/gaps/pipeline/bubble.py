"""The pipeline bubble of a run against the bubble of its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import polars as pl
from msgspec.structs import replace

from traceanalyzer.gaps.pipeline.actions import pipeline_actions
from traceanalyzer.gaps.pipeline.communication import with_communication
from traceanalyzer.gaps.pipeline.ideal import UNORDERED, IdealPipeline, ideal_pipeline, measured_orders
from traceanalyzer.gaps.pipeline.rows import expected_pipelines, mean_wait_ms, pipeline_bubbles, stage_bubbles
from traceanalyzer.job import Job
from traceanalyzer.measurements.pipeline.bubble import bubble, shares_by_step
from traceanalyzer.measurements.pipeline.replica_waits import replica_exchanges, replica_waits
from traceanalyzer.review import Bubble, BubbleTheory, ClockEffect, StepBubble, Withheld
from traceanalyzer.review.vocabulary import WithheldCode
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.schema import ACTIONS, BUBBLE, empty
from traceanalyzer.tables import Tables

BUBBLE_TOLERANCE = 0.02
"""A measured bubble within 2% (relative) of theory is the schedule's own."""


@dataclass(frozen=True, slots=True)
class PipelineGap:
    """The bubble section of the review with the tables behind it."""

    figures: Bubble | None
    table: pl.DataFrame
    """`BUBBLE`."""
    ideal_actions: pl.DataFrame
    """`ACTIONS` of the simulated step; times start at 0, ranks and step number are those of the shown step."""
    schedule: ScheduleName | None
    """As recognised from the measured order."""
    actions: pl.DataFrame
    """`ACTIONS` with `pipeline`: what was measured."""
    inferred: bool
    """Stages and microbatches were inferred, not labelled."""
    withheld: tuple[Withheld, ...]
    unordered: bool = False
    """No schedule known by name has this order: `stage` is the rank's place, what an action needs its messages show."""
    clock_effects: tuple[ClockEffect, ...] = ()
    """What the clocks' uncertainty does to the measured share."""


def pipeline_gap(
    tables: Tables, job: Job | None, splits: pl.DataFrame, messages: pl.DataFrame, hides_transfer: str | None = None
) -> PipelineGap:
    """Measure the bubble of every complete pipeline step and set it against closed form and simulation.

    `splits` (`COLLECTIVE_SPLITS`) shows when replicas exchanged something, `messages` (`COMMUNICATIONS`) when pipeline
    messages were on their way; `hides_transfer` why they do not.
    """
    found = pipeline_actions(tables, job)
    if found.why_not is not None:
        return without_pipeline(found.why_not, found.code)
    actions = with_communication(found.actions, tables)
    unstated = _why_no_transfer(tables) or hides_transfer
    table = bubble(actions, transfers_of(messages), replica_exchanges(splits))
    num_pipelines, expected = table["pipeline"].n_unique(), expected_pipelines(tables, job, actions)
    all_here = num_pipelines == expected and tables.clock.one_clock
    waits = None if expected == 1 else replica_waits(table, splits, tables.kernels, all_here=all_here)
    ideal = UNORDERED if found.unordered else ideal_pipeline(actions, job)
    shares = shares_by_step(table, tables.steps)
    figures = _figures(
        shares_by_step(table, tables.steps, pooled=True), ideal.figures, no_transfer=unstated is not None
    )
    figures = replace(
        figures,
        stages=stage_bubbles(table, actions, waits, no_transfer=unstated is not None),
        steps=[StepBubble(**row) for row in shares.select("step", "pipeline", "measured_share").iter_rows(named=True)],
        pipelines=pipeline_bubbles(shares, actions, waits),
        num_pipelines=num_pipelines,
        num_pipelines_expected=expected,
        replica_wait_ms=mean_wait_ms(waits),
    )
    return PipelineGap(
        figures=figures,
        table=table,
        ideal_actions=_ideal_actions(ideal, actions, shares),
        schedule=ideal.recognised,
        actions=actions,
        inferred=found.inferred,
        withheld=(*ideal.withheld, *_no_transfer(unstated), *_apart(found.set_apart)),
        unordered=found.unordered,
    )


def without_pipeline(reason: str, code: WithheldCode | None = None) -> PipelineGap:
    """No bubble section, and why."""
    withheld = (Withheld(metric="bubble", reason=reason, code=code),)
    return PipelineGap(None, empty(BUBBLE), empty(ACTIONS), None, empty(ACTIONS), False, withheld)


def _why_no_transfer(tables: Tables) -> str | None:
    if tables.p2p.is_empty() and tables.receives.is_empty():
        return "no messages are recorded; what they take is part of the overhead"
    is_gloo = not tables.receives.is_empty() or "gloo" in tables.ranks["backend"].drop_nulls().to_list()
    return "gloo records no transfer; what a message takes is part of the overhead" if is_gloo else None


def _apart(reason: str | None) -> list[Withheld]:
    return [] if reason is None else [Withheld(metric="bubble.steps", reason=reason)]


def _no_transfer(reason: str | None) -> list[Withheld]:
    metrics = ("bubble.transfer_share", "bubble.stages.transfer_ms")
    return [] if reason is None else [Withheld(metric=metric, reason=reason) for metric in metrics]


def transfers_of(communications: pl.DataFrame) -> pl.DataFrame:
    """Intervals in which pipeline messages were on their way: `rank`, `start_ns`, `end_ns`."""
    known = communications.filter((pl.col("role") == "pp") & pl.col("wait_ns").is_not_null())
    return known.select("rank", (pl.col("start_ns") + pl.col("wait_ns")).alias("start_ns"), "end_ns")


def _figures(shares: pl.DataFrame, theory: BubbleTheory, *, no_transfer: bool) -> Bubble:
    """Medians over steps of what all pipelines give together."""
    return Bubble(
        measured_share=_median(shares["measured_share"]),
        measured_ratio=_median(shares["measured_ratio"]),
        span_share=_median(shares["span_share"]),
        idle_share=_median(shares["idle_share"]),
        share_of_step=_median(shares["share_of_step"]),
        transfer_share=None if no_transfer else _median(shares["transfer_share"]),
        exposed_dp_share=_median(shares["exposed_dp_share"]),
        overhead_share=_median(shares["overhead_share"]),
        phase_ms=_median(shares["phase_ns"] / 1e6),
        theory=theory,
        stages=[],
        steps=[],
    )


class ShownStep(NamedTuple):
    """One step of one pipeline."""

    pipeline: int
    step: int


def shown_step(shares: pl.DataFrame) -> ShownStep:
    """Pipeline and step whose bubble is nearest to the median: the one to look at."""
    distance = (pl.col("measured_share") - pl.col("measured_share").median()).abs()
    row = shares.sort(distance, "pipeline", "step").row(0, named=True)
    return ShownStep(int(row["pipeline"]), int(row["step"]))


def _ideal_actions(ideal: IdealPipeline, actions: pl.DataFrame, shares: pl.DataFrame) -> pl.DataFrame:
    if ideal.simulation is None:
        return empty(ACTIONS)
    pipeline, step = shown_step(shares)
    ranks = measured_orders(actions.filter(pl.col("pipeline") == pipeline))[2]
    return ideal.simulation.actions.with_columns(
        pl.col("rank").replace_strict(dict(enumerate(ranks)), return_dtype=pl.Int32),
        pl.lit(step, pl.Int32).alias("step"),
    )


def _median(values: pl.Series) -> float | None:
    median = values.median()
    return float(median) if isinstance(median, (int, float)) else None
