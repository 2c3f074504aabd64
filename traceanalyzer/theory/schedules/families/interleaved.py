"""1F1B over several chunks per rank, laid out in a loop: chunk k of rank r is stage `k * num_ranks + r`."""

from __future__ import annotations

from traceanalyzer.schedule import Action, Op, Phase
from traceanalyzer.theory.schedules.record import HeldPoint, Law, Point, Schedule, always, most


def visits(num_microbatches: int, num_chunks: int, group_size: int) -> list[tuple[int, int]]:
    """(chunk, microbatch) in the order of visit: a group of microbatches through every chunk, then the next group."""
    return [
        (chunk, m)
        for first in range(0, num_microbatches, group_size)
        for chunk in range(num_chunks)
        for m in range(first, min(first + group_size, num_microbatches))
    ]


def interleaved_1f1b(rank: int, num_ranks: int, num_microbatches: int, num_chunks: int, group_size: int) -> list[Op]:
    """1F1B over chunks (Narayanan et al., arXiv 2104.04473).

    `group_size` microbatches pass through a chunk before the rank turns to its next chunk: `num_ranks` is depth
    first, `num_microbatches` is breadth first.
    """
    visited = visits(num_microbatches, num_chunks, group_size)
    forwards = [Action(chunk * num_ranks + rank, Phase.FORWARD, m) for chunk, m in visited]
    backwards = [Action((num_chunks - 1 - chunk) * num_ranks + rank, Phase.BACKWARD, m) for chunk, m in visited]
    warmup = min((num_chunks - 1) * group_size + 2 * (num_ranks - 1 - rank), len(visited))
    order: list[Op] = list(forwards[:warmup])
    for forward, backward in zip(forwards[warmup:], backwards, strict=False):
        order += [forward, backward]
    return order + backwards[len(visited) - warmup :]


def _bubble(at: Point) -> float:
    hops = at.v * at.p - 1 if at.group == at.p else at.p - 1
    return ((at.p - 1) + (at.v - 1) * max(0, at.p - at.m)) * at.total / at.v + 2 * hops * at.c


def _hop_holds(at: Point) -> bool:
    """The way round the loop must hide behind the microbatches that a group has to spare."""
    if at.m % at.group or at.m < at.p:
        return False
    chunk = min(at.f, at.full) / at.v
    spare = at.group == at.p or most(at.p * at.c, (at.group - at.p) * chunk)
    return spare and most(at.c, chunk)


def _held(at: HeldPoint) -> float:
    if at.p == 1:
        return 1
    return min(at.m * at.v, (at.v - 1) * at.group + 2 * (at.p - 1 - at.rank) + 1) / at.v


INTERLEAVED_1F1B = Schedule(
    name="Interleaved1F1B",
    precedence=5,
    held=_held,
    order=lambda r, at: interleaved_1f1b(r, at.num_ranks, at.num_microbatches, at.num_chunks, at.group_size),
    aliases=("interleaved", "vpp"),
    num_chunks=None,
    is_grouped=True,
    torch_runs=lambda _ranks, _microbatches: True,
    law=Law(
        bubble=_bubble,
        formula="(P−1)·T/v + (v−1)·max(0, P−M)·T/v",
        holds=always,
        domain="every group has P microbatches or more, or M < P in one group",
        hop_formula="2(vP−1)·c with groups of P, 2(P−1)·c with larger ones",
        hop_holds=_hop_holds,
        hop_domain="M ≥ P in equal groups of G; c ≤ min(T_F, T_b)/v and, if G > P, P·c ≤ (G−P)·min(T_F, T_b)/v",
        source="Narayanan et al., SC21, arXiv 2104.04473; M < P and hops by simulation",
    ),
)
