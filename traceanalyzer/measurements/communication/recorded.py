"""What NCCL Inspector and torch's flight recorder say by themselves, joined across ranks."""

from __future__ import annotations

import polars as pl

_OPERATION = ["communicator", "kind", "sequence_number"]


def inspector_bandwidth(records: pl.DataFrame) -> pl.DataFrame:
    """Durations and bandwidths by communicator, kind and size, from `INSPECTOR`, longest total first.

    Columns `communicator`, `kind`, `bytes`, `num_members`, `num_hosts`, `num_operations` (with records of all members),
    `median_ns` (of the shortest duration among members), `algorithm_bytes_per_second`, `bus_bytes_per_second` (nccl-tests;
    null for kinds without a factor there) and `wait_share`: how much longer members took than the shortest one.
    """
    timed = records.filter((pl.col("duration_ns") > 0) & pl.col("peer").is_null())
    whole = timed.filter(pl.col("rank").n_unique().over(_OPERATION) == pl.col("num_members"))
    operations = whole.group_by([*_OPERATION, "bytes", "num_members", "num_hosts"]).agg(
        pl.col("duration_ns").min().alias("shortest_ns"), pl.col("duration_ns").sum().alias("together_ns")
    )
    n = pl.col("num_members").cast(pl.Float64)
    gathers = pl.col("kind").is_in(["all_gather", "reduce_scatter"])
    size = pl.when(gathers).then(pl.col("bytes") * n).otherwise(pl.col("bytes").cast(pl.Float64))
    factor = (
        pl.when(pl.col("kind") == "all_reduce")
        .then(2 * (n - 1) / n)
        .when(gathers | (pl.col("kind") == "all_to_all"))
        .then((n - 1) / n)
        .when(pl.col("kind").is_in(["broadcast", "reduce"]))
        .then(1.0)
    )
    return (
        operations.group_by("communicator", "kind", "bytes", "num_members", "num_hosts")
        .agg(
            pl.len().alias("num_operations"),
            pl.col("shortest_ns").median().alias("median_ns"),
            (1 - (pl.col("shortest_ns") * pl.col("num_members")).sum() / pl.col("together_ns").sum()).alias(
                "wait_share"
            ),
            pl.col("together_ns").sum(),
        )
        .with_columns((size / pl.col("median_ns") * 1e9).alias("algorithm_bytes_per_second"))
        .with_columns((pl.col("algorithm_bytes_per_second") * factor).alias("bus_bytes_per_second"))
        .sort(["together_ns", "communicator", "kind", "bytes"], descending=[True, False, False, False])
        .drop("together_ns")
    )


def missing_callers(dumps: pl.DataFrame) -> pl.DataFrame:
    """Collectives that some members recorded and others, whose history reaches far enough, did not.

    `dumps` is `FLIGHT` of several ranks. Columns `pg_name`, `sequence_number`, `name`, `called` and `missing` (ranks). A rank
    whose ring buffer begins after the collective has forgotten it, which proves nothing; a rank that recorded nothing at all in
    a group is not known to be a member.
    """
    calls = dumps.filter(~pl.col("is_p2p") & pl.col("rank").is_not_null())
    reach = calls.group_by("pg_name", "rank").agg(pl.col("sequence_number").min().alias("first"))
    called = calls.group_by("pg_name", "sequence_number").agg(
        pl.col("name").first(), pl.col("rank").unique().sort().alias("called")
    )
    pairs = called.join(reach, on="pg_name").filter(
        (pl.col("first") <= pl.col("sequence_number")) & ~pl.col("rank").is_in(pl.col("called"))
    )
    return (
        pairs.group_by("pg_name", "sequence_number")
        .agg(pl.col("name").first(), pl.col("called").first(), pl.col("rank").sort().alias("missing"))
        .sort("pg_name", "sequence_number")
    )


def mismatched_calls(dumps: pl.DataFrame) -> pl.DataFrame:
    """Numbers of a group under which ranks called different operations: `pg_name`, `sequence_number`, `calls` (texts)."""
    calls = dumps.filter(~pl.col("is_p2p") & pl.col("rank").is_not_null()).drop_nulls(["name", "sequence_number"])
    whole = calls.filter(pl.col("name").n_unique().over("pg_name", "sequence_number", "rank") == 1)  # not coalesced
    apart = whole.filter(pl.col("name").n_unique().over("pg_name", "sequence_number") > 1)
    ranks = pl.col("rank").unique().sort().cast(pl.String).str.join(", ")
    named = apart.group_by("pg_name", "sequence_number", "name").agg(ranks.alias("ranks")).sort("name")
    said = pl.concat_str("name", pl.lit(" on rank "), "ranks")
    return named.group_by("pg_name", "sequence_number").agg(said.alias("calls")).sort("pg_name", "sequence_number")


def unfinished_calls(dumps: pl.DataFrame) -> pl.DataFrame:
    """Calls not known to have ended when the dump was written: `rank`, `pg_name`, `name`, `sequence_number`, `state`.

    `dumps` is `FLIGHT`. Gloo leaves the state at `scheduled`; there only `retired` shows the end.
    """
    ended = (pl.col("state") == "completed") | pl.col("retired").fill_null(value=False)
    known = dumps.filter(~ended.fill_null(value=False)).drop_nulls(
        ["rank", "pg_name", "name", "sequence_number", "state"]
    )
    return known.select("rank", "pg_name", "name", "sequence_number", "state").sort(
        "rank", "pg_name", "sequence_number"
    )


def late_by_durations(splits: pl.DataFrame) -> pl.DataFrame:
    """Waits for every rank by recorded durations, largest first: `source`, `rank`, `num_collectives`, `wait_ns`.

    From rows of `COLLECTIVE_SPLITS` that only a record is about; a collective may have records of two sources.
    """
    waits = splits.filter(
        pl.col("start_ns").is_null() & (pl.col("late_rank") != pl.col("rank")) & (pl.col("wait_ns") > 0)
    )
    return (
        waits.group_by("source", pl.col("late_rank").alias("rank"))
        .agg(pl.col("match").n_unique().cast(pl.Int64).alias("num_collectives"), pl.col("wait_ns").sum())
        .sort(["wait_ns", "source", "rank"], descending=[True, False, False])
    )
