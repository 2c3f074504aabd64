"""What every rank did between its communications, in the order of its program.

An *operation* is one communication kernel of a rank: a collective, or the messages of one kernel. Operations and
computations are ordered by their launches, so that the same place in the program is compared on different ranks, however
late one of them is. A *block* is a run of computation kernels between two operations of the program, cut where an operation
launched before ended while the device computed nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.tables.rank_groups import in_rank_groups

RELEASED_WITHIN_NS = 20_000
"""A kernel that starts so soon after the end of an operation was waiting for it (design: releasing the next kernel)."""
LAUNCH_LATENCY_NS = 10_000
"""From a launch to the start of its kernel on an idle device, at most."""
COMPUTING = ["gemm", "attention", "other", "fused"]
_RANK = "rank"


@dataclass(frozen=True, slots=True)
class Programs:
    """Operations and blocks of all ranks."""

    operations: pl.DataFrame
    """`rank`, `step`, `operation` (its place in the rank's program), `stream`, `kind`, `role`, `group`, `direction`,
    `start_ns`, `end_ns`, `launch_end_ns`, `transfer_ns` (null: not known),
    `unsure_ns` (how far off it may be; all of the operation where it is not known), `matches`, `waits` (whether it can wait),
    `used_ns`: the next computation from then on needs it (null: not known)."""
    blocks: pl.DataFrame
    """`rank`, `step`, `block`, `operation` (the next one of the program), `start_ns`, `end_ns`, `compute_ns`, `gap_ns`
    (inside the block), `host_ns` (late launches, the one before the block included), `before_host_ns` (that one alone),
    `launch_end_ns` (of its first kernel), `lead_ns` (from the launch of a kernel to its start, at least), `released_by` (the operation that ended before it while nothing was computed;
    null without), `released_ns` (how long before it)."""


def programs(
    kernels: pl.DataFrame, splits: pl.DataFrame, messages: pl.DataFrame, actions: pl.DataFrame | None = None
) -> Programs:
    """Programs of device ranks from `KERNELS`, `COLLECTIVE_SPLITS`, `P2P_SPLITS` and `ACTIONS`."""
    operations = _operations(kernels, splits, messages)
    blocks = _blocks(kernels, operations)
    used = _used_receives(messages, actions) if actions is not None else _NOT_USED
    return Programs(_with_use(operations, blocks, used), blocks)


_NOT_USED = pl.DataFrame(schema={"rank": pl.Int32, "index": pl.Int64, "used_ns": pl.Int64})


def _with_use(operations: pl.DataFrame, blocks: pl.DataFrame, receives: pl.DataFrame) -> pl.DataFrame:
    """Add `used_ns`: of collectives of which a member computed as soon as they ended, their own end."""
    released = blocks.filter(pl.col("released_ns") <= RELEASED_WITHIN_NS).select(
        "rank", pl.col("released_by").alias("operation"), pl.lit(value=True).alias("_released")
    )
    rows = operations.join(released.unique(), on=["rank", "operation"], how="left", maintain_order="left")
    rows = rows.join(receives, on=["rank", "index"], how="left", maintain_order="left")
    first = pl.col("matches").list.first()
    awaited = first.is_not_null() & pl.col("_released").fill_null(value=False).any().over(first)
    collective = pl.when(awaited).then("end_ns")
    return rows.with_columns(
        pl.when(pl.col("kind") == "send_recv").then("used_ns").otherwise(collective).alias("used_ns")
    ).drop("_released")


def _used_receives(messages: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """`rank`, `index`, `used_ns` of receives: the n-th from the stage before is for the n-th forward, and so on.

    Only for ranks of one stage, and where there are as many receives as actions that need one.
    """
    stages = actions.group_by("rank").agg(pl.col("stage").unique()).filter(pl.col("stage").list.len() == 1)
    stages = stages.select("rank", pl.col("stage").list.first())
    last = stages["stage"].max()
    if stages.is_empty() or not isinstance(last, int):
        return _NOT_USED
    alike = ["rank", "step", "_forward"]
    received = (
        messages.filter((pl.col("direction") == "receive") & (pl.col("role") == "pp") & pl.col("index").is_not_null())
        .join(stages, on="rank")
        .join(stages.rename({"rank": "peer", "stage": "_from"}), on="peer")
        .with_columns((pl.col("_from") < pl.col("stage")).alias("_forward"))
        .sort(pl.coalesce("launch_start_ns", "start_ns"), "start_ns")
        .with_columns(pl.int_range(pl.len()).over(alike).alias("_n"), pl.len().over(alike).alias("_num"))
    )
    needing = (
        actions.filter(pl.col("phase").cast(pl.String) != "W")
        .join(stages, on=["rank", "stage"])
        .with_columns((pl.col("phase").cast(pl.String) == "F").alias("_forward"))
        .sort("start_ns")
        .select(*alike, pl.col("start_ns").alias("used_ns"), pl.int_range(pl.len()).over(alike).alias("_n"),
                pl.len().over(alike).alias("_num"))
    )  # fmt: skip
    return received.join(needing, on=[*alike, "_n", "_num"]).group_by("rank", "index").agg(pl.col("used_ns").min())


def _operations(kernels: pl.DataFrame, splits: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    shared = ["rank", "step", "stream", "index", "start_ns", "end_ns", "launch_start_ns"]
    lasting = pl.col("end_ns") - pl.col("start_ns")
    by_clock = pl.when(pl.col("basis") == "none").then(lasting - pl.col("wait_clock_ns"))
    unsure = pl.when(by_clock.is_not_null()).then(pl.col("clock_residual_ns").fill_null(0)).otherwise(lasting)
    collectives = splits.select(
        *shared,
        pl.coalesce("transfer_ns", by_clock).alias("transfer_ns"),
        pl.when(pl.col("transfer_ns").is_null()).then(unsure).otherwise(0).alias("unsure_ns"),
        "kind",
        pl.col("role").cast(pl.String),
        "group",
        pl.col("direction").cast(pl.String),
        pl.col("match").cast(pl.Int64).alias("_match"),
        pl.lit(value=True).alias("waits"),
    )
    sends = pl.col("direction") == "send"
    p2p = messages.select(
        *shared,
        "transfer_ns",
        pl.when(pl.col("transfer_ns").is_null()).then(lasting).otherwise(0).alias("unsure_ns"),
        pl.lit("send_recv").alias("kind"),
        pl.col("role").cast(pl.String),
        pl.lit(None, pl.String).alias("group"),
        pl.col("direction").cast(pl.String),
        (-pl.col("match").cast(pl.Int64) - 1).alias("_match"),
        (~sends | (pl.col("wait_ns") > 0)).fill_null(value=True).alias("waits"),
    )
    rows = pl.concat([collectives, p2p]).filter(
        pl.all_horizontal(pl.col("index", "start_ns", "end_ns", "step").is_not_null())
    )
    # a kernel of several messages ends after the last of its peers has come: what none of its parts waits is transfer
    whole = rows.group_by("rank", "index").agg(
        pl.col("step", "stream", "kind", "role", "group", "launch_start_ns").first(),
        pl.col("direction").sort().str.join("+").alias("direction"),
        pl.col("start_ns").min(),
        pl.col("end_ns").max(),
        pl.when(pl.col("transfer_ns").null_count() == 0).then(pl.col("transfer_ns").min()).alias("transfer_ns"),
        pl.col("unsure_ns").max(),
        pl.col("_match").drop_nulls().sort().alias("matches"),
        pl.col("waits").any(),
    )
    launched = kernels.join(whole, on=["rank", "index"], how="semi").select("rank", "index", "launch_end_ns")
    order = pl.coalesce("launch_start_ns", "start_ns")
    return (
        whole.join(launched, on=["rank", "index"], how="left")
        .sort("rank", order, "start_ns")
        .with_columns(pl.int_range(pl.len()).over("rank").alias("operation"), order.alias("_launched_ns"))
    )


def late_launch_ns(free_at: pl.Expr) -> pl.Expr:
    """How long a kernel starts after `free_at` for its launch; a start at once after a late launch is the launch's too."""
    launched, start = pl.col("launch_end_ns"), pl.col("start_ns")
    at_once = (launched > free_at) & (start <= launched + LAUNCH_LATENCY_NS)
    return (pl.when(at_once).then(start).otherwise(pl.min_horizontal(start, launched)) - free_at).clip(lower_bound=0)


@in_rank_groups
def _blocks(kernels: pl.DataFrame, operations: pl.DataFrame) -> pl.DataFrame:
    """Computation kernels joined to blocks."""
    launched = pl.coalesce("launch_start_ns", "start_ns")
    rows = kernels.filter(pl.col("kind").cast(pl.String).is_in(COMPUTING) & pl.col("step").is_not_null()).select(
        "rank", "step", "start_ns", "end_ns", "launch_end_ns", launched.alias("_launched_ns")
    )
    before = operations.select("rank", "_launched_ns", (pl.col("operation") + 1).alias("operation")).sort(
        "_launched_ns"
    )
    rows = rows.sort("_launched_ns").join_asof(
        before, on="_launched_ns", by="rank", strategy="backward", check_sortedness=False
    )
    ends = operations.filter(pl.col("direction").ne_missing("send")).select(
        "rank", pl.col("end_ns").alias("_ended_ns"), pl.col("operation").alias("released_by")
    )
    rows = (
        rows.with_columns(pl.col("operation").fill_null(0))
        .sort("start_ns")
        .join_asof(
            ends.sort("_ended_ns"), left_on="start_ns", right_on="_ended_ns", by="rank", strategy="backward",
            coalesce=False, check_sortedness=False,
        )
        .sort("rank", "start_ns", "end_ns")
        .with_columns(pl.col("end_ns").cum_max().shift(1).over("rank").alias("_previous_ns"))
    )  # fmt: skip
    gap = (pl.col("start_ns") - pl.col("_previous_ns")).clip(lower_bound=0).fill_null(0)
    idle = (pl.col("_ended_ns") > pl.col("_previous_ns").fill_null(0)).fill_null(value=False)
    released = idle & (pl.col("released_by") < pl.col("operation"))
    free_at = pl.when(released).then("_ended_ns").otherwise("_previous_ns")
    host = late_launch_ns(free_at).fill_null(0)
    first = released | pl.any_horizontal(
        [(pl.col(name) != pl.col(name).shift(1).over("rank")).fill_null(value=True) for name in ("operation", "step")]
    )
    rows = rows.with_columns(
        gap.alias("_gap_ns"),
        host.alias("_host_ns"),
        (pl.col("end_ns") - pl.max_horizontal("start_ns", pl.col("_previous_ns").fill_null(0)))
        .clip(lower_bound=0)
        .alias("_busy_ns"),
        pl.when(released).then("released_by").alias("released_by"),
        pl.when(released).then(pl.col("start_ns") - pl.col("_ended_ns")).alias("released_ns"),
        first.cum_sum().over("rank").alias("block"),
    )
    return (
        rows.group_by("rank", "block", maintain_order=True)
        .agg(
            pl.col("step", "operation", "released_by", "released_ns", "launch_end_ns").first(),
            pl.col("start_ns").min(),
            pl.col("end_ns").max(),
            pl.col("_busy_ns").sum().alias("compute_ns"),
            (pl.col("_gap_ns").sum() - pl.col("_gap_ns").first()).alias("gap_ns"),
            pl.col("_host_ns").sum().alias("host_ns"),
            pl.col("_host_ns").first().alias("before_host_ns"),
            (pl.col("start_ns") - pl.col("launch_end_ns")).min().alias("lead_ns"),
        )
        .sort("rank", "block")
    )
