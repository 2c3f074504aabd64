"""Which theory a measured number is compared with."""

from __future__ import annotations

from traceanalyzer.review.result import Bubble


def theory_share(bubble: Bubble) -> tuple[float, str] | None:
    """The share that theory gives, and which theory: the closed form inside its domain, else the simulation."""
    theory = bubble.theory
    if theory is None:
        return None
    if theory.closed_form_share is not None:
        return theory.closed_form_share, f"{theory.schedule} closed form"
    if theory.simulated_share is not None:
        return theory.simulated_share, "simulation of the measured order"
    return None
