"""Wait and transfer of every collective, from the arrivals of all its members.

* basis `clock`: `wait = min(end, A) - start` with A the latest arrival among the members this rank exchanges bytes
  with (an all-to-all is no barrier: who sends a rank nothing cannot keep it waiting). Needs one clock.
* basis `durations`: `wait = duration - shortest duration in the group`. Needs no clock, but holds only where all members
  exchange equal bytes; there it is the primary one.

Where a member was not captured neither can be said (`none`).
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import BASIS, COLLECTIVE_SPLITS, conform

MATCH = ["step", "group", "kind", "sequence"]
"""What identifies one collective across the ranks of its group."""


def split_collectives(collectives: pl.DataFrame, *, one_clock: bool) -> pl.DataFrame:
    """Add wait and transfer to `COLLECTIVES`, giving `COLLECTIVE_SPLITS`. `one_clock`: the ranks' clocks agree."""
    if collectives.is_empty():
        return conform(collectives, COLLECTIVE_SPLITS)
    size = pl.col("group").str.split(",").list.len()
    complete = (pl.col("rank").n_unique().over(MATCH) == size) & pl.col("group").is_not_null()
    equal = complete & _is_equal("send_bytes") & _is_equal("receive_bytes") & _is_even()
    duration = pl.col("end_ns") - pl.col("start_ns")
    by_duration = pl.when(equal).then(duration - duration.min().over(MATCH))
    by_clock = pl.when(complete & pl.lit(one_clock)).then(
        (pl.min_horizontal("end_ns", "arrival_ns") - pl.col("start_ns")).clip(lower_bound=0)
    )
    basis = (
        pl.when(pl.col("wait_durations_ns").is_not_null())
        .then(pl.lit("durations"))
        .when(pl.col("wait_clock_ns").is_not_null())
        .then(pl.lit("clock"))
        .otherwise(pl.lit("none"))
    )
    rows = (
        _with_latest_arrival(collectives)
        .with_columns(by_duration.alias("wait_durations_ns"), by_clock.alias("wait_clock_ns"))
        .with_columns(
            pl.coalesce("wait_durations_ns", "wait_clock_ns").alias("wait_ns"), basis.cast(BASIS).alias("basis")
        )
        .with_columns((duration - pl.col("wait_ns")).alias("transfer_ns"))
    )
    return conform(rows, COLLECTIVE_SPLITS).sort("rank", "start_ns")


def _is_equal(column: str) -> pl.Expr:
    return pl.col(column).n_unique().over(MATCH) == 1


def _is_even() -> pl.Expr:
    """All splits of this rank are the same (an empty list is torch's way to say so)."""
    splits = pl.col("send_splits")
    even = (splits.list.n_unique() <= 1).fill_null(value=True)
    return even.all().over(MATCH)


def _with_latest_arrival(collectives: pl.DataFrame) -> pl.DataFrame:
    """Add `arrival_ns` and `late_rank`: the latest start among the members a rank exchanges with, itself included."""
    numbered = collectives.with_row_index("_row")
    peers = (
        numbered.select("_row", "rank", *MATCH, "send_splits", "receive_splits")
        .with_columns(pl.col("group").str.split(",").cast(pl.List(pl.Int32)).alias("peer"))
        .with_columns([_padded(column) for column in ("send_splits", "receive_splits")])
        .explode("peer", "send_splits", "receive_splits")
        .filter(
            (pl.col("send_splits").fill_null(1) > 0)
            | (pl.col("receive_splits").fill_null(1) > 0)
            | (pl.col("peer") == pl.col("rank"))
        )
    )
    arrivals = numbered.select(*MATCH, pl.col("rank").alias("peer"), pl.col("start_ns").alias("peer_start_ns"))
    latest = (
        peers.join(arrivals, on=[*MATCH, "peer"])
        .sort("_row", "peer_start_ns", "peer")
        .group_by("_row", maintain_order=True)
        .agg(pl.col("peer_start_ns").last().alias("arrival_ns"), pl.col("peer").last().alias("late_rank"))
    )
    return numbered.join(latest, on="_row", how="left", maintain_order="left").drop("_row")


def _padded(column: str) -> pl.Expr:
    """Splits as long as the group; unknown or even splits become nulls, which count as an exchange."""
    known = pl.col(column).list.len() == pl.col("peer").list.len()
    return (
        pl.when(known).then(column).otherwise(pl.lit(None, pl.Int64).repeat_by(pl.col("peer").list.len())).alias(column)
    )
