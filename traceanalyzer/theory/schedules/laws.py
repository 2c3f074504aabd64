"""The textbook bubble of every schedule as data: a formula, where it holds, and where it is from.

Letters: P ranks, M microbatches, v chunks per rank; T_F, T_B and T_W are the forward, the backward for the input and
the backward for the weights of one microbatch through one *rank's* share of the model (1/P of it, all chunks together);
T_b = T_B + T_W, T = T_F + T_b; c is the latency of one hop between ranks, which does not occupy them.

"By simulation" marks what no paper states: it was fitted to the event simulation and is held to it by the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from traceanalyzer.schedule import ScheduleName

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Point:
    """Where a formula is asked for; letters as in the module's docstring."""

    p: int
    m: int
    v: int
    f: float
    b: float
    w: float
    c: float
    group: int
    """Microbatches that pass through a chunk before its rank turns to the next one."""

    @property
    def full(self) -> float:
        """T_b."""
        return self.b + self.w

    @property
    def total(self) -> float:
        """T."""
        return self.f + self.full


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """The idle time of a rank within the pipeline phase, in the unit of the times."""

    bubble: Callable[[Point], float]
    """Hop latency included."""
    span_bubble: Callable[[Point], float] | None = None
    """Idle time within the longest per-rank window; None: the same."""
    formula: str
    holds: Callable[[Point], bool]
    domain: str
    hop_formula: str
    """What hop latency adds."""
    hop_holds: Callable[[Point], bool]
    """Further condition where there is hop latency."""
    hop_domain: str
    source: str


def _always(_: Point) -> bool:
    return True


def _equal(at: Point) -> bool:
    return max(at.f, at.b, at.w) - min(at.f, at.b, at.w) <= _TOLERANCE * at.total


def _most(low: float, high: float) -> bool:
    return low <= high + _TOLERANCE


def _weight_shortest(at: Point) -> bool:
    return _most(at.w, min(at.f, at.b))


def _fill_and_drain(at: Point) -> float:
    return (at.p - 1) * (at.total + 2 * at.c)


def _one_forward_one_backward(at: Point) -> float:
    """P microbatches are in flight for a round trip: up to 2c is lost with every microbatch, where GPipe loses it once."""
    rounds, rest = divmod(at.m, at.p)
    return (at.p - 1) * at.total + at.c * (2 * (at.p - 2) + 2 * ((at.p - 1) * rounds + max(rest - 1, min(rest, 1))))


def _interleaved(at: Point) -> float:
    hops = at.v * at.p - 1 if at.group == at.p else at.p - 1
    return ((at.p - 1) + (at.v - 1) * max(0, at.p - at.m)) * at.total / at.v + 2 * hops * at.c


def _interleaved_hop_holds(at: Point) -> bool:
    """The way round the loop must hide behind the microbatches that a group has to spare."""
    if at.m % at.group or at.m < at.p:
        return False
    chunk = min(at.f, at.full) / at.v
    spare = at.group == at.p or _most(at.p * at.c, (at.group - at.p) * chunk)
    return spare and _most(at.c, chunk)


def _looped_bfs(at: Point) -> float:
    """At every change of chunk a rank waits for its first microbatch to come round the loop."""
    round_trips = [max(0.0, at.p * (time / at.v + at.c) - at.m * time / at.v) for time in (at.f, at.full)]
    return (at.p - 1) * (at.total / at.v + 2 * at.c) + (at.v - 1) * sum(round_trips)


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


def _zbv(at: Point) -> float:
    return (at.p - 1) * max(at.b - at.w, at.b / 2) + (5 * at.p - 7) * at.c


def _zbv_span(at: Point) -> float:
    return (at.p - 1) * (at.b - at.w) + (6 * at.p - 8) * at.c


def _dualpipe(at: Point) -> float:
    half = at.p / 2 - 1
    return half * (at.f + 2 * at.full - 3 * at.w) + at.c * ((at.p - 1) * at.m / at.p + 3 * half)


def _dualpipe_v(at: Point) -> float:
    hops = 2 * (at.p - 1) * at.m / at.p + 2 * (at.p - 2)
    return (at.p - 1) * (at.f + 2 * at.full - 3 * at.w) / 2 + at.c * hops


