"""DualPipe and DualPipeV: forwards and backwards of the two arms overlap.

DualPipe runs the same order as DualPipeV, with two copies of the model in place of the two arms of the V.
"""

from __future__ import annotations

from collections.abc import Iterator

from traceanalyzer.schedule import Op
from traceanalyzer.theory.schedules.arms import B, F, I, Numbering, Step, W
from traceanalyzer.theory.schedules.record import (
    TOLERANCE,
    Law,
    Placement,
    Point,
    Schedule,
    equal,
    most,
    weight_shortest,
)

_SOURCE = "deepseek-ai/DualPipe README and DeepSeek-V3, arXiv 2412.19437, Table 2; hops by simulation"


def dualpipe_v(rank: int, num_ranks: int, num_microbatches: int) -> list[Op]:
    """DualPipe cut in half (deepseek-ai/DualPipe `dualpipev.py`): one model copy, two chunks per rank."""
    numbering = Numbering((rank, 2 * num_ranks - 1 - rank), (0, 0))
    return [numbering.op(step) for step in _with_weights(_dual_steps(rank, num_ranks, num_microbatches))]


def dualpipe(rank: int, num_ranks: int, num_microbatches: int) -> list[Op]:
    """DualPipe (deepseek-ai/DualPipe `dualpipe.py`): two model copies, fed from both ends.

    Microbatches 0 to M/2-1 go through stages 0 to P-1 (the first copy, stage s on rank s); microbatches M/2 to M-1
    go through stages P to 2P-1 (the second copy, stage P+k on rank P-1-k). Every rank treats the copy that enters
    nearer to it as arm 0.
    """
    half = num_microbatches // 2
    copies = ((rank, 0), (2 * num_ranks - 1 - rank, half))  # (stage, first microbatch) of the first and second copy
    near, far = copies if rank < num_ranks // 2 else copies[::-1]
    numbering = Numbering((near[0], far[0]), (near[1], far[1]))
    depth = min(rank, num_ranks - 1 - rank)
    return [numbering.op(step) for step in _with_weights(_dual_steps(depth, num_ranks // 2, half))]


def _dual_steps(rank: int, num_ranks: int, num_microbatches: int) -> Iterator[Step]:
    """The eight steps of DualPipe, numbered as in its code, for a V of `num_ranks` ranks.

    Weight-gradients are left without arm: they are done in the order in which the input-gradients left them.
    """
    away = num_ranks - rank - 1
    pending: Step = ()  # stands for the oldest weight-gradient
    yield from [((F, 0),)] * (2 * away)  # 1
    yield from [((F, 0),), ((F, 1),)] * (rank + 1)  # 2
    yield from [((I, 1),), pending, ((F, 1),)] * away  # 3
    for position in range(num_microbatches - 2 * num_ranks + rank + 1):  # 4, the steady part
        if position == 0 and away == 0:  # apart on the rank at the turn: it shortens the bubble
            yield from (((F, 0),), ((B, 1),))
        else:
            yield (F, 0), (B, 1)
        yield (F, 1), (B, 0)
    yield from [((B, 1),), ((F, 1), (B, 0))] * away  # 5
    # 6: of these 2 * (rank + 1) backwards the second half is split
    backwards = [1, 0] * (rank + 1)
    yield from (((B if position <= rank else I, arm),) for position, arm in enumerate(backwards))
    yield from [pending, ((I, 0),)] * away  # 7
    yield from [pending] * (rank + 1)  # 8


def _with_weights(steps: Iterator[Step]) -> Iterator[Step]:
    """Give every pending weight-gradient the arm of the oldest input-gradient that still lacks one."""
    owed: list[int] = []
    for step in steps:
        if step == ():
            yield ((W, owed.pop(0)),)
            continue
        owed += [arm for phase, arm in step if phase is I]
        yield step


def _bubble(at: Point) -> float:
    half = at.p / 2 - 1
    return half * (at.f + 2 * at.full - 3 * at.w) + at.c * ((at.p - 1) * at.m / at.p + 3 * half)


def _v_bubble(at: Point) -> float:
    hops = 2 * (at.p - 1) * at.m / at.p + 2 * (at.p - 2)
    return (at.p - 1) * (at.f + 2 * at.full - 3 * at.w) / 2 + at.c * hops


def _holds(at: Point) -> bool:
    return abs(at.f - at.b) <= TOLERANCE and weight_shortest(at)


DUALPIPE_V = Schedule(
    name="DualPipeV",
    precedence=11,
    held=lambda at: at.p + 0.5,
    order=lambda r, at: dualpipe_v(r, at.num_ranks, at.num_microbatches),
    num_chunks=2,
    placement=Placement.V,
    splits_backward=True,
    has_pairs=True,
    min_microbatches_per_rank=2,
    torch_runs=lambda _ranks, _microbatches: True,
    law=Law(
        bubble=_v_bubble,
        formula="(P−1)·(T_F&B + T_b − 3T_W)/2 with T_F&B = T",
        holds=_holds,
        domain="M ≥ 2P, T_F = T_B ≥ T_W, a pair takes as long as its parts",
        hop_formula="c·(2(P−1)M/P + 2(P−2))",
        hop_holds=lambda at: equal(at) and at.m % at.p == 0 and most(4 * (at.p - 1) * at.c, at.f),
        hop_domain="T_F = T_B = T_W, P divides M, 4(P−1)·c ≤ T_F",
        source=_SOURCE,
    ),
)
DUALPIPE = Schedule(
    name="DualPipe",
    precedence=12,
    held=lambda at: at.p + 1,
    order=lambda r, at: dualpipe(r, at.num_ranks, at.num_microbatches),
    placement=Placement.TWO_COPIES,
    splits_backward=True,
    has_pairs=True,
    min_microbatches_per_rank=2,
    needs_even=True,
    in_frameworks=False,
    law=Law(
        bubble=_bubble,
        formula="(P/2−1)·(T_F&B + T_b − 3T_W) with T_F&B = T",
        holds=_holds,
        domain="P and M even, M ≥ 2P, T_F = T_B ≥ T_W, a pair takes as long as its parts",
        hop_formula="c·((P−1)M/P + 3(P/2−1))",
        hop_holds=lambda at: equal(at) and at.p >= 4 and at.m % at.p == 0 and most((at.p / 2 - 1) * at.c, at.f),
        hop_domain="T_F = T_B = T_W, P ≥ 4 divides M, (P/2−1)·c ≤ T_F",
        source=_SOURCE,
    ),
)
