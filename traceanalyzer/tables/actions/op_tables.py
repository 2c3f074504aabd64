"""Op tables → the tables of a run: what computes becomes actions, what communicates messages and collectives.

Ranks of an op table have neither kernels nor a main thread; like CPU ranks, their row of operations is the device.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import (
    ACTIONS,
    CLOCKS,
    COLLECTIVES,
    KERNELS,
    OPTIMIZER,
    P2P,
    PASSES,
    RANKS,
    RECEIVES,
    ROUTING,
    STEPS,
    conform,
    empty,
)
from traceanalyzer.tables import Tables
from traceanalyzer.tables.actions.overlaps import without_overlaps
from traceanalyzer.tables.clocks.alignment import ClockState
from traceanalyzer.tables.steps.basis import StepBasis
from traceanalyzer.tables.steps.typical import with_typical

_PHASES = {"forward-compute": "F", "backward-compute": "B", "input-gradient": "I", "weight-gradient": "W"}
_MESSAGES = {"forward-send": 1, "forward-recv": -1, "backward-send": -1, "backward-recv": 1}
"""Kind to the pipeline places between a rank and its peer."""
_COLLECTIVES = {
    "params-all-gather": "all_gather",
    "grads-reduce-scatter": "reduce_scatter",
    "separate-grads-all-reduce": "all_reduce",
    "layernorm-grads-all-reduce": "all_reduce",
    "embedding-grads-all-reduce": "all_reduce",
}


def tables_of_ops(ops: pl.DataFrame, file: str) -> Tables:
    """Tables of `OPS`; `file` is where they come from."""
    timed = ops.with_columns((pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))
    places = ops.select("rank", "replica", "stage").unique().sort("replica", "stage", "rank")
    messages = _messages(timed, places)
    computed, overlaps = without_overlaps(_actions(timed))
    other = timed.filter(~pl.col("kind").is_in([*_PHASES, *_MESSAGES, *_COLLECTIVES]))
    return Tables(
        ranks=_ranks(timed, file),
        steps=with_typical(_steps(timed)),
        kernels=empty(KERNELS),
        actions=computed,
        actions_inferred=False,
        passes=empty(PASSES),
        optimizer=conform(timed.filter(pl.col("kind").str.starts_with("optimizer")), OPTIMIZER),
        receives=conform(messages.filter(pl.col("direction") == "receive"), RECEIVES).sort("rank", "start_ns"),
        collectives=_collectives(timed, places),
        p2p=messages,
        operators=other.select("rank", "start_ns", "end_ns"),
        expert_computation=pl.DataFrame(
            schema={"rank": pl.Int32, "step": pl.Int32, "part": pl.String, "layer": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}
        ),
        routing=empty(ROUTING),
        clock=ClockState("op_table", None),
        clocks=empty(CLOCKS),
        pipelines=_pipelines(places),
        overlaps=overlaps,
        step_basis=StepBasis("op table"),
    )  # fmt: skip


def ops_of_actions(actions: pl.DataFrame, pipelines: pl.DataFrame) -> pl.DataFrame:
    """Actions as operations, for export: `rank`, `stage` (of the model), `step`, `kind`, ... of `OPS`.

    `pipelines` has `rank` and `pipeline`, which becomes the replica.
    """
    kinds = {phase: kind for kind, phase in _PHASES.items()}
    kind = pl.col("phase").cast(pl.String).replace_strict(kinds, return_dtype=pl.String)
    return (
        actions.join(pipelines.select("rank", pl.col("pipeline").alias("replica")), on="rank", how="left")
        .with_columns(kind.alias("kind"), (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns"))
        .sort("step", "rank", "start_ns")
        .with_columns(
            pl.int_range(pl.len(), dtype=pl.Int32).over("rank", "step", "kind").alias("sequence"),
            pl.lit(None, pl.Int32).alias("chunk"),
        )
    )


def _ranks(timed: pl.DataFrame, file: str) -> pl.DataFrame:
    rows = timed.group_by("rank").agg(
        pl.lit(file).alias("file"),
        pl.lit("op_table").alias("rank_source"),
        pl.len().cast(pl.Int64).alias("num_events"),
        pl.col("start_ns").min(),
        pl.col("end_ns").max(),
    )
    return conform(rows.with_columns(pl.lit(0).alias("cycle"), pl.lit(rows.height).alias("world_size")), RANKS).sort(
        "rank"
    )


def _steps(timed: pl.DataFrame) -> pl.DataFrame:
    """From the first operation of the step on any rank to the rank's last."""
    rows = timed.with_columns(pl.col("start_ns").min().over("step").alias("_from")).group_by("rank", "step").agg(
        pl.col("_from").first().alias("start_ns"), pl.col("end_ns").max(), pl.lit(value=False).alias("open_end")
    )  # fmt: skip
    return conform(rows, STEPS).sort("rank", "start_ns")


