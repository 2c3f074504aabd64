"""The textbook bubble of a schedule at one point, with the formula, its domain and its source.

Outside its domain a formula raises `DomainError`: simulate the order instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.errors import DomainError
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.schedules.known import schedule
from traceanalyzer.theory.schedules.orders import check
from traceanalyzer.theory.schedules.record import Law, Point


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """A bubble by formula. Useful time is M·T per rank; times are in the unit of the times that were given."""

    share: float
    """Bubble as a share of the pipeline phase: `bubble / (M·T + bubble)`."""
    ratio: float
    """Bubble over useful time: `bubble / (M·T)`."""
    span_share: float
    """The share with the longest per-rank window in place of the pipeline phase."""
    bubble: float
    """Bubble of a rank: its idle time within the pipeline phase, for theory has no other."""
    formula: str
    """The formula of `bubble`; letters as in `traceanalyzer.theory.schedules.record`."""
    domain: str
    """Where it holds."""
    source: str


def bubble_share(  # noqa: PLR0913 - a point has that many coordinates
    name: ScheduleName,
    num_ranks: int,
    num_microbatches: int,
    num_chunks: int = 1,
    forward: float = 1.0,
    backward_input: float = 1.0,
    backward_weight: float = 1.0,
    *,
    hop: float = 0.0,
    group_size: int | None = None,
) -> ClosedForm:
    """The bubble of a schedule by formula.

    Times are those of one microbatch through one rank's share of the model (all its chunks), in any unit; `hop` is the
    latency between ranks in the same unit. Raises `DomainError` if the schedule does not exist or no formula holds.
    """
    group = check(name, num_ranks, num_microbatches, num_chunks, group_size)
    at = Point(num_ranks, num_microbatches, num_chunks, forward, backward_input, backward_weight, hop, group)
    if min(forward, backward_input, backward_weight, hop) < 0 or at.total <= 0:
        raise DomainError("times must not be negative, and not all zero", "give positive times")
    law = schedule(name).law
    if num_ranks == 1:
        return _closed_form(law, at, 0.0, 0.0)
    if not law.holds(at) or (hop and not law.hop_holds(at)):
        raise DomainError(
            f"no closed form of {name} holds for P={num_ranks}, M={num_microbatches}: it needs {_domain(law, at)}",
            "simulate the order instead",
        )
    bubble = law.bubble(at)
    return _closed_form(law, at, bubble, bubble if law.span_bubble is None else law.span_bubble(at))


def _domain(law: Law, at: Point) -> str:
    return f"{law.domain}; with hop latency {law.hop_domain}" if at.c else law.domain


def _closed_form(law: Law, at: Point, bubble: float, span_bubble: float) -> ClosedForm:
    useful = at.m * at.total
    return ClosedForm(
        share=bubble / (useful + bubble),
        ratio=bubble / useful,
        span_share=span_bubble / (useful + span_bubble),
        bubble=bubble,
        formula=f"{law.formula} + hops: {law.hop_formula}" if at.c else law.formula,
        domain=_domain(law, at),
        source=law.source,
    )
