"""Kernels → actions of device traces without labels, such as Megatron-LM's.

In the order of their CPU launches, computation and what the ranks that share a chunk (TP, EP, CP) exchange for it are cut
into chunks wherever a pipeline send or receive is posted or the
launching thread changes: launches from the autograd thread are backward, from the main thread forward. What the main
thread launches after the rank's last backward is the optimizer, no forward.

That gives the phase of every chunk and its ordinal, and, with one chunk per rank, the microbatch. The stage is the
rank's place in its pipeline group. With several chunks per rank the stage of a chunk needs the schedule, which is a
question for `gaps`.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import ACTIONS, conform
from traceanalyzer.tables.actions.device import chunk_kernels, ordered

_KEYS = ["rank", "step"]


def inferred_actions(kernels: pl.DataFrame, communications: pl.DataFrame, p2p: pl.DataFrame) -> pl.DataFrame:
    """Actions (`ACTIONS`) from `KERNELS`, `COMMUNICATIONS` and `P2P_SPLITS`; empty without pipeline messages.

    `stage` is the rank's place in its pipeline and `microbatch` the ordinal of the chunk among those of its phase.
    """
    places = pipeline_places(p2p)
    if places.is_empty():
        return pl.DataFrame(schema=ACTIONS)
    chunks = _chunks(chunk_kernels(kernels, communications), _posts(kernels, communications))
    in_step = chunks.join(places, on="rank")
    last_backward = pl.col("launch_ns").filter(pl.col("phase") == "B").max().over(_KEYS)
    real = in_step.filter((pl.col("phase") == "B") | (pl.col("launch_ns") < last_backward)).sort(*_KEYS, "launch_ns")
    ordinal = pl.int_range(pl.len(), dtype=pl.Int32).over([*_KEYS, "phase"]).alias("microbatch")
    return ordered(conform(real.with_columns(ordinal), ACTIONS).drop("position"))


def pipeline_places(p2p: pl.DataFrame) -> pl.DataFrame:
    """Place of every rank in its pipeline: `rank`, `group`, `stage`, `num_ranks`, from its messages' process group."""
    members = pl.col("group").str.split(",").cast(pl.List(pl.Int32))
    return (
        p2p.filter((pl.col("role") == "pp") & pl.col("group").is_not_null())
        .select("rank", "group", members.alias("members"))
        .unique("rank", keep="first", maintain_order=True)
        .with_columns(pl.col("members").list.len().cast(pl.Int32).alias("num_ranks"))
        .explode("members")
        .with_columns((pl.int_range(pl.len(), dtype=pl.Int32).over("rank")).alias("stage"))
        .filter(pl.col("members") == pl.col("rank"))
        .select("rank", "group", "stage", "num_ranks")
    )


def _posts(kernels: pl.DataFrame, communications: pl.DataFrame) -> pl.DataFrame:
    """CPU times at which pipeline sends and receives were launched: `rank`, `step`, `at_ns`."""
    pipeline = communications.filter(pl.col("role") == "pp").select("rank", "cycle", "index")
    return (
        kernels.join(pipeline, on=["rank", "cycle", "index"], how="semi")
        .filter(pl.col("launch_start_ns").is_not_null())
        .select(*_KEYS, pl.col("launch_start_ns").alias("at_ns"))
    )


def _chunks(work: pl.DataFrame, posts: pl.DataFrame) -> pl.DataFrame:
    """Runs of kernels in launch order without a post or a change of thread between them, with phase and span."""
    main = _main_launchers(work)
    launches = pl.concat(
        [
            work.select(
                *_KEYS,
                pl.col("launch_start_ns").alias("at_ns"),
                "start_ns",
                "end_ns",
                pl.col("launch_thread").cast(pl.String),
            ),
            posts.select(
                *_KEYS,
                "at_ns",
                pl.lit(None, pl.Int64).alias("start_ns"),
                pl.lit(None, pl.Int64).alias("end_ns"),
                pl.lit("post").alias("launch_thread"),
            ),
        ]
    ).sort(*_KEYS, "at_ns")
    changed = pl.col("launch_thread").ne_missing(pl.col("launch_thread").shift(1)).over(_KEYS)
    runs = (
        launches.with_columns(changed.cum_sum().over(_KEYS).alias("run"))
        .filter(pl.col("launch_thread") != "post")
        .join(main, on="rank", how="left")
        .with_columns(
            pl.when(pl.col("launch_thread") == pl.col("main_thread"))
            .then(pl.lit("F"))
            .otherwise(pl.lit("B"))
            .alias("phase")
        )
    )
    return (
        _unmerged(runs)
        .group_by(*_KEYS, "run", "part")
        .agg(
            pl.col("at_ns").min().alias("launch_ns"),
            pl.col("start_ns").min(),
            pl.col("end_ns").max(),
            pl.col("phase").first(),
        )
    )


def _unmerged(runs: pl.DataFrame) -> pl.DataFrame:
    """Add `part`: a run of exactly 2, 3, ... times the usual number of kernels is so many chunks.

    Chunks follow each other without a post where nothing is left to send or to receive, as the first stage's last
    backwards do.
    """
    length = pl.len().over(*_KEYS, "run")
    usual = pl.col("length").mode().min().over("rank", "phase")
    at = pl.int_range(pl.len()).over(*_KEYS, "run")
    whole = pl.col("length") % pl.col("usual") == 0
    return (
        runs.with_columns(length.alias("length"))
        .with_columns(usual.alias("usual"))
        .with_columns(pl.when(whole).then(at // pl.col("usual")).otherwise(0).alias("part"))
    )


def _main_launchers(work: pl.DataFrame) -> pl.DataFrame:
    """The thread of each rank that launches first in a step: the training loop's, as forward precedes backward."""
    return (
        work.sort("rank", "launch_start_ns")
        .group_by("rank", maintain_order=True)
        .agg(pl.col("launch_thread").cast(pl.String).first().alias("main_thread"))
    )
