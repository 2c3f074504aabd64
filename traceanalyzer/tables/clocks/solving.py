"""Clock offsets and drifts from operations that two ranks took part in.

What is known of `clock of j - clock of i` at an operation, in the ranks' own times:

* causality: nothing ends before what it needs has started, so it is at most `end_j - start_i` for every message i → j
  and every collective, and at least `start_j - end_i`;
* kernels of a collective whose members exchange equal bytes end together, to within the shortest one's duration: then it
  is `end_j - end_i`, give or take that. (On CPU traces the end is when the main thread went on, which says less.)

Every operation is a point of time with a lower and an upper bound; an offset with linear drift is a line between them.
Of all such lines the one through the middle of what they allow at both ends of the capture is taken, and how far they
allow to be off it is the residual. If no line fits, the bounds contradict each other, and by how much counts as residual.
Ranks without common operation are joined over others; residuals add up.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

MAX_DRIFT = 100e-6
"""Quartz clocks drift by some 20 ppm, disciplined ones by less; faster lines are only considered if none of these fits."""
WIDE_DRIFT = 2000e-6
"""What a clock that is being slewed or a bad conversion of ticks may show."""

_BINS = 64
_PAIR = ("rank", "other")
_SIZES = ("send_bytes", "receive_bytes")
_SYMMETRIC = ["all_reduce", "all_gather", "reduce_scatter", "barrier"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClockLine:
    """A rank's clock less the reference's, as a line through the first and the last time."""

    first_ns: float
    last_ns: float
    residual_ns: float
    num_operations: int
    reference: int | None = None
    """The rank on whose clock this line puts the rank; None: the lowest of all."""


def clock_bounds(collectives: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Bounds on clock differences: `rank`, `other`, `at_ns`, `low_ns`, `high_ns` of `other's clock - rank's clock`.

    From matched `COLLECTIVES` and `P2P` on the ranks' own clocks. One-sided bounds have null on the other side.
    """
    return pl.concat([_from_collectives(collectives), _from_messages(messages)])


def _from_collectives(collectives: pl.DataFrame) -> pl.DataFrame:
    """Every member against the lowest rank that is there."""
    splits = [pl.col(column) for column in ("send_splits", "receive_splits")]
    sparse = pl.any_horizontal([(split.list.min() == 0).fill_null(value=False) for split in splits])
    same = [(pl.col(name).min() == pl.col(name).max()) & pl.col(name).is_not_null().all() for name in _SIZES]
    even = pl.all_horizontal(
        pl.col("send_bytes") == pl.col("receive_bytes"),
        *[(split.list.n_unique() <= 1).fill_null(value=True) for split in splits],
    ).fill_null(value=False)
    exchanged = (pl.col("kind") == "all_to_all").all() & even.all() & same[0] & same[1]
    equal = pl.col("index").is_not_null().all() & (pl.col("kind").is_in(_SYMMETRIC).all() | exchanged)
    kinds = pl.col("kind").is_in([*_SYMMETRIC, "all_to_all"])
    matched = collectives.filter(pl.col("match").is_not_null() & kinds)
    together = matched.group_by("match").agg(
        (pl.col("end_ns") - pl.col("start_ns")).min().alias("_shortest"),
        equal.alias("_equal"),
        sparse.any().alias("_sparse"),
        pl.col("rank").min().alias("_lowest"),
        pl.col("rank").max().alias("_highest"),
    )
    several = together.filter((pl.col("_lowest") < pl.col("_highest")) & ~pl.col("_sparse"))
    whole = matched.select("match", "rank", "start_ns", "end_ns").join(several, on="match", maintain_order="left")
    first = whole.filter(pl.col("rank") == pl.col("_lowest")).select(
        "match",
        pl.col("rank").alias("other_"),
        pl.col("start_ns").alias("first_start"),
        pl.col("end_ns").alias("first_end"),
    )
    pairs = whole.join(first, on="match").filter(pl.col("rank") != pl.col("other_"))
    together = pl.col("end_ns") - pl.col("first_end")
    return pairs.select(
        pl.col("other_").alias("rank"),
        pl.col("rank").alias("other"),
        pl.col("first_end").alias("at_ns"),
        pl.max_horizontal(
            pl.col("start_ns") - pl.col("first_end"), pl.when("_equal").then(together - pl.col("_shortest"))
        ).alias("low_ns"),
        pl.min_horizontal(
            pl.col("end_ns") - pl.col("first_start"), pl.when("_equal").then(together + pl.col("_shortest"))
        ).alias("high_ns"),
    )


def _from_messages(messages: pl.DataFrame) -> pl.DataFrame:
    """A message cannot be there before it was sent; the bound is kept for the pair's lower rank."""
    matched = messages.filter(pl.col("match").is_not_null())
    sent = matched.filter(pl.col("direction") == "send").select(
        "match", pl.col("rank").alias("source"), pl.col("start_ns").alias("sent_ns")
    )
    received = matched.filter((pl.col("direction") == "receive") & pl.col("end_ns").is_not_null()).select(
        "match", pl.col("rank").alias("destination"), pl.col("end_ns").alias("there_ns")
    )
    both = sent.join(received, on="match").filter(pl.col("source") != pl.col("destination"))
    forward = pl.col("source") < pl.col("destination")
    flight = pl.col("there_ns") - pl.col("sent_ns")  # at most the destination's clock less the source's, plus the truth
    return both.select(
        pl.min_horizontal("source", "destination").alias("rank"),
        pl.max_horizontal("source", "destination").alias("other"),
        pl.when(forward).then("sent_ns").otherwise("there_ns").alias("at_ns"),
        pl.when(~forward).then(-flight).alias("low_ns"),
        pl.when(forward).then(flight).alias("high_ns"),
    )


