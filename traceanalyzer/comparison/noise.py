"""What difference of two steps is more than chance.

A step time is a sample: each side's noise is the half-width of the 95% bootstrap interval of its median. Runs of one job
differ by more than their own steps tell (placement, temperature, neighbours), so there is a floor: 1% of the step unless it
is set, or what several runs of the base show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, stdev

from traceanalyzer.comparison.side import Side
from traceanalyzer.measurements.capture.noise import Noise, step_noise
from traceanalyzer.review.words import counted, milliseconds, percent

DEFAULT_FLOOR = 0.01
"""Of the step, between runs of the same job."""
_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""97.5% quantiles of Student's t for 1, 2, ... degrees of freedom."""
_NORMAL = 1.96


@dataclass(frozen=True, slots=True)
class Floor:
    """Share of the step by which runs of the same job may differ, and where it is from."""

    share: float
    basis: str


@dataclass(frozen=True, slots=True)
class Limit:
    """What two steps must differ by to be more than noise."""

    ns: int
    basis: str


def run_floor(bases: Sequence[Side], declared: float | None) -> Floor:
    """The floor that was declared, else what three base runs or more show, else 1% (of two: what they differ by, if more).

    Of n ≥ 3 runs it is the 95% prediction interval of one more run: t(n−1) · s · √(1 + 1/n) over their median.
    """
    if declared is not None:
        return Floor(declared, f"{percent(declared)} between runs, as set")
    steps = [each.step_ns for each in bases if each.step_ns]
    if len(steps) < 2:
        return Floor(
            DEFAULT_FLOOR, f"{percent(DEFAULT_FLOOR)} between runs assumed; several base runs would measure it"
        )
    middle = median(steps)
    if len(steps) == 2:
        seen = abs(steps[1] - steps[0]) / middle
        share = max(DEFAULT_FLOOR, seen)
        return Floor(share, f"{percent(share)} between runs: 2 base runs differ by {percent(seen)}, at least 1%")
    quantile = _STUDENT[len(steps) - 2] if len(steps) - 2 < len(_STUDENT) else _NORMAL
    share = quantile * stdev(steps) * math.sqrt(1 + 1 / len(steps)) / middle
    return Floor(share, f"{percent(share)} between runs: 95% interval of one more, from {len(steps)} base runs")


def noise_of(side: Side) -> Noise | None:
    """Noise of the side's median step; None without steps."""
    return step_noise(side.step_lengths_ns)


def limit_of(base: Side, new: Side, floor: Floor) -> Limit | None:
    """The larger of the floor and both sides' noise together (root of the sum of squares); None without steps."""
    step, both = base.step_ns, [noise_of(base), noise_of(new)]
    known = [each for each in both if each is not None]
    if not step or len(known) < 2:
        return None
    own = math.hypot(*(each.half_width_ns for each in known))
    least = floor.share * step
    few = [
        counted(len(side.step_lengths_ns), "step")
        for side, each in zip((base, new), known, strict=True)
        if each.is_assumed
    ]
    assumed = f" (2% assumed because there are fewer than 5 steps: {' and '.join(few)})" if few else ""
    text = f"{floor.basis}; steps of these runs ±{milliseconds(own / 1e6)}{assumed}"
    return Limit(round(max(own, least)), text)
