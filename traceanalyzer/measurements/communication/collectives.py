"""Wait and transfer of every collective, from the arrivals of all its members.

* basis `durations`: `wait = duration - shortest duration in the group`. Needs no clock, but holds only where all members
  were captured, exchange equal bytes and therefore end together; there it is the primary one. Members of an all-to-all
  that end apart on one clock (a slow port ends late, and makes its rank late for the next one) are split by `clock`.
* basis `clock`: `wait = min(end, A) - start` with A the latest arrival among the members this rank exchanges bytes
  with (an all-to-all is not a barrier: who sends a rank nothing cannot keep it waiting). Needs one clock.
* without one clock, uneven exchanges: `duration - bytes ÷ link peak`, marked `estimated`.
* basis `own_min`, where members are missing: only bounds. Low: what exceeds twice the rank's own fastest of at least eight
  equal calls; high: what is left after the bytes at the peak of the rank's own links, all of it where that is not known.

Where neither can be said the basis is `none`.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.communication.bandwidth import with_bandwidth, with_link_time
from traceanalyzer.review.words import milliseconds
from traceanalyzer.schema import BASIS, COLLECTIVE_SPLITS, conform

SYMMETRIC = ["all_reduce", "all_gather", "reduce_scatter", "barrier"]
"""Kinds whose members all exchange the same number of bytes by definition."""
MIN_SAMPLES = 8
"""Equal calls that make a rank's fastest one a bound."""
MAX_TRANSFER_RATIO = 2
"""What equal transfers are taken to last at most, in times the shortest equal operation: they vary with the load of links."""
RESIDUAL_SHARE = 0.5
"""Of the waits: if the clocks may be off by more in all, the waits are withheld."""


END_SPREAD_SHARE = 0.2
"""Of the shortest duration: members of an all-to-all whose ends lie further apart did not end together."""


