"""Which theory a measured number is compared with."""

from __future__ import annotations

from typing import NamedTuple

from traceanalyzer.review.result import Bubble


class TheoryShare(NamedTuple):
    """A share of the pipeline phase and the theory that gives it."""

    share: float
    source: str


def theory_share(bubble: Bubble) -> TheoryShare | None:
    """The share that theory gives, and which theory: the closed form inside its domain, else the simulation."""
    theory = bubble.theory
    if theory is None:
        return None
    if theory.closed_form_share is not None:
        return TheoryShare(theory.closed_form_share, f"{theory.schedule} closed form")
    if theory.simulated_share is not None:
        return TheoryShare(theory.simulated_share, "simulation of the measured order")
    return None
