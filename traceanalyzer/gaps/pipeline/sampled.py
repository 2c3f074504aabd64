"""Actions of pipelines of which only some ranks were captured: no bubble can be measured, but blame can be given inside."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.pipeline.actions import pipelines, with_clocks
from traceanalyzer.job import Job
from traceanalyzer.schema import ACTIONS
from traceanalyzer.tables import Tables
from traceanalyzer.tables.actions.inferred import pipeline_places
from traceanalyzer.tables.actions.overlaps import overlapping_steps

_STEP = ["pipeline", "step"]
MIN_RANKS = 2
"""Captured ranks of one pipeline below which nothing can be said of one about another."""


@dataclass(frozen=True, slots=True)
class SampledPipeline:
    """`ACTIONS` with `pipeline` of steps that every captured stage ran whole; empty if there are none."""

    actions: pl.DataFrame
    num_stages: int
    """Of the whole pipeline."""


def sampled_pipeline(tables: Tables, job: Job | None) -> SampledPipeline:
    """What blame can be computed on where no pipeline is whole: labelled actions on one clock, all stages known by number."""
    nothing = SampledPipeline(pl.DataFrame(schema={**ACTIONS, "pipeline": pl.Int32}), 0)
    if tables.actions.is_empty() or tables.actions_inferred:
        return nothing
    members = with_clocks(pipelines(tables, job), tables).filter("shares_clock")
    enough = members.filter(pl.len().over("pipeline") >= MIN_RANKS).filter(~pl.col("is_whole"))
    actions = tables.actions.join(enough.select("rank", "pipeline"), on="rank")
    num_stages = job.num_stages if job is not None else _num_stages(actions, tables)
    complete = _each_once(actions)
    whole = complete.join(overlapping_steps(complete, _STEP), on=_STEP, how="anti")
    if num_stages is None or whole.is_empty():
        return nothing
    return SampledPipeline(whole, num_stages)


def _num_stages(actions: pl.DataFrame, tables: Tables) -> int | None:
    """Ranks of the pipeline by its process group, times the stages that each captured rank holds."""
    places = pipeline_places(tables.p2p)
    held = actions.group_by("rank").agg(pl.col("stage").n_unique().alias("held")).join(places, on="rank")
    products = held.select((pl.col("held") * pl.col("num_ranks")).alias("stages"))["stages"].unique().to_list()
    return int(products[0]) if len(products) == 1 else None


def _each_once(actions: pl.DataFrame) -> pl.DataFrame:
    """Steps in which every captured rank ran every microbatch forward and backward once on every stage it holds."""
    weights = {"F": 1, "B": 1_000_000, "I": 900_000, "W": 100_000}
    done = pl.col("phase").cast(pl.String).replace_strict(weights, return_dtype=pl.Int64).sum()
    cells = pl.struct("stage", "microbatch").n_unique()
    expected = actions.group_by("pipeline").agg(cells.alias("num_cells"))
    whole = (
        actions.group_by([*_STEP, "stage", "microbatch"])
        .agg(done.alias("done"))
        .group_by(_STEP)
        .agg((pl.col("done") == 1_000_001).all().alias("each_once"), pl.len().alias("found"))
        .join(expected, on="pipeline")
        .filter("each_once", pl.col("found") == pl.col("num_cells"))
    )
    return actions.join(whole, on=_STEP, how="semi")
