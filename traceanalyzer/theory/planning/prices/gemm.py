"""How long a matrix multiply takes by its shape: a roofline with tiles and waves.

A device computes C = A·B in tiles of 128 x 256 or smaller, one per streaming multiprocessor at a time: an edge tile costs a
whole one, and the last wave of tiles a whole wave (NVIDIA, "Matrix Multiplication Background User's Guide", tile and wave
quantization). The sum over k begins with a fill of about 256 elements that computes nothing. Where tiles are few, the sum is
cut and its parts are computed side by side. The best rate is a share of the dense peak, as measured by others
(`data/clusters.csv`). The larger of this and the time to move A, B and C counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

_NS = 1e9
_TILE_RATE = {(256, 128): 1.0, (128, 256): 1.0, (128, 128): 0.93, (64, 128): 0.8, (128, 64): 0.8, (64, 64): 0.6}
"""What a tile reaches of the best rate: small ones read more than they compute."""
_PARTS = (1, 2, 4)
"""Into how many a sum is cut where tiles are too few for all units (split-K of cuBLAS and CUTLASS)."""
FILL = 256.0
"""Elements of the sum that a multiply begins with and that compute nothing, unless a run says otherwise."""
_LAUNCH_NS = 3000.0
"""A kernel takes at least this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What matrix multiplies of a device reach at most."""

    flops_per_second: float
    memory_bytes_per_second: float
    units: int
    fill: float = FILL


@cache
def gemm_ns(m: int, n: int, k: int, count: int, rates: Rates, word: float = 2.0) -> float:
    """Nanoseconds of `count` equal multiplies, m by k times k by n, that run as one (grouped) kernel."""
    if min(m, n, k, count) < 1:
        return 0.0
    useful = 2.0 * m * n * k * count
    compute = useful / (rates.flops_per_second * shape_share(m, n, k, count, rates.units, rates.fill))
    moved = count * word * (m * k + k * n + m * n) / rates.memory_bytes_per_second
    return max(compute * _NS, moved * _NS, _LAUNCH_NS)


@cache
def shape_share(m: int, n: int, k: int, count: int, units: int, fill: float = FILL) -> float:
    """What the shape leaves of the best rate: the best tile's fill of edges and waves, times that of the sum."""
    best = 0.0
    for (height, width), rate in _TILE_RATE.items():
        tiles = math.ceil(m / height) * math.ceil(n / width)
        edges = m * n / (tiles * height * width)
        for parts in _PARTS:
            whole_waves = rate * edges * k / (k + parts * fill)
            if whole_waves <= best:  # more parts leave less
                break
            waves = count * parts * tiles / units
            best = max(best, whole_waves * waves / math.ceil(waves))
    return best
