"""How far the median step may be off by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_STEPS = 5
"""Fewer steps show nothing of their own spread."""
ASSUMED_SHARE = 0.02
"""Of the median, where there are fewer."""
_NUM_RESAMPLES = 4000
_SEED = 20_240_607
_INTERVAL = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Noise:
    """Half the width of the 95% interval of the median step, in nanoseconds, and where it is from."""

    half_width_ns: float
    basis: str
    is_assumed: bool


def step_noise(durations_ns: Sequence[float]) -> Noise | None:
    """Noise of the median of these step times, in any order; None without any.

    The interval is that of the medians of resamples (bootstrap, percentiles), always the same for the same values.
    """
    values = np.sort(np.asarray(durations_ns, dtype=np.float64))
    if not len(values):
        return None
    if len(values) < FEWEST_STEPS:
        steps = "1 step" if len(values) == 1 else f"{len(values)} steps"
        basis = f"{ASSUMED_SHARE:.0%} of the median assumed: {steps}, fewer than {FEWEST_STEPS}"
        return Noise(ASSUMED_SHARE * float(np.median(values)), basis, is_assumed=True)
    drawn = np.random.default_rng(_SEED).integers(len(values), size=(_NUM_RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[drawn], axis=1), _INTERVAL)
    basis = f"95% bootstrap interval of the median of {len(values)} steps"
    return Noise(float(high - low) / 2, basis, is_assumed=False)
