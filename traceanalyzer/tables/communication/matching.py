"""The same collective, and both ends of the same message, on different ranks.

Collectives are matched by the communicator's number of the operation, else by group and sequence number, else by their
order in the group. Order is counted from the *end* of the step, because captures lose their heads, and only as long as
all members agree on what was called: from the first disagreement backwards nothing is claimed (a *drift*).

Messages have no number: the k-th that i sends j is the k-th that j receives from i, per group, counted likewise.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import MATCH_BASIS

_EQUAL_BYTES = ["all_reduce", "all_gather", "reduce_scatter", "barrier"]
"""Kinds whose members all exchange the same number of bytes: a difference shows a wrong match."""


def match_collectives(rows: pl.DataFrame, captured: pl.Series) -> pl.DataFrame:
    """Add `match`, `match_basis`, `unmatched`, `num_members`, `num_present`.

    Args:
        rows: one row per rank and collective, with `rank`, `step`, `kind`, `group`, `pg_name`, `communicator`,
            `sequence_number`, `order_ns` (when it was called) and `send_bytes`.
        captured: the ranks of which there are traces.
    """
    basis = (
        pl.when(pl.col("communicator").is_not_null() & pl.col("group").is_not_null())
        .then(pl.lit("communicator_id"))
        .when(pl.col("sequence_number").is_not_null() & pl.col("group").is_not_null())
        .then(pl.lit("sequence"))
        .when(pl.col("group").is_not_null() & pl.col("step").is_not_null())
        .then(pl.lit("order"))
        .otherwise(pl.lit("none"))
    )
    numbered = _with_tail_order(rows.with_columns(basis.cast(MATCH_BASIS).alias("match_basis")))
    by = pl.col("match_basis")
    is_order = by == "order"
    group, name = _codes(numbered, "group", "pg_name")
    keys = [
        group.alias("_group"),
        pl.when(by == "communicator_id").then(None).otherwise(name).alias("_name"),
        pl.when(is_order).then("step").alias("_step"),
        pl.when(by == "communicator_id").then("communicator").alias("_id"),
        pl.when(by == "sequence").then("sequence_number").when(is_order).then("_from_end").alias("_number"),
    ]
    matched = number_matches(numbered, [*keys, by.to_physical().alias("_basis")], pl.col("match_basis") != "none")
    return _with_presence(_without_drift(matched), captured).drop("_from_end", "_basis_known", strict=False)


def _with_tail_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `_from_end`: how many calls of the same rank, group and step follow."""
    placed = rows.sort("rank", "order_ns")
    from_end = pl.int_range(pl.len(), 0, -1, dtype=pl.Int64)
    return placed.with_columns(from_end.over("rank", *_codes(placed, "group", "pg_name"), "step").alias("_from_end"))


def _codes(rows: pl.DataFrame, *columns: str) -> list[pl.Expr]:
    """Text columns as numbers, equal where the texts are: the text of a group is as long as the job has ranks."""
    return [
        pl.col(name).cast(pl.Enum(rows[name].drop_nulls().unique(maintain_order=True))).to_physical().alias(name)
        for name in columns
    ]


