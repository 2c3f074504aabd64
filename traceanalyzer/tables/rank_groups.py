"""What is made of each rank's rows alone is made of few ranks at a time, so that copies of large tables stay small."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

import polars as pl

MOST_ROWS = 65_536
"""Rows of the largest table that are worked on at a time; a rank with more is a group of its own."""
Asked = ParamSpec("Asked")
Found = TypeVar("Found")


def in_rank_groups(made: Callable[Asked, pl.DataFrame]) -> Callable[Asked, pl.DataFrame]:
    """`made`, called with the rows of few ranks at a time; what it gives is put together in the order of ranks.

    Only for functions that look at no rank when they make another's rows, and of which every table has `rank`.
    """

    @functools.wraps(made)
    def grouped(*args: Asked.args, **kwargs: Asked.kwargs) -> pl.DataFrame:
        return pl.concat(list(results_of_groups(made, *args, **kwargs)))

    return grouped


def results_of_groups(made: Callable[Asked, Found], *args: Asked.args, **kwargs: Asked.kwargs) -> Iterator[Found]:
    """`made` of the rows of few ranks at a time, in the order of ranks; arguments that are no tables stay as they are."""
    groups = _groups([each for each in (*args, *kwargs.values()) if isinstance(each, pl.DataFrame)])
    if len(groups) <= 1:
        yield made(*args, **kwargs)
        return
    for first, last in groups:
        here = pl.col("rank").is_between(first, last)
        rows = [each.filter(here) if isinstance(each, pl.DataFrame) else each for each in args]
        named = {name: each.filter(here) if isinstance(each, pl.DataFrame) else each for name, each in kwargs.items()}
        yield made(*rows, **named)  # type: ignore[call-arg]


def _groups(frames: Sequence[pl.DataFrame]) -> list[tuple[int, int]]:
    """First and last rank of each group of neighbours, by the rows of the largest table."""
    largest = max(frames, key=lambda frame: frame.height, default=None)
    if largest is None or largest.height <= MOST_ROWS:
        return []
    heights = dict(largest.group_by("rank").len().iter_rows())
    ranks = sorted({rank for frame in frames for rank in frame["rank"].unique().drop_nulls()})
    groups: list[tuple[int, int]] = []
    rows = 0
    for rank in ranks:
        rows += heights.get(rank, 0)
        if not groups or rows > MOST_ROWS:
            groups.append((rank, rank))
            rows = heights.get(rank, 0)
        groups[-1] = (groups[-1][0], rank)
    return groups