def _dualpipe_holds(at: Point) -> bool:
    return abs(at.f - at.b) <= _TOLERANCE and _weight_shortest(at)


_SC21 = "Narayanan et al., SC21, arXiv 2104.04473"
_ZB = "Qi et al., arXiv 2401.10241, Table 2; where T_W is long and with hops by simulation"
_DUALPIPE = "deepseek-ai/DualPipe README and DeepSeek-V3, arXiv 2412.19437, Table 2; hops by simulation"

LAWS: dict[ScheduleName, Law] = {
    ScheduleName.ACCUMULATION: Law(
        bubble=lambda at: 0.0 * at.p,
        formula="0",
        holds=_always,
        domain="one rank",
        hop_formula="0",
        hop_holds=_always,
        hop_domain="any c",
        source="one rank has no pipeline",
    ),
    ScheduleName.SEQUENTIAL: Law(
        bubble=lambda at: (at.p - 1) * at.m * (at.total + 2 * at.c),
        formula="(P−1)·M·T",
        holds=_always,
        domain="any M",
        hop_formula="2(P−1)·M·c",
        hop_holds=_always,
        hop_domain="any c",
        source="one stage works at a time",
    ),
    ScheduleName.GPIPE: Law(
        bubble=_fill_and_drain,
        formula="(P−1)·T",
        holds=_always,
        domain="any M",
        hop_formula="2(P−1)·c",
        hop_holds=_always,
        hop_domain="any c",
        source="Huang et al., arXiv 1811.06965; hops by simulation",
    ),
    ScheduleName.ONE_F_ONE_B: Law(
        bubble=_one_forward_one_backward,
        formula="(P−1)·T",
        holds=_always,
        domain="any M",
        hop_formula="c·(2(P−2) + 2(P−1)q + 2·max(k−1, min(k, 1))) with M = qP + k",
        hop_holds=_always,
        hop_domain="any c",
        source=f"{_SC21}; hops by simulation",
    ),
    ScheduleName.EAGER_1F1B: Law(
        bubble=_fill_and_drain,
        formula="(P−1)·T",
        holds=_always,
        domain="any M",
        hop_formula="2(P−1)·c",
        hop_holds=lambda at: _most(2 * at.c, at.total),
        hop_domain="2c ≤ T",
        source="Zhuang et al., arXiv 2211.05322; by simulation",
    ),
    ScheduleName.INTERLEAVED_1F1B: Law(
        bubble=_interleaved,
        formula="(P−1)·T/v + (v−1)·max(0, P−M)·T/v",
        holds=_always,
        domain="every group has P microbatches or more, or M < P in one group",
        hop_formula="2(vP−1)·c with groups of P, 2(P−1)·c with larger ones",
        hop_holds=_interleaved_hop_holds,
        hop_domain="M ≥ P in equal groups of G; c ≤ min(T_F, T_b)/v and, where G > P, P·c ≤ (G−P)·min(T_F, T_b)/v",
        source=f"{_SC21}; M < P and hops by simulation",
    ),
    ScheduleName.LOOPED_BFS: Law(
        bubble=_looped_bfs,
        formula="(P−1)·T/v + (v−1)·(max(0, P−M)·T_F/v + max(0, P−M)·T_b/v)",
        holds=_always,
        domain="any M",
        hop_formula="2(P−1)·c, and max(0, P(t/v+c) − M·t/v) for max(0, P−M)·t/v",
        hop_holds=_always,
        hop_domain="any c",
        source="Lamy-Poirier, arXiv 2211.05953; M < P and hops by simulation",
    ),
    ScheduleName.ZB_H1: Law(
        bubble=_zb_h1,
        span_bubble=_zb_h1_span,
        formula="(P−1)·max(T_F+T_B−T_W, T_F, T_B), in the per-rank window (P−1)·max(T_F+T_B−T_W, T_B)",
        holds=lambda at: at.m >= at.p,
        domain="M ≥ P",
        hop_formula="4(P−1)·c, less 2c if M = P",
        hop_holds=lambda at: _weight_shortest(at) and _most(2 * at.c, at.w),
        hop_domain="T_W ≤ min(T_F, T_B), 2c ≤ T_W",
        source=_ZB,
    ),
    ScheduleName.ZB_H2: Law(
        bubble=_zb_h2,
        span_bubble=_zb_h2_span,
        formula="(P−1)·max(T_F+T_B−2T_W, T_B−T_F, T_F), in the per-rank window (P−1)·max(T_F+T_B−2T_W, T_B−T_F, 0)",
        holds=lambda at: at.m >= 2 * at.p - 1,
        domain="M ≥ 2P−1",
        hop_formula="(P−1)·2c on the first term of the maximum, (P−1)·c on the last, 0 in the per-rank window",
        hop_holds=lambda at: _most(at.w, at.f) and _most(2 * at.w, at.f + at.b) and _most(4 * at.c, min(at.f, at.b)),
        hop_domain="T_W ≤ T_F, 2T_W ≤ T_F+T_B, 4c ≤ min(T_F, T_B)",
        source=_ZB,
    ),
    ScheduleName.INTERLEAVED_ZERO_BUBBLE: Law(
        bubble=_interleaved_zero_bubble,
        span_bubble=_interleaved_zero_bubble_span,
        formula="(P−1)·max(T_F+T_B−T_W, T_F, T_B)/v, in the per-rank window (P−1)·max(T_F+T_B−T_W, T_B)/v",
        holds=lambda at: at.m % at.p == 0 and at.group == at.p,
        domain="P divides M, groups of P",
        hop_formula="(vP+3P−4)·c, less 2c if M = P",
        hop_holds=lambda at: _weight_shortest(at) and _most(2 * at.c, at.w / at.v),
        hop_domain="T_W ≤ min(T_F, T_B), 2c ≤ T_W/v",
        source="PyTorch ScheduleInterleavedZeroBubble; by simulation",
    ),
    ScheduleName.ZBV: Law(
        bubble=_zbv,
        span_bubble=_zbv_span,
        formula="(P−1)·max(T_B−T_W, T_B/2), in the per-rank window (P−1)·(T_B−T_W)",
        holds=lambda at: at.m >= 2 * at.p - 1 and _most(at.w, at.f) and _most(at.f, at.b),
        domain="M ≥ 2P−1, T_W ≤ T_F ≤ T_B",
        hop_formula="(5P−7)·c, in the per-rank window (6P−8)·c",
        hop_holds=lambda at: _equal(at) and _most(4 * at.c, at.f),
        hop_domain="T_F = T_B = T_W, 4c ≤ T_F",
        source="Qi et al., arXiv 2405.15362; unequal times and hops by simulation",
    ),
    ScheduleName.DUALPIPE: Law(
        bubble=_dualpipe,
        formula="(P/2−1)·(T_F&B + T_b − 3T_W) with T_F&B = T",
        holds=_dualpipe_holds,
        domain="P and M even, M ≥ 2P, T_F = T_B ≥ T_W, a pair takes as long as its parts",
        hop_formula="c·((P−1)M/P + 3(P/2−1))",
        hop_holds=lambda at: _equal(at) and at.p >= 4 and at.m % at.p == 0 and _most((at.p / 2 - 1) * at.c, at.f),
        hop_domain="T_F = T_B = T_W, P ≥ 4 divides M, (P/2−1)·c ≤ T_F",
        source=_DUALPIPE,
    ),
    ScheduleName.DUALPIPE_V: Law(
        bubble=_dualpipe_v,
        formula="(P−1)·(T_F&B + T_b − 3T_W)/2 with T_F&B = T",
        holds=_dualpipe_holds,
        domain="M ≥ 2P, T_F = T_B ≥ T_W, a pair takes as long as its parts",
        hop_formula="c·(2(P−1)M/P + 2(P−2))",
        hop_holds=lambda at: _equal(at) and at.m % at.p == 0 and _most(4 * (at.p - 1) * at.c, at.f),
        hop_domain="T_F = T_B = T_W, P divides M, 4(P−1)·c ≤ T_F",
        source=_DUALPIPE,
    ),
}
