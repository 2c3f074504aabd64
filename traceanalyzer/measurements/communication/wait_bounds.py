"""How long a rank waited inside its communication, from its own trace alone: at least, and at most.

Per operation (a collective, or a kernel of one or more messages), with `equal` the rank's operations of the same kind,
group, peers and bytes:

* low: `max(0, duration - 2 · shortest duration of equal)`, where there are at least `MIN_SAMPLES` of them, else 0. The
  shortest one holds a whole transfer and perhaps some waiting; equal transfers are taken to last at most twice as long
  (`MAX_TRANSFER_RATIO`). On CPU traces low is 0: there a receive ends when its thread is woken, so equal ones vary more.
* high: `duration - bytes ÷ peak of the rank's links`, where bytes and peak are known, else the whole duration.

Both are estimates: a transfer that varies more can push the truth below low. Where the other members were captured and wait
and transfer are known, both bounds are that wait.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.communication.bandwidth import least_transfer_ns
from traceanalyzer.measurements.communication.collectives import MIN_SAMPLES, at_least_waited
from traceanalyzer.schema import WAIT_BOUNDS, conform

_KERNEL = ["rank", "cycle", "index"]


def wait_bounds(collectives: pl.DataFrame, messages: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Bounds of the waiting of every rank and step by mesh dimension (`WAIT_BOUNDS`), sorted by rank, step and role.

    Args:
        collectives: `COLLECTIVE_SPLITS`.
        messages: `P2P_SPLITS`.
        links: `rank`, `host`, `link_bytes_per_second`.
    """
    operations = pl.concat([_of_collectives(collectives), _of_messages(messages, links)])
    rows = (
        operations.filter(pl.col("step").is_not_null())
        .group_by("rank", "step", "role")
        .agg(
            pl.len().alias("num_operations"),
            pl.col("is_sampled").sum().alias("num_sampled"),
            pl.col("duration_ns", "wait_low_ns", "wait_high_ns").sum(),
        )
    )
    return conform(rows, WAIT_BOUNDS).sort("rank", "step", "role")


def _of_collectives(collectives: pl.DataFrame) -> pl.DataFrame:
    timed = collectives.filter(pl.col("end_ns").is_not_null())
    return timed.select(
        "rank",
        "step",
        "role",
        (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns"),
        pl.coalesce("wait_ns", "wait_low_ns", 0).alias("wait_low_ns"),
        pl.coalesce("wait_ns", "wait_high_ns", pl.col("end_ns") - pl.col("start_ns")).alias("wait_high_ns"),
        pl.coalesce("wait_ns", "wait_low_ns").is_not_null().alias("is_sampled"),
    )


def _of_messages(messages: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """One row per kernel of messages; on CPU traces, which have no kernels, one per receive."""
    timed = messages.filter(pl.col("end_ns").is_not_null()).with_row_index("_row")
    alone = pl.when(pl.col("index").is_null()).then("_row")
    part = pl.concat_str("direction", "group", "peer", "bytes", separator="|", ignore_nulls=True)
    kernels = timed.group_by(*_KERNEL, alone.alias("_alone")).agg(
        pl.col("step", "role", "start_ns", "end_ns").first(),
        pl.when(pl.col("wait_ns").is_not_null().all()).then(pl.col("wait_ns").max()).alias("wait_ns"),
        pl.when(pl.col("bytes").is_not_null().all()).then(part.sort().str.join(";")).alias("same"),
        pl.max_horizontal(
            pl.col("bytes").filter(pl.col("direction") == side).sum() for side in ("send", "receive")
        ).alias("bytes"),
    )
    duration = pl.col("end_ns") - pl.col("start_ns")
    peaks = links.select("rank", pl.col("link_bytes_per_second").alias("_peak"))
    same = ["rank", "same"]
    least = least_transfer_ns(pl.col("bytes"), pl.col("_peak")).fill_null(0)
    low = pl.when(
        (pl.len().over(same) >= MIN_SAMPLES) & pl.col("same").is_not_null() & pl.col("index").is_not_null()
    ).then(at_least_waited(duration, same))
    return (
        kernels.join(peaks, on="rank", how="left")
        .with_columns(low.alias("_low"), duration.alias("duration_ns"))
        .select(
            "rank",
            "step",
            "role",
            "duration_ns",
            pl.coalesce("wait_ns", "_low", 0).alias("wait_low_ns"),
            pl.coalesce("wait_ns", (pl.col("duration_ns") - least).clip(lower_bound=0)).alias("wait_high_ns"),
            pl.coalesce("wait_ns", "_low").is_not_null().alias("is_sampled"),
        )
    )
