"""What a pipeline step would take: every rank runs its order, every op when its inputs are there.

The simulator knows no closed form: it is what they are tested against. Times are integer nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.schedule import Action, Phase, RankOrders
from traceanalyzer.schema import ACTIONS, conform
from traceanalyzer.theory.simulator.op_times import OpTimes, SendMode, per_stage
from traceanalyzer.theory.simulator.program import Program, build
from traceanalyzer.theory.simulator.running import run_apart, run_together


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated step. The *pipeline phase* runs from the first op's start to the last op's end over all ranks."""

    makespan_ns: int
    """Length of the pipeline phase."""
    step_ns: int
    """Pipeline phase, gradient reduction and optimizer."""
    busy_ns: tuple[int, ...]
    """Time in ops, per rank."""
    span_ns: tuple[int, ...]
    """First op's start to last op's end, per rank."""
    num_messages: tuple[int, ...]
    """Messages sent to other ranks, per rank."""
    message_bytes: int
    """Bytes sent by all ranks together."""
    program: Program
    starts: tuple[list[int], ...]
    """Start of every node of the program, per rank."""
    ends: tuple[list[int], ...]

    @property
    def num_ranks(self) -> int:
        """Ranks of the pipeline."""
        return len(self.busy_ns)

    @property
    def bubble_ns(self) -> int:
        """Time outside ops within the pipeline phase, summed over ranks."""
        return self.num_ranks * self.makespan_ns - sum(self.busy_ns)

    @property
    def bubble_share(self) -> float:
        """Bubble as a share of the pipeline phase of all ranks."""
        return _ratio(self.bubble_ns, self.num_ranks * self.makespan_ns)

    @property
    def bubble_ratio(self) -> float:
        """Bubble over the time in ops."""
        return _ratio(self.bubble_ns, sum(self.busy_ns))

    @property
    def span_bubble_share(self) -> float:
        """The bubble share with the longest per-rank span in place of the pipeline phase.

        This is the cost of the zero-bubble papers (arXiv 2401.10241, section 3.1): ranks may start and finish one after
        the other where no barrier ends the step.
        """
        window = self.num_ranks * max(self.span_ns, default=0)
        return _ratio(window - sum(self.busy_ns), window)

    @property
    def actions(self) -> pl.DataFrame:
        """Every action in the `ACTIONS` schema, step 0, times from 0. Built anew at every access.

        `position` counts a rank's actions; the two of an overlapped pair share start and end.
        """
        late = self.program.late
        rows = [
            (rank, action.stage, action.phase.value, action.microbatch, start, end, release)
            for rank, nodes in enumerate(self.program.actions)
            for index, (actions, start, end) in enumerate(zip(nodes, self.starts[rank], self.ends[rank], strict=True))
            for release in (self.ends[rank][index + 1] if (rank, index) in late else None,)
            for action in actions
        ]
        names = ("rank", "stage", "phase", "microbatch", "start_ns", "end_ns", "release_ns")
        table = pl.DataFrame(rows, schema={name: ACTIONS[name] for name in names}, orient="row")
        position = pl.int_range(pl.len()).over("rank").alias("position")
        return conform(table.with_columns(position, step=0), ACTIONS)

    @property
    def peak_in_flight(self) -> tuple[int, ...]:
        """Most activations that a rank holds at once, in stages: kept from `F` to the end of `B`, or of `W`."""
        return tuple(_peak_in_flight(nodes) for nodes in self.program.actions)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _peak_in_flight(nodes: list[tuple[Action, ...]]) -> int:
    held = peak = 0
    for actions in nodes:
        for action in actions:
            held += action.phase is Phase.FORWARD
            peak = max(peak, held)
        for action in actions:
            held -= action.phase in (Phase.BACKWARD, Phase.WEIGHT_GRADIENT)
    return peak


def simulate(orders: RankOrders, stage_ranks: Sequence[int], times: OpTimes) -> Simulation:
    """Run the orders of one pipeline step.

    `stage_ranks` is the rank of every stage. The orders may be those of any schedule, or measured ones. Raises
    `UsageError` where orders and placement contradict each other, and `DeadlockError` where an order can never end.
    """
    program = build(orders, stage_ranks, times)
    run = run_together if times.sends is SendMode.RENDEZVOUS else run_apart
    starts, ends, num_messages = run(program, times)
    spans = [(s[0], e[-1]) for s, e in zip(starts, ends, strict=True) if s]
    begin, end = min((s for s, _ in spans), default=0), max((e for _, e in spans), default=0)
    return Simulation(
        makespan_ns=end - begin,
        step_ns=_step_ns(stage_ranks, ends, times) - begin,
        busy_ns=tuple(sum(node.duration for node in nodes) for nodes in program.nodes),
        span_ns=tuple(e[-1] - s[0] if s else 0 for s, e in zip(starts, ends, strict=True)),
        num_messages=tuple(num_messages),
        message_bytes=sum(num_messages) * times.message_bytes,
        program=program,
        starts=tuple(starts),
        ends=tuple(ends),
    )


def _step_ns(stage_ranks: Sequence[int], ends: Sequence[list[int]], times: OpTimes) -> int:
    """When the step is over: reduction of a rank's stages after its last op, then the optimizer of all ranks."""
    reduction = per_stage(times.gradient_reduction_ns, len(stage_ranks))
    optimizer = per_stage(times.optimizer_ns, len(stage_ranks))
    reduced = [rank_ends[-1] if rank_ends else 0 for rank_ends in ends]
    stepping = [0] * len(ends)
    for stage, rank in enumerate(stage_ranks):
        reduced[rank] += reduction[stage]
        stepping[rank] += optimizer[stage]
    return max(reduced, default=0) + max(stepping, default=0)
