"""The vocabulary of pipeline schedules: phases, actions, and names of schedules.

The grammar is the one PyTorch's pipelining runtime writes: `2F0` is the forward of microbatch 0 on stage 2,
`3B1` a full backward, `1I3` an input-gradient, `1W3` a weight-gradient; two compute actions that run as one are
`(2F3;5B1)OVERLAP_F_B`. A *stage* is a piece of the model, numbered along the forward direction; a rank holds one
or more of them, and then each is one of its *chunks*.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from traceanalyzer.errors import UsageError


class Phase(StrEnum):
    """What a compute action computes."""

    FORWARD = "F"
    BACKWARD = "B"  # full backward: input-gradient and weight-gradient together
    INPUT_GRADIENT = "I"
    WEIGHT_GRADIENT = "W"


BACKWARD_PHASES = (Phase.BACKWARD, Phase.INPUT_GRADIENT, Phase.WEIGHT_GRADIENT)

_ACTION = re.compile(r"^(\d{1,6})([FBIW])(\d{1,9})$")
_OVERLAP = re.compile(r"^\((\d+[FBIW]\d+);(\d+[FBIW]\d+)\)OVERLAP_F_B$")


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """One compute action: `phase` of `microbatch` on `stage`."""

    stage: int
    phase: Phase
    microbatch: int

    def __str__(self) -> str:
        return f"{self.stage}{self.phase}{self.microbatch}"

    @classmethod
    def parse(cls, text: str) -> Action:
        """Read one action such as `2F0`. Raises `UsageError` on anything else."""
        match = _ACTION.match(text.strip())
        if match is None:
            raise UsageError(
                f"'{text}' is not a compute action",
                "write stage, phase (F, B, I or W) and microbatch, for example 2F0",
            )
        return cls(int(match[1]), Phase(match[2]), int(match[3]))


@dataclass(frozen=True, slots=True, order=True)
class OverlappedPair:
    """A forward and a backward that a rank runs as one action (DualPipe's F&B)."""

    first: Action
    second: Action

    def __str__(self) -> str:
        return f"({self.first};{self.second})OVERLAP_F_B"


Op = Action | OverlappedPair
"""What a rank's order is made of."""

RankOrders = list[list[Op]]
"""The order of every rank of one pipeline: `orders[rank][position]`."""


def parse_op(text: str) -> Op:
    """Read an action or an overlapped pair. Raises `UsageError` on anything else."""
    match = _OVERLAP.match(text.strip())
    if match is None:
        return Action.parse(text)
    return OverlappedPair(Action.parse(match[1]), Action.parse(match[2]))


def actions_of(op: Op) -> tuple[Action, ...]:
    """The compute actions inside an op, in the order in which they are issued."""
    return (op.first, op.second) if isinstance(op, OverlappedPair) else (op,)


ScheduleName = NewType("ScheduleName", str)
"""The name of a schedule as its record in `theory.schedules.families` spells it."""
