"""Orders with several chunks per rank, laid out in a loop: chunk k of rank r is stage `k * num_ranks + r`."""

from __future__ import annotations

from itertools import islice

from traceanalyzer.schedule import Action, Op, Phase


def looped_bfs(rank: int, num_ranks: int, num_microbatches: int, num_chunks: int) -> list[Op]:
    """Breadth first: every microbatch through a chunk before the next chunk (Lamy-Poirier, arXiv 2211.05953).

    Backwards run over the chunks and the microbatches in reverse, as PyTorch does it.
    """
    stages = range(rank, num_ranks * num_chunks, num_ranks)
    microbatches = range(num_microbatches)
    forwards: list[Op] = [Action(stage, Phase.FORWARD, m) for stage in stages for m in microbatches]
    return forwards + [Action(stage, Phase.BACKWARD, m) for stage in reversed(stages) for m in reversed(microbatches)]


def _visits(num_microbatches: int, num_chunks: int, group_size: int) -> list[tuple[int, int]]:
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
    visits = _visits(num_microbatches, num_chunks, group_size)
    forwards = [Action(chunk * num_ranks + rank, Phase.FORWARD, m) for chunk, m in visits]
    backwards = [Action((num_chunks - 1 - chunk) * num_ranks + rank, Phase.BACKWARD, m) for chunk, m in visits]
    warmup = min((num_chunks - 1) * group_size + 2 * (num_ranks - 1 - rank), len(visits))
    order: list[Op] = list(forwards[:warmup])
    for forward, backward in zip(forwards[warmup:], backwards, strict=False):
        order += [forward, backward]
    return order + backwards[len(visits) - warmup :]


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
    visits = _visits(num_microbatches, num_chunks, group_size)
    forwards = [Action(chunk * num_ranks + rank, Phase.FORWARD, m) for chunk, m in visits]
    backwards = [((num_chunks - 1 - chunk) * num_ranks + rank, m) for chunk, m in visits]
    weights = iter([Action(stage, Phase.WEIGHT_GRADIENT, m) for stage, m in backwards])
    warmup = min((num_chunks - 1) * group_size + warmup_per_hop * (num_ranks - 1 - rank), len(visits))
    order: list[Op] = list(forwards[:warmup])
    for position, (stage, m) in enumerate(backwards):
        order += forwards[warmup + position : warmup + position + 1]
        order.append(Action(stage, Phase.INPUT_GRADIENT, m))
        if position >= warmup_per_hop * rank:
            order += islice(weights, 1)
    return order + list(weights)
