"""All forwards, then all backwards: GPipe, and over several chunks breadth first."""

from __future__ import annotations

from traceanalyzer.schedule import Action, Op, Phase
from traceanalyzer.theory.schedules.record import Law, Point, Schedule, always


def gpipe(rank: int, num_microbatches: int, *, last_first: bool = False) -> list[Op]:
    """All forwards, then all backwards (Huang et al., arXiv 1811.06965).

    Backwards run in the order of the forwards, as PyTorch does it, or in reverse with `last_first`: the bubble is
    the same.
    """
    backwards = reversed(range(num_microbatches)) if last_first else range(num_microbatches)
    forwards: list[Op] = [Action(rank, Phase.FORWARD, m) for m in range(num_microbatches)]
    return forwards + [Action(rank, Phase.BACKWARD, m) for m in backwards]


def looped_bfs(rank: int, num_ranks: int, num_microbatches: int, num_chunks: int) -> list[Op]:
    """Breadth first: every microbatch through a chunk before the next chunk (Lamy-Poirier, arXiv 2211.05953).

    Backwards run over the chunks and the microbatches in reverse, as PyTorch does it.
    """
    stages = range(rank, num_ranks * num_chunks, num_ranks)
    microbatches = range(num_microbatches)
    forwards: list[Op] = [Action(stage, Phase.FORWARD, m) for stage in stages for m in microbatches]
    return forwards + [Action(stage, Phase.BACKWARD, m) for stage in reversed(stages) for m in reversed(microbatches)]


def _looped_bfs_bubble(at: Point) -> float:
    """At every change of chunk a rank waits for its first microbatch to come round the loop."""
    round_trips = [max(0.0, at.p * (time / at.v + at.c) - at.m * time / at.v) for time in (at.f, at.full)]
    return (at.p - 1) * (at.total / at.v + 2 * at.c) + (at.v - 1) * sum(round_trips)


GPIPE = Schedule(
    name="GPipe",
    precedence=2,
    held=lambda at: at.m,
    order=lambda r, at: gpipe(r, at.num_microbatches),
    variants=(lambda r, at: gpipe(r, at.num_microbatches, last_first=True),),
    aliases=("afab", "filldrain"),
    torch_runs=lambda _ranks, _microbatches: True,
    law=Law(
        bubble=lambda at: (at.p - 1) * (at.total + 2 * at.c),
        formula="(P−1)·T",
        holds=always,
        domain="any M",
        hop_formula="2(P−1)·c",
        hop_holds=always,
        hop_domain="any c",
        source="Huang et al., arXiv 1811.06965; hops by simulation",
    ),
)
LOOPED_BFS = Schedule(
    name="LoopedBFS",
    precedence=6,
    held=lambda at: at.m,
    order=lambda r, at: looped_bfs(r, at.num_ranks, at.num_microbatches, at.num_chunks),
    aliases=("bfs",),
    num_chunks=None,
    torch_runs=lambda _ranks, _microbatches: True,
    law=Law(
        bubble=_looped_bfs_bubble,
        formula="(P−1)·T/v + (v−1)·(max(0, P−M)·T_F/v + max(0, P−M)·T_b/v)",
        holds=always,
        domain="any M",
        hop_formula="2(P−1)·c, and max(0, P(t/v+c) − M·t/v) for max(0, P−M)·t/v",
        hop_holds=always,
        hop_domain="any c",
        source="Lamy-Poirier, arXiv 2211.05953; M < P and hops by simulation",
    ),
)
