"""Orders with one stage per rank: sequential, GPipe, 1F1B and eager 1F1B.

Each function returns the order of one rank; `num_ranks` stages, `num_microbatches` microbatches.
"""

from __future__ import annotations

from traceanalyzer.schedule import Action, Op, Phase


def sequential(rank: int, num_microbatches: int) -> list[Op]:
    """One microbatch goes all the way forward and back before the next one starts."""
    return [Action(rank, phase, m) for m in range(num_microbatches) for phase in (Phase.FORWARD, Phase.BACKWARD)]


def gpipe(rank: int, num_microbatches: int, *, last_first: bool = False) -> list[Op]:
    """All forwards, then all backwards (Huang et al., arXiv 1811.06965).

    Backwards run in the order of the forwards, as PyTorch does it, or in reverse with `last_first`: the bubble is
    the same.
    """
    backwards = reversed(range(num_microbatches)) if last_first else range(num_microbatches)
    forwards: list[Op] = [Action(rank, Phase.FORWARD, m) for m in range(num_microbatches)]
    return forwards + [Action(rank, Phase.BACKWARD, m) for m in backwards]


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
