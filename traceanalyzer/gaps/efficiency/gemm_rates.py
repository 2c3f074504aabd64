"""The rate of matrix multiplies by shape, fitted to recorded ones: a share of the peak, and what a short sum costs.

Rate = share x tiles and waves of the shape x k ÷ (k + fill), as `theory.planning.prices.gemm` prices it. For each fill that is
tried the share is the one with which all shapes together take what they took; the fill whose shapes are least off wins. The
error is that of each shape predicted by a fit to all others, weighted by time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from traceanalyzer.theory.planning.prices.gemm import FILL, shape_share

_FACTORS = re.compile(r"(\d+)x(\d+) (?:(\d+)x)?(\d+)x(\d+)|(\d+)x(\d+)x(\d+) (\d+)x(\d+)x(\d+)")
_FILLS = range(0, 1025, 32)
_FEWEST_SUMS = 3
"""Different k that separate a fill from a share."""


@dataclass(frozen=True, slots=True)
class Multiply:
    """One recorded shape: count multiplies of m by k and k by n."""

    m: int
    n: int
    k: int
    count: int
    reached: float
    """Share of the peak."""
    ms: float


@dataclass(frozen=True, slots=True)
class GemmRate:
    """What shapes were found to reach."""

    share: float
    fill: float
    held_out_error: float | None


class Factors(NamedTuple):
    """Sizes of a matrix multiplication m × k by k × n, and how many of them run as one."""

    m: int
    n: int
    k: int
    num_groups: int


def factors(text: str) -> Factors | None:
    """m, n, k and count of a shape as the roofline writes it (`8x4 4x2`, grouped `8x4 3x4x2`, batched `3x8x4 3x4x2`)."""
    found = _FACTORS.fullmatch(text)
    if found is None:
        return None
    rows, inner, groups, _, columns, batch, m, k, _, _, n = (int(each or 0) for each in found.groups())
    if batch:
        return Factors(m, n, k, batch)
    count = max(1, groups)
    return Factors(max(1, rows // count), columns, inner, count)


def gemm_rate(multiplies: Sequence[Multiply], units: int) -> GemmRate:
    """Fit the shapes, of which there is at least one. Fewer than three different k leave the fill as it is assumed."""
    share, fill = _fit(multiplies, units)
    if len(multiplies) == 1:
        return GemmRate(share, fill, None)
    off = [
        (_off(each, *_fit([*multiplies[:at], *multiplies[at + 1 :]], units), units), each.ms)
        for at, each in enumerate(multiplies)
    ]
    return GemmRate(share, fill, sum(error * ms for error, ms in off) / sum(ms for _, ms in off))


def _fit(multiplies: Sequence[Multiply], units: int) -> tuple[float, float]:
    fills = _FILLS if len({each.k for each in multiplies}) >= _FEWEST_SUMS else (FILL,)
    fits = [(_share(multiplies, fill, units), float(fill)) for fill in fills]
    return min(fits, key=lambda fit: sum(_off(each, *fit, units) * each.ms for each in multiplies))


def _share(multiplies: Sequence[Multiply], fill: float, units: int) -> float:
    total = sum(each.reached / _left(each, fill, units) * each.ms for each in multiplies)
    return min(1.0, total / sum(each.ms for each in multiplies))


def _off(each: Multiply, share: float, fill: float, units: int) -> float:
    """Relative error of its time."""
    return abs(each.reached / (share * _left(each, fill, units)) - 1)


def _left(each: Multiply, fill: float, units: int) -> float:
    return shape_share(each.m, each.n, each.k, each.count, units, fill)