def _actions(timed: pl.DataFrame) -> pl.DataFrame:
    """Computations; a chunk k of place s on p places is stage k · p + s of the model."""
    num_places = pl.col("stage").max() + 1
    rows = timed.with_columns((pl.col("chunk").fill_null(0) * num_places + pl.col("stage")).alias("stage")).filter(
        pl.col("kind").is_in(list(_PHASES))
    )
    by_rank = rows.sort("rank", "step", "start_ns", "sequence")
    phase = pl.col("kind").replace_strict(_PHASES, return_dtype=pl.String)
    return conform(
        by_rank.with_columns(
            pl.coalesce("microbatch", "sequence").alias("microbatch"),
            phase.alias("phase"),
            pl.int_range(pl.len(), dtype=pl.Int32).over("rank", "step").alias("position"),
        ),
        ACTIONS,
    )


def _messages(timed: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Sends and receives; the k-th send of a rank meets the k-th receive of its peer."""
    num_places = int(places["stage"].max() or 0) + 1  # type: ignore[arg-type, operator]
    group = pl.col("rank").cast(pl.String).sort_by("stage").str.join(",").over("replica").alias("group")
    members = places.with_columns(group)
    rows = timed.filter(pl.col("kind").is_in(list(_MESSAGES)))
    away = pl.col("kind").replace_strict(_MESSAGES, return_dtype=pl.Int32)
    sends = pl.col("kind").str.ends_with("send")
    linked = rows.with_columns(
        ((pl.col("stage") + away) % num_places).alias("_peer_stage"),
        pl.when(sends).then(pl.lit("send")).otherwise(pl.lit("receive")).alias("direction"),
    ).join(
        members.select("replica", pl.col("stage").alias("_peer_stage"), pl.col("rank").alias("peer")),
        on=["replica", "_peer_stage"],
    )
    source = pl.when(sends).then("stage").otherwise("_peer_stage")
    forward = pl.col("kind").str.starts_with("forward")
    key = pl.struct("step", "replica", forward.alias("forward"), source.alias("source"), "sequence")
    return conform(
        linked.join(members.select("rank", "group"), on="rank").with_columns(
            key.rank("dense").cast(pl.UInt64).alias("match"),
            pl.lit("pp").alias("role"),
            pl.lit("op_table").alias("role_source"),
            pl.lit(value=False).alias("coalesced"),
            pl.lit(0).alias("cycle"),
        ),
        P2P,
    ).sort("rank", "start_ns")


def _collectives(timed: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Collectives over the replicas of a stage; of embeddings over the ends of a pipeline; others of the rank alone."""
    last = places["stage"].max()
    ends = places.filter(pl.col("stage").is_in([0, last]))
    text = pl.col("rank").cast(pl.String)
    by_stage = places.group_by("stage").agg(text.sort().str.join(",").alias("_of_stage"))
    by_replica = ends.group_by("replica").agg(text.sort().str.join(",").alias("_of_ends"))
    replicated = ["params-all-gather", "grads-reduce-scatter", "separate-grads-all-reduce"]
    group = (
        pl.when(pl.col("kind").is_in(replicated))
        .then("_of_stage")
        .when(pl.col("kind") == "embedding-grads-all-reduce")
        .then("_of_ends")
        .otherwise(text)
        .alias("group")
    )
    rows = (
        timed.filter(pl.col("kind").is_in(list(_COLLECTIVES)))
        .join(by_stage, on="stage")
        .join(by_replica, on="replica")
        .with_columns(group)
    )
    size = pl.col("group").str.split(",").list.len().alias("num_members")
    return conform(
        rows.with_columns(
            pl.struct("step", "group", "kind", "sequence").rank("dense").cast(pl.UInt64).alias("match"),
            pl.col("kind").replace_strict(_COLLECTIVES, return_dtype=pl.String),
            pl.when(pl.col("kind").is_in(replicated)).then(pl.lit("dp")).alias("role"),
            size,
            size.alias("num_present"),
            pl.lit(0).alias("cycle"),
        ),
        COLLECTIVES,
    ).sort("rank", "start_ns")


def _pipelines(places: pl.DataFrame) -> pl.DataFrame:
    """Each replica is a pipeline, whole if it has all places."""
    num_places = places["stage"].n_unique()
    return (
        places.select(
            "rank",
            pl.col("replica").alias("pipeline"),
            (pl.col("stage").n_unique().over("replica") == num_places).alias("is_whole"),
        )
        .unique("rank")
        .sort("rank")
    )
