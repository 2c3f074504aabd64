"""The bubble rank by rank and pipeline by pipeline, medians over steps."""

from __future__ import annotations

import polars as pl

from traceanalyzer.job import Job
from traceanalyzer.measurements.pipeline.bubble import dependency_ns
from traceanalyzer.review import PipelineBubble, StageBubble
from traceanalyzer.tables import Tables

_PARTS = (
    "dependency_ns", "warmup_ns", "steady_ns", "drain_ns", "transfer_ns", "overhead_ns", "dp_wait_ns", "dp_transfer_ns",
    "chunk_ns", "chunk_dp_ns",
)  # fmt: skip


def stage_bubbles(
    table: pl.DataFrame, actions: pl.DataFrame, waits: pl.DataFrame | None, *, no_transfer: bool
) -> list[StageBubble]:
    """Every rank's parts of the phase, from `BUBBLE`, `ACTIONS` and what `replica_waits` gives (None: no replicas)."""
    medians = (
        table.with_columns(dependency_ns().alias("dependency_ns"))
        .group_by("rank")
        .agg([(pl.col(part).median() / 1e6).alias(part.removesuffix("_ns") + "_ms") for part in _PARTS])
    )
    held = actions.group_by("rank").agg(pl.col("stage").unique().sort())
    rows = medians.join(held, on="rank").join(_waits(waits, "rank"), on="rank", how="left")
    if no_transfer:  # it is unknown, not zero
        rows = rows.with_columns(pl.lit(None, pl.Float64).alias("transfer_ms"))
    rows = rows.sort(pl.col("stage").list.first(), "rank")
    return [StageBubble(stage=row.pop("stage"), ranks=[row.pop("rank")], **row) for row in rows.iter_rows(named=True)]


def pipeline_bubbles(shares: pl.DataFrame, actions: pl.DataFrame, waits: pl.DataFrame | None) -> list[PipelineBubble]:
    """Every pipeline's bubble, from `shares_by_step`; the one with the longest phase is the slowest, a tie the first."""
    ranks = (
        actions.group_by("pipeline", "rank")
        .agg(pl.col("stage").min())
        .sort("pipeline", "stage", "rank")
        .group_by("pipeline", maintain_order=True)
        .agg(pl.col("rank").alias("ranks"))
    )
    rows = (
        shares.group_by("pipeline")
        .agg(pl.col("measured_share").median(), (pl.col("phase_ns").median() / 1e6).alias("phase_ms"))
        .join(ranks, on="pipeline")
        .join(_waits(waits, "pipeline"), on="pipeline", how="left")
        .sort(["phase_ms", "pipeline"], descending=[True, False])
        .with_row_index("_place")
        .sort("pipeline")
    )
    return [PipelineBubble(is_slowest=row.pop("_place") == 0, **row) for row in rows.iter_rows(named=True)]


def mean_wait_ms(waits: pl.DataFrame | None) -> float | None:
    """What the mean rank waits for slower replicas after its phase, median over steps; None if a part is not known."""
    if waits is None or waits["replica_wait_ns"].null_count():
        return None
    median = waits.group_by("step").agg(pl.col("replica_wait_ns").mean())["replica_wait_ns"].median()
    return median / 1e6 if isinstance(median, float) else None


def _waits(waits: pl.DataFrame | None, key: str) -> pl.DataFrame:
    """`key`, `replica_wait_ms`: mean over ranks, median over steps; null if some of it is not known."""
    if waits is None:
        return pl.DataFrame(schema={key: pl.Int32, "replica_wait_ms": pl.Float64})
    known = pl.when(pl.col("replica_wait_ns").null_count() == 0).then(pl.col("replica_wait_ns").mean())
    by_step = waits.group_by(key, "step").agg(known.alias("_ns"))
    unknown = pl.col("_ns").null_count() == 0
    return by_step.group_by(key).agg(pl.when(unknown).then(pl.col("_ns").median() / 1e6).alias("replica_wait_ms"))


def expected_pipelines(tables: Tables, job: Job | None, actions: pl.DataFrame) -> int | None:
    """Pipelines of the job: by its layout, by the op table, else by its ranks and those of a pipeline; None if not known.

    A layout of one stage does not count where the actions are of pipelines with several ranks.
    """
    sizes = actions.group_by("pipeline").agg(pl.col("rank").n_unique())["rank"].unique().to_list()
    if job is not None and job.layout is not None and (job.layout.pp > 1 or max(sizes, default=1) == 1):
        return job.layout.width
    if tables.pipelines is not None:
        return tables.pipelines["pipeline"].n_unique()
    world = tables.ranks["world_size"].max() if job is None or job.layout is None else job.layout.world_size
    if len(sizes) != 1 or not isinstance(world, int) or world % sizes[0]:
        return None
    return world // int(sizes[0])
