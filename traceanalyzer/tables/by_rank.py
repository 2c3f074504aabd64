"""Frames of many ranks, some ranks after others, so that what a function needs in between is never there for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import polars as pl

ROWS_AT_ONCE = 500_000
"""Of the first frame, and those of one rank more: kernels take up to 500 bytes each while they are measured."""


def rank_slices(first: pl.DataFrame, *others: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, ...]]:
    """The same rows of every frame, cut by `rank` in ascending order; a rank is never divided.

    What is made of the slices, one below the other, is what is made of the whole frames, if it looks at one rank at a time and
    is sorted by rank. Ranks that only `others` have are in a slice as well.
    """
    frames = (first, *others)
    bounds: list[int | None] = [None, *_last_ranks(first), None]
    if len(bounds) == 2:
        yield frames
        return
    for low, high in pairwise(bounds):
        yield tuple(_between(frame, low, high) for frame in frames)


def _last_ranks(frame: pl.DataFrame) -> list[int]:
    """The last rank of every slice but the last one."""
    if frame.height <= ROWS_AT_ONCE:
        return []
    sizes = frame.group_by("rank").len().sort("rank")
    number = (pl.col("len").cum_sum() - 1) // ROWS_AT_ONCE
    return sizes.group_by(number.alias("slice")).agg(pl.col("rank").max()).sort("rank")["rank"].to_list()[:-1]


def _between(frame: pl.DataFrame, low: int | None, high: int | None) -> pl.DataFrame:
    """Rows of ranks above `low` up to `high`."""
    above = pl.lit(value=True) if low is None else pl.col("rank") > low
    return frame.filter(above if high is None else above & (pl.col("rank") <= high))