def number_matches(rows: pl.DataFrame, keys: list[pl.Expr], known: pl.Expr) -> pl.DataFrame:
    """Add `match`, a number per distinct key, the same on every rank; null if not `known`."""
    names = [key.meta.output_name() for key in keys]
    keyed = rows.with_columns(keys)
    numbers = keyed.filter(known).select(names).unique(maintain_order=True).with_row_index("match")
    joined = keyed.join(numbers, on=names, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(pl.when(known).then(pl.col("match").cast(pl.UInt64)).alias("match")).drop(names)


def _without_drift(rows: pl.DataFrame) -> pl.DataFrame:
    """Take back matches by order from the first one backwards whose members called different things."""
    size = pl.col("send_bytes").filter(pl.col("kind").is_in(_EQUAL_BYTES))
    (kind,) = _codes(rows, "kind")
    disagrees = (kind.min() != kind.max()) | (size.min() != size.max()).fill_null(value=False)
    stepwise = [*_codes(rows, "group", "pg_name"), "step"]
    first_bad = pl.when(pl.col("_bad")).then("_from_end").min().over(stepwise)
    drifted = (pl.col("match_basis") == "order") & (pl.col("_from_end") >= first_bad).fill_null(value=False)
    return (
        _joined_over_match(rows, disagrees.alias("_bad"), pl.col("rank").n_unique().cast(pl.Int32).alias("num_present"))
        .with_columns(drifted.alias("_drifted"))
        .with_columns([pl.when(~pl.col("_drifted")).then(name).alias(name) for name in ("match", "num_present")])
        .drop("_bad")
    )


def _joined_over_match(rows: pl.DataFrame, *together: pl.Expr) -> pl.DataFrame:
    """Add what the members of a match have in common; null outside matches."""
    common = rows.filter(pl.col("match").is_not_null()).group_by("match").agg(together)
    return rows.join(common, on="match", how="left", maintain_order="left")


def _with_presence(rows: pl.DataFrame, captured: pl.Series) -> pl.DataFrame:
    """Add how many members there are, and why a collective is not whole."""
    sizes = (
        rows.select("group")
        .unique()
        .drop_nulls()
        .with_columns(pl.col("group").str.split(",").cast(pl.List(pl.Int32)).alias("_members"))
        .with_columns(
            pl.col("_members").list.len().cast(pl.Int32).alias("num_members"),
            pl.col("_members").list.set_intersection(captured.unique().to_list()).list.len().alias("_captured"),
        )
        .drop("_members")
    )
    lost = pl.lit("the part of a captured member is missing")
    reason = (
        pl.when(pl.col("_drifted"))
        .then(pl.lit("members disagree on the order of calls"))
        .when(pl.col("match").is_null() & pl.col("step").is_null())
        .then(pl.lit("launched before the capture or outside its steps"))
        .when(pl.col("match").is_null())
        .then(pl.lit("group unknown"))
        .when((pl.col("num_present") < pl.col("num_members")) & (pl.col("num_present") < pl.col("_captured")))
        .then(lost)
        .when(pl.col("num_present") < pl.col("num_members"))
        .then(pl.lit("members were not captured"))
    )
    return (
        rows.join(sizes, on="group", how="left", maintain_order="left")
        .with_columns(
            reason.alias("unmatched"),
            pl.when(pl.col("match").is_null())
            .then(pl.lit("none").cast(MATCH_BASIS))
            .otherwise("match_basis")
            .alias("match_basis"),
        )
        .drop("_drifted", "_captured")
    )


def without_implausible(rows: pl.DataFrame, matched: pl.DataFrame) -> pl.DataFrame:
    """`rows` with `group` null if it was only assumed to be the whole job and its members do not end together.

    Clocks may differ by a constant, so what counts is the spread: the difference between a member's end and the lowest
    rank's may stray from its median by the shortest member's duration and 200 µs, in nine of ten collectives.
    """
    known = matched.filter(pl.col("assumed") & pl.col("match").is_not_null() & pl.col("kind").is_in(_EQUAL_BYTES))
    duration = pl.col("end_ns") - pl.col("start_ns")
    first_end = pl.col("end_ns").get(pl.col("rank").arg_min()).over("match")
    strays = (
        known.with_columns(
            (pl.col("end_ns") - first_end).alias("_delta"), duration.min().over("match").alias("_shortest")
        )
        .with_columns((pl.col("_delta") - pl.col("_delta").median().over("rank")).abs().alias("_stray"))
        .select((pl.col("_stray") > pl.col("_shortest") + _STRAY_NS).mean())
        .item()
    )
    if strays is None or strays <= _STRAY_SHARE:
        return rows
    return rows.with_columns(pl.when(~pl.col("assumed")).then("group").alias("group"))


_STRAY_NS = 200_000
_STRAY_SHARE = 0.1


def match_messages(rows: pl.DataFrame, captured: pl.Series) -> pl.DataFrame:
    """Add `match`, `match_basis`, `unmatched` to sends and receives.

    `rows` has `rank`, `peer`, `direction`, `group`, `pg_name`, `step`, `order_ns` and `bytes`.
    """
    sends = pl.col("direction") == "send"
    source, destination = (
        pl.when(sends).then("rank").otherwise("peer").alias("_source"),
        pl.when(sends).then("peer").otherwise("rank").alias("_destination"),
    )
    known = pl.col("peer").is_not_null() & pl.col("step").is_not_null()
    placed = rows.with_columns(source, destination).sort("rank", "order_ns")
    lane = [pl.col("_source"), pl.col("_destination"), *_codes(placed, "group", "pg_name"), pl.col("step")]
    lanes = number_matches(placed, [key.name.prefix("_key_") for key in lane], known).rename({"match": "_lane"})
    from_end = pl.int_range(pl.len(), 0, -1, dtype=pl.Int64).over("_lane", "direction")
    matched = _numbered_by_lane(lanes.with_columns(from_end.alias("_from_end")))
    side, size = pl.col("direction").to_physical(), pl.col("bytes")
    together = _joined_over_match(
        matched,
        (side.min() != side.max()).alias("_both"),
        (size.min() != size.max()).fill_null(value=False).alias("_disagree"),
    )
    first_bad = pl.when(pl.col("_both") & pl.col("_disagree")).then("_from_end").min().over("_lane")
    drifted = (pl.col("_from_end") >= first_bad).fill_null(value=False)
    whole = pl.col("_both").fill_null(value=False) & ~drifted
    reason = (
        pl.when(drifted)
        .then(pl.lit("ends disagree on the sizes of their messages"))
        .when(pl.col("peer").is_null())
        .then(pl.lit("peer unknown"))
        .when(pl.col("step").is_null())
        .then(pl.lit("launched before the capture or outside its steps"))
        .when(~pl.col("peer").is_in(captured.unique().to_list()))
        .then(pl.lit("the other end was not captured"))
        .otherwise(pl.lit("the other end is missing"))
    )
    return together.with_columns(
        pl.when(whole).then("match").alias("match"),
        pl.when(whole).then(pl.lit("order")).otherwise(pl.lit("none")).cast(MATCH_BASIS).alias("match_basis"),
        pl.when(~whole).then(reason).alias("unmatched"),
    ).drop("_source", "_destination", "_lane", "_from_end", "_both", "_disagree")


def _numbered_by_lane(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `match`: lanes one after the other, each as long as its longer side; null outside lanes."""
    longest = rows.drop_nulls("_lane").group_by("_lane").agg(pl.col("_from_end").max().alias("_length")).sort("_lane")
    before = longest.select("_lane", (pl.col("_length").cum_sum() - pl.col("_length")).alias("_before"))
    number = (pl.col("_before") + pl.col("_from_end") - 1).cast(pl.UInt64).alias("match")
    return rows.join(before, on="_lane", how="left", maintain_order="left").with_columns(number).drop("_before")