def solve_clocks(bounds: pl.DataFrame, ranks: list[int], first_ns: int, last_ns: int) -> dict[int, ClockLine]:
    """Clock lines of all ranks, each against the lowest rank that common operations join it to (`ClockLine.reference`).

    A rank that nothing joins to another is its own reference, on a line of zero.
    """
    edges: dict[int, list[tuple[int, ClockLine]]] = {rank: [] for rank in ranks}
    low, high = _tightest(bounds, "low_ns", first_ns), _tightest(bounds, "high_ns", first_ns)
    for rank, other, num in bounds.group_by(_PAIR, maintain_order=True).len().iter_rows():
        sides = low.get((rank, other)), high.get((rank, other))
        line = None if sides[0] is None or sides[1] is None else _fit(sides[0], sides[1], num, last_ns - first_ns)
        if line is not None and rank in edges and other in edges:
            edges[rank].append((other, line))
            edges[other].append((rank, ClockLine(-line.first_ns, -line.last_ns, line.residual_ns, line.num_operations)))
    known: dict[int, ClockLine] = {}
    for rank in sorted(ranks):
        if rank not in known:
            known |= _join(edges, rank)
    return known


def _join(edges: dict[int, list[tuple[int, ClockLine]]], reference: int) -> dict[int, ClockLine]:
    """Lines along the paths of least residual; of several equal ones the lowest line, whatever order they came in."""
    known: dict[int, ClockLine] = {}
    heap = [(0.0, reference, 0.0, 0.0, 0)]
    while heap:
        residual, rank, first, last, num = heapq.heappop(heap)
        if rank in known:
            continue
        line = ClockLine(first, last, residual, num, reference)
        known[rank] = line
        for other, step in edges[rank]:
            if other not in known:
                reached = (line.first_ns + step.first_ns, line.last_ns + step.last_ns, step.num_operations)
                heapq.heappush(heap, (residual + step.residual_ns, other, *reached))
    return known


Points = tuple[Floats, Floats]
"""Times since the first, and bounds there."""


def _fit(low: Points, high: Points, num_operations: int, length_ns: int) -> ClockLine:
    """The line between lower and upper bounds of one pair of ranks."""
    span = float(max(length_ns, 1))
    slopes, floor, ceiling = _levels(low, high, np.linspace(-MAX_DRIFT, MAX_DRIFT, 401))
    if float((ceiling - floor).max()) < 0:
        slopes, floor, ceiling = _levels(low, high, np.linspace(-WIDE_DRIFT, WIDE_DRIFT, 4001))
    gap = ceiling - floor
    best = float(gap.max())
    slack = max(0.0, -best) / 2
    possible = gap + 2 * slack >= -1e-6
    slopes, floor, ceiling = slopes[possible], floor[possible] - slack, ceiling[possible] + slack
    at_first = float(floor.min()), float(ceiling.max())
    at_last = float((floor + slopes * span).min()), float((ceiling + slopes * span).max())
    return ClockLine(
        first_ns=(at_first[0] + at_first[1]) / 2,
        last_ns=(at_last[0] + at_last[1]) / 2,
        residual_ns=max(at_first[1] - at_first[0], at_last[1] - at_last[0]) / 2 + slack,
        num_operations=num_operations,
    )


def _levels(low: Points, high: Points, slopes: Floats) -> tuple[Floats, Floats, Floats]:
    """The slopes with the lowest and the highest level at the first time that lines of each may have."""
    return slopes, _lines(low, slopes).max(axis=1), _lines(high, slopes).min(axis=1)


def _tightest(bounds: pl.DataFrame, column: str, first_ns: int) -> dict[tuple[int, int], Points]:
    """By pair of ranks the tightest bound of each of a few spans of time: the others cannot bind much."""
    since = pl.col("at_ns") - first_ns
    width = pl.max_horizontal(1, (since.max().over(_PAIR) + 1) // _BINS)
    bins = (
        bounds.drop_nulls(column)
        .select(*_PAIR, since.alias("_since"), (since // width).alias("_bin"), column)
        .sort(*_PAIR, column, descending=[False, False, column == "low_ns"], maintain_order=True)
        .unique([*_PAIR, "_bin"], keep="first", maintain_order=True)
    )
    times, values = (bins[name].to_numpy().astype(np.float64) for name in ("_since", column))
    found: dict[tuple[int, int], Points] = {}
    at = 0
    for rank, other, num in bins.group_by(_PAIR, maintain_order=True).len().iter_rows():
        found[rank, other] = times[at : at + num], values[at : at + num]
        at += num
    return found


def _lines(points: Points, slopes: Floats) -> Floats:
    """For every slope (row) and point the level at the first time of the line through the point."""
    times, values = points
    return values[None, :] - slopes[:, None] * times[None, :]
