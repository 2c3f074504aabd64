"""How expert computation follows load: nanoseconds per row (or token, or byte), whatever a rank's own speed is.

A rank may take long because it holds many rows, or because it is slow. Only the former is uneven load. Two computations are
comparable if they are of one rank (its speed cancels), or of one place (layer and microbatch) on two ranks. Of all such pairs
the slope is the median, weighted by how far apart their rows are, between 0 (time does not follow rows, as in padded
buffers) and the median time per row: a slow rank with an even load gives pairs of next to no weight.

A rank that is slow at its experts needs as many times longer for every row that it gains or loses: `slowness`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 1_500
"""Computations whose pairwise slopes are taken: every n-th in order of place."""


def time_per_row(
    ranks: NDArray[np.int64], places: NDArray[np.int64], rows: NDArray[np.float64], took: NDArray[np.float64]
) -> float:
    """The slope over the computations of one part; each argument holds one value per computation, `took` nanoseconds."""
    known = rows > 0
    ranks, places, rows, took = ranks[known], places[known], rows[known], took[known]
    if not len(rows):
        return 0.0
    most = float(np.median(took / rows))
    chosen = np.argsort(places, kind="stable")
    kept = np.unique(places)[:: -(-len(places) // MAX_POINTS)]
    chosen = chosen[np.isin(places[chosen], kept)]
    ranks, places, rows, took = ranks[chosen], places[chosen], rows[chosen], took[chosen]
    apart = rows[None, :] - rows[:, None]
    paired = ((ranks[None, :] == ranks[:, None]) | (places[None, :] == places[:, None])) & (apart > 0)
    if not paired.any():
        return 0.0
    weights = apart[paired]
    slopes = (took[None, :] - took[:, None])[paired] / weights
    ranked = np.argsort(slopes, kind="stable")
    reached = np.cumsum(weights[ranked])
    return min(max(float(slopes[ranked][np.searchsorted(reached, reached[-1] / 2)]), 0.0), most)


def slowness(
    ranks: NDArray[np.int64],
    places: NDArray[np.int64],
    rows: NDArray[np.float64],
    took: NDArray[np.float64],
    per_row: float,
) -> dict[int, float]:
    """By rank, its time over what the others of the place would take for its rows; the median over places.

    Arguments as of `time_per_row`, and its result. Ranks that share no place with two others are left out: of two ranks
    nothing shows which one is slow.
    """
    found: dict[int, list[float]] = {}
    order = np.argsort(places, kind="stable")
    bounds = np.flatnonzero(np.diff(places[order])) + 1
    for place in np.split(order, bounds):
        if len(place) < 3:
            continue
        for at, own in enumerate(place):
            others = np.delete(place, at)
            usual = float(np.median(took[others] + per_row * (rows[own] - rows[others])))
            if usual > 0 and took[own] > 0:
                found.setdefault(int(ranks[own]), []).append(float(took[own]) / usual)
    return {rank: float(np.median(ratios)) for rank, ratios in found.items()}
