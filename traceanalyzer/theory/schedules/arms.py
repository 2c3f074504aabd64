"""Orders whose ranks hold two arms of stages: microbatches are numbered by arm and phase as they come."""

from __future__ import annotations

from traceanalyzer.schedule import Action, Op, OverlappedPair, Phase

F, B, I, W = Phase.FORWARD, Phase.BACKWARD, Phase.INPUT_GRADIENT, Phase.WEIGHT_GRADIENT  # noqa: E741 - the field's letters

Step = tuple[tuple[Phase, int], ...]
"""What runs next: one (phase, arm) or, for an overlapped pair, two. Arm 0 is entered first."""


_TAKES_THE_TURN_OF = {F: (F,), B: (B, I, W), I: (B, I), W: (W,)}


class Numbering:
    """Gives every step the next microbatch of its arm and phase."""

    def __init__(self, stages: tuple[int, int], first_microbatches: tuple[int, int]) -> None:
        self._stages = stages
        self._next = {(phase, arm): first_microbatches[arm] for phase in Phase for arm in (0, 1)}

    def action(self, phase: Phase, arm: int) -> Action:
        """The action that comes next on an arm."""
        microbatch = self._next[phase, arm]
        for counted in _TAKES_THE_TURN_OF[phase]:
            self._next[counted, arm] = microbatch + 1
        return Action(self._stages[arm], phase, microbatch)

    def op(self, step: Step) -> Op:
        """The op of a step: one action, or an overlapped pair."""
        actions = [self.action(phase, arm) for phase, arm in step]
        return actions[0] if len(actions) == 1 else OverlappedPair(actions[0], actions[1])
