"""How long a matrix multiply takes by its shape: a roofline with tiles and waves.

A device computes C = A·B in tiles of 128 x 256 or smaller, one per streaming multiprocessor at a time: an edge tile costs a
whole one, and the last wave of tiles a whole wave (NVIDIA, "Matrix Multiplication Background User's Guide", tile and wave
quantization). The sum over k begins with a fill of about 256 elements that computes nothing. The best rate is a share of the
dense peak, as measured by others (`data/clusters.csv`). The larger of this and the time to move A, B and C counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

_NS = 1e9
_TILES = ((256, 128), (128, 256), (128, 128), (64, 128), (128, 64), (64, 64))
_TILE_RATE = {(256, 128): 1.0, (128, 256): 1.0, (128, 128): 0.93, (64, 128): 0.8, (128, 64): 0.8, (64, 64): 0.6}
"""What a tile reaches of the best rate: small ones read more than they compute."""
_FILL = 256
_LAUNCH_NS = 3000.0
"""A kernel takes at least this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What matrix multiplies of a device reach at most."""

    flops_per_second: float
    memory_bytes_per_second: float
    units: int


@cache
def gemm_ns(m: int, n: int, k: int, count: int, rates: Rates, word: float = 2.0) -> float:
    """Nanoseconds of `count` equal multiplies, m by k times k by n, that run as one (grouped) kernel."""
    if min(m, n, k, count) < 1:
        return 0.0
    useful = 2.0 * m * n * k * count
    compute = useful / (rates.flops_per_second * shape_share(m, n, k, count, rates.units))
    moved = count * word * (m * k + k * n + m * n) / rates.memory_bytes_per_second
    return max(compute * _NS, moved * _NS, _LAUNCH_NS)


@cache
def shape_share(m: int, n: int, k: int, count: int, units: int) -> float:
    """What the shape leaves of the best rate: the best tile's fill of edges and waves, times that of the sum."""
    return max(_tile_share(m, n, count, units, tile) for tile in _TILES) * k / (k + _FILL)


def _tile_share(m: int, n: int, count: int, units: int, tile: tuple[int, int]) -> float:
    tiles = math.ceil(m / tile[0]) * math.ceil(n / tile[1])
    edges = m * n / (tiles * tile[0] * tile[1])
    waves = count * tiles / units
    return _TILE_RATE[tile] * edges * waves / math.ceil(waves)
