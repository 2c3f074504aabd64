"""Zero bubble: backwards are split, and weight-gradients fill the drain."""

from __future__ import annotations

from itertools import islice

from traceanalyzer.schedule import Action, Op, Phase
from traceanalyzer.theory.schedules.families.interleaved import visits
from traceanalyzer.theory.schedules.record import HeldPoint, Law, Point, Schedule, most, weight_shortest

_SOURCE = "Qi et al., arXiv 2401.10241, Table 2; with long T_W and with hops by simulation"


def zero_bubble_1f1b(
    rank: int,
    num_ranks: int,
    num_microbatches: int,
    num_chunks: int = 1,
    group_size: int | None = None,
    warmup_per_hop: int = 1,
) -> list[Op]:
    """1F1B whose backwards are split, with weight-gradients put off to fill the drain (Qi et al., arXiv 2401.10241).

    Weight-gradients trail the input-gradients by `warmup_per_hop * rank`, so every rank holds the same number of
    activations. With one chunk, `warmup_per_hop = 1` is ZB-H1 and 2 is ZB-H2; with several chunks it is PyTorch's
    interleaved zero bubble.
    """
    group_size = group_size or num_microbatches
    visited = visits(num_microbatches, num_chunks, group_size)
    forwards = [Action(chunk * num_ranks + rank, Phase.FORWARD, m) for chunk, m in visited]
    backwards = [((num_chunks - 1 - chunk) * num_ranks + rank, m) for chunk, m in visited]
    weights = iter([Action(stage, Phase.WEIGHT_GRADIENT, m) for stage, m in backwards])
    warmup = min((num_chunks - 1) * group_size + warmup_per_hop * (num_ranks - 1 - rank), len(visited))
    order: list[Op] = list(forwards[:warmup])
    for position, (stage, m) in enumerate(backwards):
        order += forwards[warmup + position : warmup + position + 1]
        order.append(Action(stage, Phase.INPUT_GRADIENT, m))
        if position >= warmup_per_hop * rank:
            order += islice(weights, 1)
    return order + list(weights)


def _zb_h1(at: Point) -> float:
    return (at.p - 1) * max(at.f + at.b - at.w, at.f, at.b) + _zb_h1_hops(at)


def _zb_h1_span(at: Point) -> float:
    return (at.p - 1) * max(at.f + at.b - at.w, at.b) + _zb_h1_hops(at)


def _zb_h1_hops(at: Point) -> float:
    return (4 * (at.p - 1) - 2 * (at.m == at.p)) * at.c


def _zb_h2(at: Point) -> float:
    return (at.p - 1) * max(at.f + at.b - 2 * at.w + 2 * at.c, at.b - at.f, at.f + at.c)


def _zb_h2_span(at: Point) -> float:
    return (at.p - 1) * max(at.f + at.b - 2 * at.w + 2 * at.c, at.b - at.f, 0.0)


def _interleaved_zero_bubble(at: Point) -> float:
    return (at.p - 1) * max(at.f + at.b - at.w, at.f, at.b) / at.v + _interleaved_zero_bubble_hops(at)


def _interleaved_zero_bubble_span(at: Point) -> float:
    return (at.p - 1) * max(at.f + at.b - at.w, at.b) / at.v + _interleaved_zero_bubble_hops(at)


def _interleaved_zero_bubble_hops(at: Point) -> float:
    return (at.v * at.p + 3 * at.p - 4 - 2 * (at.m == at.p)) * at.c


def _zero_bubble_held(at: HeldPoint) -> float:
    return 1 if at.p == 1 else min(at.m * at.v, (at.v - 1) * at.group + at.p) / at.v


ZB_H1 = Schedule(
    name="ZBH1",
    precedence=7,
    held=lambda at: min(at.m, at.p),
    order=lambda r, at: zero_bubble_1f1b(r, at.num_ranks, at.num_microbatches),
    aliases=("zb1p",),
    splits_backward=True,
    law=Law(
        bubble=_zb_h1,
        span_bubble=_zb_h1_span,
        formula="(P−1)·max(T_F+T_B−T_W, T_F, T_B), in the per-rank window (P−1)·max(T_F+T_B−T_W, T_B)",
        holds=lambda at: at.m >= at.p,
        domain="M ≥ P",
        hop_formula="4(P−1)·c, less 2c if M = P",
        hop_holds=lambda at: weight_shortest(at) and most(2 * at.c, at.w),
        hop_domain="T_W ≤ min(T_F, T_B), 2c ≤ T_W",
        source=_SOURCE,
    ),
)
ZB_H2 = Schedule(
    name="ZBH2",
    precedence=8,
    held=lambda at: min(at.m, 2 * at.p - 1),
    order=lambda r, at: zero_bubble_1f1b(r, at.num_ranks, at.num_microbatches, warmup_per_hop=2),
    aliases=("zb2p",),
    splits_backward=True,
    law=Law(
        bubble=_zb_h2,
        span_bubble=_zb_h2_span,
        formula="(P−1)·max(T_F+T_B−2T_W, T_B−T_F, T_F), in the per-rank window (P−1)·max(T_F+T_B−2T_W, T_B−T_F, 0)",
        holds=lambda at: at.m >= 2 * at.p - 1,
        domain="M ≥ 2P−1",
        hop_formula="(P−1)·2c on the first term of the maximum, (P−1)·c on the last, 0 in the per-rank window",
        hop_holds=lambda at: most(at.w, at.f) and most(2 * at.w, at.f + at.b) and most(4 * at.c, min(at.f, at.b)),
        hop_domain="T_W ≤ T_F, 2T_W ≤ T_F+T_B, 4c ≤ min(T_F, T_B)",
        source=_SOURCE,
    ),
)
INTERLEAVED_ZERO_BUBBLE = Schedule(
    name="InterleavedZeroBubble",
    precedence=9,
    held=_zero_bubble_held,
    order=lambda r, at: zero_bubble_1f1b(r, at.num_ranks, at.num_microbatches, at.num_chunks, at.group_size),
    aliases=("interleavedzb",),
    num_chunks=None,
    is_grouped=True,
    splits_backward=True,
    torch_runs=lambda _ranks, _microbatches: True,
    law=Law(
        bubble=_interleaved_zero_bubble,
        span_bubble=_interleaved_zero_bubble_span,
        formula="(P−1)·max(T_F+T_B−T_W, T_F, T_B)/v, in the per-rank window (P−1)·max(T_F+T_B−T_W, T_B)/v",
        holds=lambda at: at.m % at.p == 0 and at.group == at.p,
        domain="P divides M, groups of P",
        hop_formula="(vP+3P−4)·c, less 2c if M = P",
        hop_holds=lambda at: weight_shortest(at) and most(2 * at.c, at.w / at.v),
        hop_domain="T_W ≤ min(T_F, T_B), 2c ≤ T_W/v",
        source="PyTorch ScheduleInterleavedZeroBubble; by simulation",
    ),
)
