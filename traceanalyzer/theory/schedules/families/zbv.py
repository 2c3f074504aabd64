"""ZB-V: rank r holds stages r and `2 * num_ranks - 1 - r`, so the turn-around is local."""

from __future__ import annotations

from collections.abc import Iterator

from traceanalyzer.schedule import Op, Phase
from traceanalyzer.theory.schedules.arms import F, I, Numbering, W
from traceanalyzer.theory.schedules.record import Law, Placement, Point, Schedule, equal, most


def zbv(rank: int, num_ranks: int, num_microbatches: int) -> list[Op]:
    """ZB-V (Qi et al., arXiv 2405.15362), as PyTorch orders it.

    Below `2 * num_ranks - 1` microbatches the order is the one for that many, with what is too much struck out.
    """
    numbering = Numbering((rank, 2 * num_ranks - 1 - rank), (0, 0))
    steps = _zbv_steps(rank, num_ranks, max(2 * num_ranks - 1, num_microbatches))
    actions = [numbering.action(phase, arm) for phase, arm in steps]
    return [action for action in actions if action.microbatch < num_microbatches]


def _zbv_steps(rank: int, num_ranks: int, num_microbatches: int) -> Iterator[tuple[Phase, int]]:
    warmup = 2 * (num_ranks - rank) - 1
    yield from [(F, 0)] * warmup
    yield from [(F, 1), (F, 0)] * rank
    yield from [(F, 1), (I, 1), (W, 1)] * (num_ranks - rank)
    # Steady: rank forwards of arm 1 are missing; num_microbatches - warmup - rank of arm 0 are.
    missing = num_microbatches - warmup - rank
    for position in range(num_microbatches - num_ranks):
        if position < missing:
            yield F, 0
        yield from ((I, 0), (W, 0), (F, 1), (I, 1), (W, 1))
    # Drain: input-gradients first, the weight-gradients they left behind fill the wait.
    yield from [(I, 0), (I, 1)] * rank
    yield from [(I, 0), (W, 0)] * (num_ranks - rank)
    yield from [(W, 1)] * rank
    yield from [(W, 0)] * rank


def _bubble(at: Point) -> float:
    return (at.p - 1) * max(at.b - at.w, at.b / 2) + (5 * at.p - 7) * at.c


def _span_bubble(at: Point) -> float:
    return (at.p - 1) * (at.b - at.w) + (6 * at.p - 8) * at.c


ZBV = Schedule(
    name="ZBVZeroBubble",
    precedence=10,
    held=lambda at: min(at.m, at.p),
    order=lambda r, at: zbv(r, at.num_ranks, at.num_microbatches),
    aliases=("zbv",),
    num_chunks=2,
    placement=Placement.V,
    splits_backward=True,
    torch_runs=lambda _ranks, _microbatches: True,
    law=Law(
        bubble=_bubble,
        span_bubble=_span_bubble,
        formula="(P−1)·max(T_B−T_W, T_B/2), in the per-rank window (P−1)·(T_B−T_W)",
        holds=lambda at: at.m >= 2 * at.p - 1 and most(at.w, at.f) and most(at.f, at.b),
        domain="M ≥ 2P−1, T_W ≤ T_F ≤ T_B",
        hop_formula="(5P−7)·c, in the per-rank window (6P−8)·c",
        hop_holds=lambda at: equal(at) and most(4 * at.c, at.f),
        hop_domain="T_F = T_B = T_W, 4c ≤ T_F",
        source="Qi et al., arXiv 2405.15362; unequal times and hops by simulation",
    ),
)
