"""One forward and one backward in turn: 1F1B, and its eager variant."""

from __future__ import annotations

from traceanalyzer.schedule import Action, Op, Phase
from traceanalyzer.theory.schedules.record import Law, Point, Schedule, always, most


def one_forward_one_backward(rank: int, num_microbatches: int, warmup: int) -> list[Op]:
    """`warmup` forwards, then one forward and one backward in turn, then the backwards that are left.

    `warmup = num_ranks - 1 - rank` is PipeDream-Flush (Narayanan et al., arXiv 2006.09503), the 1F1B of Megatron-LM.
    Twice as many is the eager variant, which hides the latency of a hop.
    """
    warmup = min(warmup, num_microbatches)
    order: list[Op] = [Action(rank, Phase.FORWARD, m) for m in range(warmup)]
    for m in range(num_microbatches - warmup):
        order += [Action(rank, Phase.FORWARD, warmup + m), Action(rank, Phase.BACKWARD, m)]
    return order + [Action(rank, Phase.BACKWARD, m) for m in range(num_microbatches - warmup, num_microbatches)]


def _bubble(at: Point) -> float:
    """P microbatches are in flight for a round trip: up to 2c is lost with every microbatch, where GPipe loses it once."""
    rounds, rest = divmod(at.m, at.p)
    return (at.p - 1) * at.total + at.c * (2 * (at.p - 2) + 2 * ((at.p - 1) * rounds + max(rest - 1, min(rest, 1))))


ONE_F_ONE_B = Schedule(
    name="1F1B",
    precedence=1,
    held=lambda at: min(at.m, at.p - at.rank),
    order=lambda r, at: one_forward_one_backward(r, at.num_microbatches, at.num_ranks - 1 - r),
    aliases=("pipedreamflush",),
    torch_runs=lambda ranks, microbatches: microbatches >= ranks,
    law=Law(
        bubble=_bubble,
        formula="(P−1)·T",
        holds=always,
        domain="any M",
        hop_formula="c·(2(P−2) + 2(P−1)q + 2·max(k−1, min(k, 1))) with M = qP + k",
        hop_holds=always,
        hop_domain="any c",
        source="Narayanan et al., SC21, arXiv 2104.04473; hops by simulation",
    ),
)
EAGER_1F1B = Schedule(
    name="Eager1F1B",
    precedence=4,
    held=lambda at: min(at.m, 2 * (at.p - at.rank) - 1),
    order=lambda r, at: one_forward_one_backward(r, at.num_microbatches, 2 * (at.num_ranks - 1 - r)),
    in_frameworks=False,
    law=Law(
        bubble=lambda at: (at.p - 1) * (at.total + 2 * at.c),
        formula="(P−1)·T",
        holds=always,
        domain="any M",
        hop_formula="2(P−1)·c",
        hop_holds=lambda at: most(2 * at.c, at.total),
        hop_domain="2c ≤ T",
        source="Zhuang et al., arXiv 2211.05322; by simulation",
    ),
)
