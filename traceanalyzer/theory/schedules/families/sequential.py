"""One microbatch at a time: gradient accumulation on one rank, and the naive pipeline."""

from __future__ import annotations

from traceanalyzer.schedule import Action, Op, Phase
from traceanalyzer.theory.schedules.record import Law, Schedule, always


def sequential(rank: int, num_microbatches: int) -> list[Op]:
    """One microbatch goes all the way forward and back before the next one starts."""
    return [Action(rank, phase, m) for m in range(num_microbatches) for phase in (Phase.FORWARD, Phase.BACKWARD)]


ACCUMULATION = Schedule(
    name="GradAccumulation",
    precedence=0,
    held=lambda _: 1,
    order=lambda r, at: sequential(r, at.num_microbatches),
    max_ranks=1,
    is_baseline=True,
    in_frameworks=False,
    law=Law(
        bubble=lambda at: 0.0 * at.p,
        formula="0",
        holds=always,
        domain="one rank",
        hop_formula="0",
        hop_holds=always,
        hop_domain="any c",
        source="one rank has no pipeline",
    ),
)
SEQUENTIAL = Schedule(
    name="Sequential",
    precedence=3,
    held=lambda _: 1,
    order=lambda r, at: sequential(r, at.num_microbatches),
    aliases=("naive",),
    is_baseline=True,
    in_frameworks=False,
    law=Law(
        bubble=lambda at: (at.p - 1) * at.m * (at.total + 2 * at.c),
        formula="(P−1)·M·T",
        holds=always,
        domain="any M",
        hop_formula="2(P−1)·M·c",
        hop_holds=always,
        hop_domain="any c",
        source="one stage works at a time",
    ),
)
