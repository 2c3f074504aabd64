"""How busy ranks are, in equal bins of time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import polars as pl


def binned(rows: Any, start: Any, end: Any, shape: tuple[int, int], window: tuple[int, int]) -> Any:  # noqa: ANN401 - arrays
    """The share of each bin that spans cover, shape (rows, bins), 0 to 1; spans that overlap on a row count once at most.

    `rows`, `start` and `end` are integer arrays of one length, ns; `window` is (first, last) ns of the bins.
    """
    num_rows, bins = shape
    width = max((window[1] - window[0]) / bins, 1e-9)
    left = np.clip((start - window[0]) / width, 0, bins)
    right = np.clip((end - window[0]) / width, 0, bins)
    first = np.minimum(left.astype(np.int64), bins - 1)
    last = np.minimum(right.astype(np.int64), bins - 1)
    within = first == last
    size = num_rows * (bins + 1)
    at = rows.astype(np.int64) * (bins + 1)

    def sums(places: Any, weights: Any) -> Any:  # noqa: ANN401
        return np.bincount(places, weights, size)

    covered = sums(at + first, np.where(within, right - left, first + 1 - left))
    covered += sums(at + last, np.where(within, 0.0, right - last))
    whole = sums(at + first + 1, np.where(within, 0.0, 1.0)) - sums(at + last, np.where(within, 0.0, 1.0))
    total = covered.reshape(num_rows, bins + 1) + np.cumsum(whole.reshape(num_rows, bins + 1), axis=1)
    return np.clip(total[:, :bins], 0.0, 1.0)


def busy_map(spans: pl.DataFrame, order: list[int], window: tuple[int, int], rows: int, bins: int) -> Any:  # noqa: ANN401
    """Mean busy share of the ranks in `order`, at most `rows` rows of neighbours, shape (rows, bins); `spans` has rank, start_ns, end_ns."""
    places = pl.DataFrame({"rank": order, "place": range(len(order))}, schema={"rank": pl.Int32, "place": pl.Int64})
    known = spans.select("rank", "start_ns", "end_ns").join(places, on="rank")
    place, start, end = (known[name].to_numpy() for name in ("place", "start_ns", "end_ns"))
    each: Any = binned(place, start, end, (len(order), bins), window)
    together = min(rows, len(order))
    edges = np.linspace(0, len(order), together + 1).astype(int)
    return np.stack([each[a:b].mean(axis=0) for a, b in itertools.pairwise(edges)])
