"""How long the simulator takes per action: 16 ranks, 512 microbatches, makespan and bubble, tables excluded.

The figure is the median of 5 repetitions, each of a whole `simulate` call on a ready order: checks, dependencies,
durations and the run itself.
"""

from __future__ import annotations

import platform
import statistics
import time

from traceanalyzer.schedule import ScheduleName, actions_of
from traceanalyzer.theory.schedules.known import schedules
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order, placement
from traceanalyzer.theory.simulator.op_times import OpTimes
from traceanalyzer.theory.simulator.simulation import simulate

NUM_RANKS, NUM_MICROBATCHES, NUM_REPETITIONS, LIMIT_US = 16, 512, 5, 6.0
TIMES = OpTimes(forward_ns=1000, input_gradient_ns=1000, weight_gradient_ns=1000, hop_ns=10)


def microseconds_per_action(name: ScheduleName) -> tuple[int, list[float]]:
    num_chunks = chunks_per_rank(name) or 2
    orders = order(name, NUM_RANKS, NUM_MICROBATCHES, num_chunks)
    stage_ranks = placement(name, NUM_RANKS, num_chunks)
    num_actions = sum(len(actions_of(op)) for ops in orders for op in ops)
    spent: list[float] = []
    for _ in range(NUM_REPETITIONS):
        begin = time.perf_counter()
        simulated = simulate(orders, stage_ranks, TIMES)
        _ = simulated.makespan_ns, simulated.bubble_share
        spent.append((time.perf_counter() - begin) / num_actions * 1e6)
    return num_actions, spent


def main() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}; limit {LIMIT_US} µs per action")
    for name in schedules():
        if name == ScheduleName("GradAccumulation"):
            continue
        num_actions, spent = microseconds_per_action(name)
        median = statistics.median(spent)
        verdict = "" if median <= LIMIT_US else "  OVER THE LIMIT"
        print(f"{name:22} {num_actions:6} actions  {median:5.2f} µs  ({min(spent):.2f} to {max(spent):.2f}){verdict}")


if __name__ == "__main__":
    main()
