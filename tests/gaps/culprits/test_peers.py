"""Peers and the bases of their segments, from tiny tables."""

from __future__ import annotations

import polars as pl

from traceanalyzer.gaps.culprits.late_members import late_members
from traceanalyzer.gaps.culprits.peers import peers
from traceanalyzer.schema import COLLECTIVE_SPLITS, conform


def operations(rows: list[tuple[int, str, str, str | None]]) -> pl.DataFrame:
    """Rank, kind, role, group in the order of each rank's program."""
    frame = pl.DataFrame(rows, schema=["rank", "kind", "role", "group"], orient="row")
    return frame.with_columns(
        pl.lit(7).alias("step"),
        pl.int_range(pl.len()).over("rank").alias("operation"),
        pl.lit(None, pl.String).alias("direction"),
    )


def test_ranks_of_a_tensor_group_with_one_program_are_peers() -> None:
    rows = [(rank, "all_reduce", "tp", "4,5") for rank in (4, 5)] + [(6, "all_reduce", "tp", "6,7")]
    assert peers(operations(rows))["rank"].to_list() == [4, 5]


def test_another_program_is_no_peer() -> None:
    rows = [(rank, "all_reduce", "dp", "0,1,2") for rank in (0, 1, 2)] + [(2, "all_gather", "dp", "0,1,2")]
    assert peers(operations(rows))["rank"].to_list() == [0, 1]


def test_a_group_of_the_whole_job_does_not_make_stages_peers() -> None:
    rows: list[tuple[int, str, str, str | None]] = [(rank, "all_reduce", "world", "0,1") for rank in (0, 1)]
    assert peers(operations(rows))["rank"].to_list() == [0, 1]
    rows += [(0, "send_recv", "pp", None), (1, "send_recv", "pp", None)]
    assert peers(operations(rows)).is_empty()


def splits(rows: list[tuple[int, int, int, int, int | None]]) -> pl.DataFrame:
    """Match, rank, start, wait and late rank."""
    frame = pl.DataFrame(rows, schema=["match", "rank", "start_ns", "wait_ns", "late_rank"], orient="row")
    return conform(
        frame.with_columns(
            pl.lit(3).alias("step"),
            pl.lit("8,9").alias("group"),
            pl.lit("dp").alias("role"),
            pl.lit("all_reduce").alias("kind"),
        ),
        COLLECTIVE_SPLITS,
    )


def test_who_comes_last_how_often_and_how_long_the_others_wait() -> None:
    found = late_members(
        splits([(1, 8, 0, 9_000_000, 9), (1, 9, 9, 0, 9), (2, 8, 20, 2_000_000, 9), (2, 9, 21, 0, 9), (3, 8, 30, 0, None),
                (3, 9, 30, 0, None)])
    )  # fmt: skip
    assert found.select("late_rank", "num_late", "num", "waiting_ms").rows() == [
        (9, 1, 1, 2.0)
    ]  # the first does not count
