"""Orders of V placements: rank r holds stages r and `2 * num_ranks - 1 - r`, so the turn-around is local.

DualPipe runs the same order as DualPipeV, with two copies of the model in place of the two arms of the V.
"""

from __future__ import annotations

from collections.abc import Iterator

from traceanalyzer.schedule import Action, Op, OverlappedPair, Phase

F, B, I, W = Phase.FORWARD, Phase.BACKWARD, Phase.INPUT_GRADIENT, Phase.WEIGHT_GRADIENT  # noqa: E741 - the field's letters

Step = tuple[tuple[Phase, int], ...]
"""What runs next: one (phase, arm) or, for an overlapped pair, two. Arm 0 is entered first."""


_TAKES_THE_TURN_OF = {F: (F,), B: (B, I, W), I: (B, I), W: (W,)}


class _Numbering:
    """Gives every step the next microbatch of its arm and phase."""

    def __init__(self, stages: tuple[int, int], first_microbatches: tuple[int, int]) -> None:
        self._stages = stages
        self._next = {(phase, arm): first_microbatches[arm] for phase in Phase for arm in (0, 1)}

    def action(self, phase: Phase, arm: int) -> Action:
        microbatch = self._next[phase, arm]
        for counted in _TAKES_THE_TURN_OF[phase]:
            self._next[counted, arm] = microbatch + 1
        return Action(self._stages[arm], phase, microbatch)

    def op(self, step: Step) -> Op:
        actions = [self.action(phase, arm) for phase, arm in step]
        return actions[0] if len(actions) == 1 else OverlappedPair(actions[0], actions[1])


def zbv(rank: int, num_ranks: int, num_microbatches: int) -> list[Op]:
    """ZB-V (Qi et al., arXiv 2405.15362), as PyTorch orders it.

    Below `2 * num_ranks - 1` microbatches the order is the one for that many, with what is too much struck out.
    """
    numbering = _Numbering((rank, 2 * num_ranks - 1 - rank), (0, 0))
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


def dualpipe_v(rank: int, num_ranks: int, num_microbatches: int) -> list[Op]:
    """DualPipe cut in half (deepseek-ai/DualPipe `dualpipev.py`): one model copy, two chunks per rank."""
    numbering = _Numbering((rank, 2 * num_ranks - 1 - rank), (0, 0))
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
    numbering = _Numbering((near[0], far[0]), (near[1], far[1]))
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
