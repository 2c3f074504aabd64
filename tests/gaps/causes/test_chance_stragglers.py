"""A rank whose equal actions vary is a straggler only beyond what that variation explains."""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from traceanalyzer.gaps.causes.blame import with_duration_parts

VARYING = [70, 130, 85, 118, 95, 104, 78, 122]
LONGER = [74, 133, 90, 121, 100, 107, 83, 126]
"""About 4% more of the median, of actions that vary by 20%."""


def straggling(by_rank: list[list[int]]) -> list[int]:
    """What every rank of one stage is told to fall behind, in nanoseconds."""
    rows = [
        {"phase": "F", "stage": 0, "rank": rank, "start_ns": start, "end_ns": end}
        for rank, durations in enumerate(by_rank)
        for start, end in pairwise([sum(durations[:n]) for n in range(len(durations) + 1)])
    ]
    parts = with_duration_parts(pl.DataFrame(rows))
    assert (parts["base_ns"] + parts["stage_ns"] + parts["straggler_ns"] + parts["jitter_ns"]).to_list() == [
        row["end_ns"] - row["start_ns"] for row in rows
    ]
    return [int(parts.filter(pl.col("rank") == rank)["straggler_ns"][0]) for rank in range(len(by_rank))]


def test_what_variation_explains_is_jitter() -> None:
    assert straggling([VARYING, LONGER, VARYING]) == [0, 0, 0]


def test_a_rank_that_is_slow_beyond_its_variation_is_a_straggler() -> None:
    slow = straggling([VARYING, [2 * each for each in VARYING], VARYING])
    assert slow[1] > 75
    assert slow[0] == slow[2] == 0


def test_without_variation_the_smallest_difference_counts() -> None:
    assert straggling([[100] * 8, [103] * 8, [100] * 8]) == [0, 3, 0]
