"""The pipeline bubble of a run against the bubble of its schedule."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.ideal_pipeline import IdealPipeline, ideal_pipeline, measured_orders
from traceanalyzer.gaps.review import Bubble, BubbleTheory, StageBubble, StepBubble, Withheld
from traceanalyzer.job import Job
from traceanalyzer.measurements.bubble import bubble, dependency_ns, shares_by_step
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.schema import ACTIONS, BUBBLE, empty
from traceanalyzer.tables import Tables

_STEP = ["pipeline", "step"]


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
    withheld: tuple[Withheld, ...]


def pipeline_gap(tables: Tables, job: Job | None) -> PipelineGap:
    """Measure the bubble of every complete pipeline step and set it against closed form and simulation."""
    reason = _why_not(tables, job)
    if reason is not None:
        return _without(reason)
    actions = complete_steps(with_pipelines(tables.actions, job), job)
    if actions.is_empty():
        return _without("no step holds forward and backward of every stage and microbatch exactly once")
    if has_overlaps(actions):
        return _without("compute actions of one rank overlap, so its time cannot be cut at them")
    table = bubble(actions)
    ideal = ideal_pipeline(actions, job)
    shares = shares_by_step(table, tables.steps)
    return PipelineGap(
        figures=_figures(shares, table, actions, ideal.figures, tables),
        table=table,
        ideal_actions=_ideal_actions(ideal, actions, shares),
        schedule=ideal.recognised,
        withheld=ideal.withheld,
    )


def _without(reason: str) -> PipelineGap:
    return PipelineGap(None, empty(BUBBLE), empty(ACTIONS), None, (Withheld(metric="bubble", reason=reason),))


def _why_not(tables: Tables, job: Job | None) -> str | None:
    """Why the job's bubble cannot be measured at all; None if it can."""
    if tables.actions.is_empty():
        return "no pipeline: these traces label no compute actions (compute:2F0 or PP:2F0)"
    if not tables.clock.one_clock:
        return "the ranks ran on different hosts and no clock offsets were recorded"
    found = tables.ranks["rank"].n_unique()
    expected = expected_ranks(tables.ranks, job)
    if expected is not None and found < expected and (job is None or job.num_stages is None):
        return f"{found} of {expected} ranks were captured; without run.json it is not known which stages are missing"
    return None


def expected_ranks(ranks: pl.DataFrame, job: Job | None) -> int | None:
    """How many ranks the job has, from its description, else from what the traces say of the world size."""
    if job is not None:
        return job.layout.world_size
    world = ranks["world_size"].max()
    return world if isinstance(world, int) else None


def with_pipelines(actions: pl.DataFrame, job: Job | None) -> pl.DataFrame:
    """Add `pipeline`, the number of the pipeline a rank is part of; without a description all ranks form one."""
    width = job.layout.dp * job.layout.tp if job is not None else 1
    return actions.with_columns((pl.col("rank") % width).cast(pl.Int32).alias("pipeline"))


def complete_steps(actions: pl.DataFrame, job: Job | None) -> pl.DataFrame:
    """Actions of the pipeline steps in which every stage ran every microbatch forward and backward exactly once."""
    num_stages = (job.num_stages if job is not None else None) or pl.col("stage").max() + 1
    num_microbatches = (job.num_microbatches if job is not None else None) or pl.col("microbatch").max() + 1
    phase = pl.col("phase").cast(pl.String)
    halves = (
        pl.when(phase == "F")
        .then(1)
        .when(phase == "B")
        .then(1_000_000)
        .when(phase == "I")
        .then(900_000)
        .otherwise(100_000)
    )
    cells = actions.group_by([*_STEP, "stage", "microbatch"]).agg(halves.sum().alias("done"))
    whole = (
        cells.group_by(_STEP)
        .agg(
            (pl.col("done") == 1_000_001).all().alias("each_once"),
            (pl.len() == num_stages * num_microbatches).alias("all_there"),
        )
        .filter(pl.col("each_once") & pl.col("all_there"))
    )
    return actions.join(whole, on=_STEP, how="semi")


def has_overlaps(actions: pl.DataFrame) -> bool:
    """Whether some rank runs two actions at once."""
    previous = pl.col("end_ns").shift(1).over("rank", "step")
    ordered = actions.sort("rank", "step", "start_ns", "end_ns")
    return not ordered.filter(pl.col("start_ns") < previous).is_empty()


def _figures(
    shares: pl.DataFrame, table: pl.DataFrame, actions: pl.DataFrame, theory: BubbleTheory, tables: Tables
) -> Bubble:
    return Bubble(
        measured_share=_median(shares["measured_share"]),
        measured_ratio=_median(shares["measured_ratio"]),
        span_share=_median(shares["span_share"]),
        share_of_step=_median(shares["share_of_step"]),
        overhead_share=_median(shares["overhead_share"]),
        phase_ms=_median(shares["phase_ns"] / 1e6),
        theory=theory,
        stages=_stages(table, actions, gloo=_is_gloo(tables)),
        steps=[StepBubble(**row) for row in shares.select("step", "pipeline", "measured_share").iter_rows(named=True)],
    )


def _is_gloo(tables: Tables) -> bool:
    return not tables.receives.is_empty() or "gloo" in tables.ranks["backend"].drop_nulls().to_list()


def _stages(table: pl.DataFrame, actions: pl.DataFrame, *, gloo: bool) -> list[StageBubble]:
    """Median over steps of every part, by rank."""
    parts = ["dependency_ns", "warmup_ns", "steady_ns", "drain_ns", "transfer_ns", "overhead_ns", "chunk_ns"]
    medians = (
        table.with_columns(dependency_ns().alias("dependency_ns"))
        .group_by("rank")
        .agg([(pl.col(part).median() / 1e6).alias(part.removesuffix("_ns") + "_ms") for part in parts])
    )
    held = actions.group_by("rank").agg(pl.col("stage").unique().sort())
    rows = medians.join(held, on="rank").sort(pl.col("stage").list.first(), "rank")
    if gloo:  # gloo records no transfer: it is unknown, not zero
        rows = rows.with_columns(pl.lit(None, pl.Float64).alias("transfer_ms"))
    return [StageBubble(stage=row.pop("stage"), ranks=[row.pop("rank")], **row) for row in rows.iter_rows(named=True)]


def shown_step(shares: pl.DataFrame) -> tuple[int, int]:
    """Pipeline and step whose bubble is nearest to the median: the one to look at."""
    distance = (pl.col("measured_share") - pl.col("measured_share").median()).abs()
    row = shares.sort(distance, "pipeline", "step").row(0, named=True)
    return int(row["pipeline"]), int(row["step"])


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