def split_collectives(
    collectives: pl.DataFrame, *, one_clock: bool, links: pl.DataFrame | None = None, clocks: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Add wait, transfer and bandwidth to `COLLECTIVES`, giving `COLLECTIVE_SPLITS`, sorted by rank and start.

    Args:
        collectives: matched `COLLECTIVES`.
        one_clock: the ranks' clocks agree.
        links: `rank`, `host`, `link_bytes_per_second` (null if unknown); without it bandwidths have no peak.
        clocks: `CLOCKS`, whose residuals are carried into what uses clocks.
    """
    if collectives.is_empty():
        return conform(collectives, COLLECTIVE_SPLITS)
    rows = with_link_time(_with_members(collectives.with_row_index("_row")), links)
    rows = _with_residual(_with_latest_arrival(rows), clocks)
    duration = _duration()
    complete = pl.col("match").is_not_null() & (pl.col("num_present") == pl.col("num_members"))
    by_clock = (pl.min_horizontal("end_ns", "arrival_ns") - pl.col("start_ns")).clip(lower_bound=0)
    measured = rows.with_columns(
        pl.when(complete & pl.col("_equal") & ~(pl.lit(one_clock) & _end_apart()))
        .then(duration - pl.col("_shortest"))
        .alias("wait_durations_ns"),
        pl.when(complete & pl.lit(one_clock)).then(by_clock).alias("wait_clock_ns"),
        pl.when(complete).then((duration - pl.col("_at_peak_ns")).clip(lower_bound=0)).alias("_wait_modelled_ns"),
        pl.when(~complete).then(_own_low(duration)).alias("wait_low_ns"),
        pl.when(~complete)
        .then((duration - pl.col("_least_ns").fill_null(0)).clip(lower_bound=0))
        .alias("wait_high_ns"),
    )
    by_clock_known = pl.lit(one_clock) & pl.col("start_ns").is_not_null()
    by_duration = pl.col("start_ns").is_null() & pl.col("wait_durations_ns").is_not_null()
    late = pl.when(by_clock_known).then("late_rank").when(by_duration).then("_last")
    measured = measured.with_columns(late.alias("late_rank"))  # clocks that cannot be compared show nobody's lateness
    split = _with_basis(measured).with_columns((duration - pl.col("wait_ns")).alias("transfer_ns"))
    return conform(with_bandwidth(split), COLLECTIVE_SPLITS).sort("rank", "start_ns")


def _duration() -> pl.Expr:
    """By the trace, else as the library measured it."""
    return pl.coalesce(pl.col("end_ns") - pl.col("start_ns"), "recorded_duration_ns")


def _with_basis(rows: pl.DataFrame) -> pl.DataFrame:
    known = {
        name: pl.col(f"wait_{column}_ns" if name != "modelled" else "_wait_modelled_ns").is_not_null()
        for name, column in (("durations", "durations"), ("clock", "clock"), ("modelled", ""), ("own_min", "high"))
    }
    basis = (
        pl.when(known["durations"] | (~known["clock"] & known["modelled"]))
        .then(pl.lit("durations"))
        .when(known["clock"])
        .then(pl.lit("clock"))
        .when(known["own_min"])
        .then(pl.lit("own_min"))
        .otherwise(pl.lit("none"))
    )
    return rows.with_columns(
        pl.coalesce("wait_durations_ns", "wait_clock_ns", "_wait_modelled_ns").alias("wait_ns"),
        basis.cast(BASIS).alias("basis"),
        (~known["durations"] & ~known["clock"] & known["modelled"]).alias("estimated"),
    )


def _end_apart() -> pl.Expr:
    """Whether the members of an all-to-all end further apart than its length and the clocks allow."""
    allowed = END_SPREAD_SHARE * pl.col("_shortest") + pl.col("clock_residual_ns").fill_null(0).max().over("match")
    return ((pl.col("kind") == "all_to_all") & (pl.col("_end_spread") > allowed)).fill_null(value=False)


def _own_low(duration: pl.Expr) -> pl.Expr:
    """What exceeds twice the fastest of the rank's equal kernels; null with too few of them, and on CPU traces."""
    same = ["rank", "group", "kind", "send_bytes", "receive_bytes"]
    known = pl.all_horizontal(pl.col("index", "send_bytes", "receive_bytes").is_not_null())
    return pl.when((pl.len().over(same) >= MIN_SAMPLES) & known).then(at_least_waited(duration, same))


def at_least_waited(duration: pl.Expr, same: list[str]) -> pl.Expr:
    """Waiting in an operation at least, among those that are equal in the columns `same`: the lower bound of `own_min`."""
    return (duration - MAX_TRANSFER_RATIO * duration.min().over(same)).clip(lower_bound=0)


def _with_members(rows: pl.DataFrame) -> pl.DataFrame:
    """Add what the members of a match have in common: `_equal` bytes, `_shortest` duration, `_sparse` splits."""
    splits = [pl.col(name) for name in ("send_splits", "receive_splits")]
    even = pl.all_horizontal([(s.list.n_unique() <= 1).fill_null(value=True) for s in splits])
    sparse = pl.any_horizontal([(s.list.min() == 0).fill_null(value=False) for s in splits])
    same_bytes = [
        (pl.col(name).n_unique() == 1) & pl.col(name).is_not_null().all() for name in ("send_bytes", "receive_bytes")
    ]
    exchanged = (pl.col("kind") == "all_to_all").all() & even.all() & same_bytes[0] & same_bytes[1]
    together = (
        rows.filter(pl.col("match").is_not_null())
        .group_by("match")
        .agg(
            (pl.col("kind").is_in(SYMMETRIC).all() | exchanged).alias("_equal"),
            pl.when(_duration().is_not_null().all()).then(_duration().min()).alias("_shortest"),
            pl.when(_duration().is_not_null().all() & ((_duration() == _duration().min()).sum() == 1))
            .then(pl.col("rank").filter(_duration() == _duration().min()).min())
            .alias("_last"),
            (pl.col("end_ns").max() - pl.col("end_ns").min()).alias("_end_spread"),
            sparse.any().alias("_sparse"),
        )
    )
    return rows.join(together, on="match", how="left", maintain_order="left")


def _with_latest_arrival(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `arrival_ns` and `late_rank`: the latest start among the members a rank exchanges with, itself included."""
    matched = rows.filter(pl.col("match").is_not_null())
    dense = matched.filter(~pl.col("_sparse"))
    last = dense.group_by("match").agg(
        pl.col("start_ns").max().alias("arrival_ns"),
        pl.col("rank").filter(pl.col("start_ns") == pl.col("start_ns").max()).max().alias("late_rank"),
    )
    by_row = pl.concat([dense.select("_row", "match").join(last, on="match").drop("match"), _sparse_arrivals(matched)])
    return rows.join(by_row, on="_row", how="left", maintain_order="left")


def _sparse_arrivals(matched: pl.DataFrame) -> pl.DataFrame:
    """`_row`, `arrival_ns`, `late_rank` of exchanges in which some members exchange nothing: by pair, so costly."""
    peers = (
        matched.filter("_sparse")
        .select("_row", "rank", "match", "group", "send_splits", "receive_splits")
        .with_columns(pl.col("group").str.split(",").cast(pl.List(pl.Int32)).alias("peer"))
        .with_columns([_padded(column) for column in ("send_splits", "receive_splits")])
        .explode("peer", "send_splits", "receive_splits")
        .filter(
            (pl.col("send_splits").fill_null(1) > 0)
            | (pl.col("receive_splits").fill_null(1) > 0)
            | (pl.col("peer") == pl.col("rank"))
        )
    )
    arrivals = matched.select("match", pl.col("rank").alias("peer"), pl.col("start_ns").alias("peer_start_ns"))
    return (
        peers.join(arrivals, on=["match", "peer"])
        .sort("_row", "peer_start_ns", "peer")
        .group_by("_row", maintain_order=True)
        .agg(pl.col("peer_start_ns").last().alias("arrival_ns"), pl.col("peer").last().alias("late_rank"))
    )


def _padded(column: str) -> pl.Expr:
    """Splits as long as the group; unknown or even splits become nulls, which count as an exchange."""
    known = pl.col(column).list.len() == pl.col("peer").list.len()
    return (
        pl.when(known).then(column).otherwise(pl.lit(None, pl.Int64).repeat_by(pl.col("peer").list.len())).alias(column)
    )


def _with_residual(rows: pl.DataFrame, clocks: pl.DataFrame | None) -> pl.DataFrame:
    """Add `clock_residual_ns`: how far off the two clocks in `wait_clock_ns` may be, this rank's and the late one's."""
    if clocks is None:
        return rows.with_columns(pl.lit(None, pl.Int64).alias("clock_residual_ns"))
    own = clocks.select("rank", pl.col("residual_ns").alias("_own"))
    late = clocks.select(pl.col("rank").alias("late_rank"), pl.col("residual_ns").alias("_late"))
    together = pl.when(pl.col("rank") == pl.col("late_rank")).then(0).otherwise(pl.col("_own") + pl.col("_late"))
    return (
        rows.join(own, on="rank", how="left", maintain_order="left")
        .join(late, on="late_rank", how="left", maintain_order="left")
        .with_columns(together.alias("clock_residual_ns"))
        .drop("_own", "_late")
    )


def hidden_by_clocks(splits: pl.DataFrame) -> str | None:
    """Why waits by `clock` cannot be trusted together: the clocks' residuals are of their order; None if they are not.

    `splits` is `COLLECTIVE_SPLITS` or `P2P_SPLITS`. Residuals that are not known count as none (one host's clock).
    """
    wait, residual = _wait_and_residual(splits.filter(pl.col("basis") == "clock"))
    if residual <= wait * RESIDUAL_SHARE:
        return None
    return f"the clocks of these ranks may be off by {milliseconds(residual / 1e6)} in all, the waits sum to {milliseconds(wait / 1e6)}"


def naming_hidden_by_clocks(splits: pl.DataFrame) -> bool:
    """Whether the clocks' residuals are of the order of the waits by any basis, so that who came last is not known."""
    wait, residual = _wait_and_residual(splits.filter(pl.col("late_rank").is_not_null()))
    return residual > wait * RESIDUAL_SHARE


def _wait_and_residual(rows: pl.DataFrame) -> tuple[int, int]:
    """Sums in nanoseconds over rows whose wait is known."""
    known = rows.filter(pl.col("wait_ns").is_not_null())
    return int(known["wait_ns"].sum()), int(known["clock_residual_ns"].fill_null(0).sum())
