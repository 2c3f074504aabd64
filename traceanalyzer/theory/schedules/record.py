"""What a schedule is: one record with its name, chunks, placement, order and textbook bubble.

Letters of the formulas: P ranks, M microbatches, v chunks per rank; T_F, T_B and T_W are the forward, the backward for the
input and the backward for the weights of one microbatch through one *rank's* share of the model (1/P of it, all chunks
together); T_b = T_B + T_W, T = T_F + T_b; c is the latency of one hop between ranks, which does not occupy them.

"By simulation" marks what no paper states: it was fitted to the event simulation and is held to it by the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from traceanalyzer.schedule import Op

TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class OrderPoint:
    """What an order depends on."""

    num_ranks: int
    num_microbatches: int
    num_chunks: int
    group_size: int


class Placement(Enum):
    """Where the stages of a pipeline live."""

    LOOP = "stage s on rank s modulo P"
    V = "ranks 0 to P-1, then back: the turn-around is local"
    TWO_COPIES = "as the V, each arm a whole copy of the model"


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


@dataclass(frozen=True, slots=True)
class HeldPoint:
    """Where the microbatches that a rank holds are asked for; letters as in the module's docstring."""

    p: int
    m: int
    v: int
    rank: int

    @property
    def group(self) -> int:
        """Microbatches that pass through a chunk in a row, as PyTorch cuts them."""
        return self.m // max(1, self.m // self.p)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """The bubble of a rank: its idle time within the pipeline phase (theory has no other), in the unit of the times."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule. Everything that the project knows of it is here, in its docs and in its tests."""

    name: str
    """Torch's own spelling where torch has the schedule."""
    precedence: int
    """Where schedules have the same order (one rank, one microbatch), the lowest one is named; lists go by it too."""
    order: Callable[[int, OrderPoint], list[Op]]
    """The order of one rank."""
    law: Law
    held: Callable[[HeldPoint], float]
    """Most microbatches whose activations a rank holds, in its share of one model copy, with equal times everywhere."""
    variants: tuple[Callable[[int, OrderPoint], list[Op]], ...] = ()
    """Other orders of one rank with the same bubble; measured orders are recognised by them too."""
    aliases: tuple[str, ...] = ()
    """Other names, in lower case, without dashes and spaces."""
    num_chunks: int | None = 1
    """Pieces of one model copy on every rank; None: free, 2 or more."""
    placement: Placement = Placement.LOOP
    is_grouped: bool = False
    """A group of microbatches passes through a chunk before the rank turns to its next one."""
    splits_backward: bool = False
    has_pairs: bool = False
    """A forward and a backward run as one action."""
    is_baseline: bool = False
    """Something to compare with, never proposed."""
    min_microbatches_per_rank: int = 0
    needs_even: bool = False
    """Numbers of ranks and of microbatches must be even."""
    max_ranks: int | None = None
    in_frameworks: bool = True
    """A framework runs it by this name."""
    torch_runs: Callable[[int, int], bool] = lambda _ranks, _microbatches: False
    """Whether torch's class of this name runs this many ranks and microbatches as the order says."""

    @property
    def num_copies(self) -> int:
        """Copies of the model in one pipeline."""
        return 2 if self.placement is Placement.TWO_COPIES else 1


def always(_: Point) -> bool:
    """Holds everywhere."""
    return True


def equal(at: Point) -> bool:
    """Whether the three times are equal."""
    return max(at.f, at.b, at.w) - min(at.f, at.b, at.w) <= TOLERANCE * at.total


def most(low: float, high: float) -> bool:
    """`low` is at most `high`, within rounding."""
    return low <= high + TOLERANCE


def weight_shortest(at: Point) -> bool:
    """Whether no time is shorter than the one for the weights."""
    return most(at.w, min(at.f, at.b))
