"""Dumps of flight recorders, taken when a job hung or was ended → which rank did not call what the others wait in."""

from __future__ import annotations

import polars as pl

from traceanalyzer.review.words import ranks_text


def uncalled(flight: pl.DataFrame) -> str | None:
    """In a sentence which ranks did not call the last collective of a group that other ranks called, from `FLIGHT`.

    Of several such groups the one whose collective was called first counts: others wait for its members. None if every
    rank called as often. Ranks without a dump have called nothing that is known and are not spoken of.
    """
    calls = (
        flight.filter(~pl.col("is_p2p") & pl.col("sequence_number").is_not_null())
        .group_by("pg_name", "rank")
        .agg(pl.col("sequence_number").max().alias("last"))
    )
    ahead = calls.with_columns(
        pl.col("last").max().over("pg_name").alias("most"), pl.col("last").min().over("pg_name").alias("least")
    )
    open_groups = ahead.filter(pl.col("most") > pl.col("least"))
    if open_groups.is_empty():
        return None
    first = (
        flight.join(open_groups.select("pg_name", "least").unique(), on="pg_name")
        .filter(pl.col("sequence_number") == pl.col("least") + 1)
        .sort("created_ns")
        .head(1)
    )
    if first.is_empty():  # it has fallen out of the recorder's buffer
        return None
    group, name, number = first.select("pg_name", "name", "sequence_number").row(0)
    of_group = open_groups.filter(pl.col("pg_name") == group)
    behind = sorted(of_group.filter(pl.col("last") < number)["rank"])
    called = sorted(of_group.filter(pl.col("last") >= number)["rank"])
    return f"By the flight recorders {ranks_text(behind)} did not call {name} number {number} of group {group}, in which {ranks_text(called)} waited."
