"""Expert time by rows: what a rank takes because it holds more, apart from what it takes because it is slow."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from traceanalyzer.gaps.experts.replay import Link, evened
from traceanalyzer.measurements.experts.all_to_all import imbalance_cost
from traceanalyzer.measurements.experts.load_time import time_per_row


def measured(rows: list[list[float]], speed: list[float], fixed: float = 500.0) -> float:
    """The slope over places (outer) and ranks (inner) where a row takes 10 ns times the rank's factor."""
    points = [
        (rank, place, held, (10 * held + fixed) * speed[rank])
        for place, ranks in enumerate(rows)
        for rank, held in enumerate(ranks)
    ]
    ranks, places, held, took = (np.array(column) for column in zip(*points, strict=True))
    return time_per_row(ranks.astype(np.int64), places.astype(np.int64), held.astype(np.float64), took)


def test_time_follows_rows_at_the_ranks_own_speed() -> None:
    assert measured([[100, 300, 200], [150, 90, 260]], [1, 1, 1]) == pytest.approx(10)


def test_a_slow_rank_with_an_even_load_hardly_moves_the_slope() -> None:
    """At most what a row takes in all: the few rows that differ by chance carry no more."""
    assert measured([[100, 101, 100], [101, 100, 100]], [1, 1, 1.8], fixed=0.0) <= 10 + 1e-9


def test_time_that_does_not_follow_rows_has_no_slope() -> None:
    ranks, places = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    assert time_per_row(ranks, places, np.array([10.0, 90.0, 20.0, 80.0]), np.full(4, 700.0)) == 0.0


def links(rows: tuple[float, float, float], took: tuple[float, float, float]) -> dict[int, list[Link]]:
    key = (0, "0,1,2", "all_to_all", 4)
    return {
        rank: [Link(rank, 0, key, took[rank] + 5.0, experts_ns={(0, "experts"): took[rank]}, rows=rows[rank])]
        for rank in range(3)
    }


def test_evening_leaves_a_slow_rank_slow_and_lightens_a_full_one() -> None:
    slow, full = links((40, 40, 40), (400, 400, 640)), links((30, 30, 60), (300, 300, 600))
    assert [evened(slow)(each[0]).local_ns for each in slow.values()] == [405, 405, 645]
    assert [evened(full)(each[0]).local_ns for each in full.values()] == [405, 405, 405]


def test_a_slow_rank_is_no_cost_of_the_load() -> None:
    keys = {"step": [1] * 3, "layer": [0] * 3, "group": ["0,1,2"] * 3, "rank": [0, 1, 2]}
    times = pl.DataFrame({**keys, "part": ["experts"] * 3, "duration_ns": [400, 400, 640]})
    even, full = pl.DataFrame({**keys, "tokens": [40, 40, 40]}), pl.DataFrame({**keys, "tokens": [40, 40, 64]})
    assert imbalance_cost(times, even)["cost_ns"].to_list() == [0.0]
    assert imbalance_cost(times, full)["cost_ns"].to_list() == pytest.approx([160.0])
