"""Exchanges between replicas: gradient reduction and parameter gathering (DDP, ZeRO, FSDP), and their kernels.

They run beside the pipeline, so none of their kernels starts or ends a chunk: neither the collectives nor what is
computed on a stream of theirs (copies into and out of buckets), nor the optimizer.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.tables.groups.listed import world_group
from traceanalyzer.tables.rank_groups import in_rank_groups
from traceanalyzer.tables.steps.parts import OPTIMIZER_KERNEL
from traceanalyzer.tables.steps.windows import COMPUTE_KINDS

_KERNEL = ["rank", "cycle", "index"]
_ROLES = ["dp", "world"]
_OTHERS = ["all_to_all", "p2p", "send", "receive", "barrier"]
"""Operations that are not an exchange between ranks between replicas, whatever group they run in."""


def between_replicas() -> pl.Expr:
    """Whether a row of `COLLECTIVES` or `COMMUNICATIONS` reduces gradients, gathers parameters or closes the step."""
    role = pl.col("role").cast(pl.String).is_in(_ROLES).fill_null(value=False)
    return role & ~pl.col("kind").is_in(_OTHERS)


def with_gradient_roles(collectives: pl.DataFrame, kernels: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """`COLLECTIVES` of device ranks in which all-reduces of known groups that no forward needs are gradients'.

    A tensor-parallel group reduces in forward too, and the thread that launches forwards launches those. A group of unknown
    role whose all-reduces all leave from another thread, or after the last backward of the step, reduces gradients.
    """
    reducing = _reducing(collectives.filter(pl.col("group").is_not_null()), kernels, ["group"])
    found = _roleless() & pl.col("group").is_in(reducing.get_column("group").to_list())
    role = (
        pl.when(pl.col("group") == pl.lit(world_group(ranks), pl.String)).then(pl.lit("world")).otherwise(pl.lit("dp"))
    )
    return collectives.with_columns(
        pl.when(found)
        .then(role)
        .otherwise(pl.col("role").cast(pl.String))
        .cast(collectives.schema["role"])
        .alias("role"),
        pl.when(found).then(pl.lit("use")).otherwise("role_source").alias("role_source"),
    )


def _roleless() -> pl.Expr:
    return pl.col("role").is_null() & (pl.col("kind") == "all_reduce") & pl.col("index").is_not_null()


def _reducing(collectives: pl.DataFrame, kernels: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The `keys` of all-reduces without a role of which no forward launches any."""
    unknown = collectives.filter(_roleless())
    if unknown.is_empty():
        return unknown.select(keys)
    return (
        _launched(unknown, kernels)
        .group_by(keys)
        .agg(pl.col("in_forward").any())
        .filter(~pl.col("in_forward"))
        .select(keys)
    )


@in_rank_groups
def _launched(collectives: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """Collectives of launched kernels, with `in_forward`."""
    return collectives.join(_in_forward(kernels), on=_KERNEL, how="inner")


def _in_forward(kernels: pl.DataFrame) -> pl.DataFrame:
    """For every launched kernel, whether the thread of the forwards launched it before the step's last backward."""
    launched = kernels.filter(pl.col("launch_start_ns").is_not_null() & pl.col("step").is_not_null())
    thread = pl.col("launch_thread").cast(pl.String)
    main = thread.sort_by("launch_start_ns", "index").first().over("rank")
    backward = (pl.col("launch_start_ns")).filter(
        (pl.col("_thread") != pl.col("_main")) & pl.col("kind").cast(pl.String).is_in(COMPUTE_KINDS)
    )
    return (
        launched.with_columns(thread.alias("_thread"), main.alias("_main"))
        .with_columns(backward.max().over("rank", "step").alias("_last"))
        .select(
            *_KERNEL,
            ((pl.col("_thread") == pl.col("_main")) & (pl.col("launch_start_ns") < pl.col("_last")))
            .fill_null(value=True)
            .alias("in_forward"),
        )
    )


def beside_chunks(kernels: pl.DataFrame, communications: pl.DataFrame) -> pl.DataFrame:
    """Kernels of exchanges between replicas and of the optimizer: `rank`, `cycle`, `index`."""
    streams = _reducing(communications, kernels, ["rank", "stream"])  # of communicators whose group is not known
    exchanging = pl.concat(
        [
            communications.filter(between_replicas()),
            communications.filter(_roleless()).join(streams, on=["rank", "stream"], how="semi"),
        ]
    ).select(*_KERNEL, "stream")
    computing = kernels.filter(pl.col("kind").cast(pl.String).is_in(COMPUTE_KINDS))
    busy = (pl.col("end_ns") - pl.col("start_ns")).sum()
    main = (
        computing.group_by("rank", "stream").agg(busy.alias("_busy")).sort("_busy", "stream", descending=[True, False])
    )
    sides = (
        exchanging.select("rank", "stream")
        .unique()
        .join(main.group_by("rank", maintain_order=True).first(), on=["rank", "stream"], how="anti")
    )
    staged = computing.join(sides, on=["rank", "stream"], how="semi")
    updating = computing.filter(pl.col("name").cast(pl.String).str.contains(OPTIMIZER_KERNEL))
    return pl.concat([frame.select(_KERNEL) for frame in (exchanging, staged, updating)]).unique()
