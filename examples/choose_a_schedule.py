"""Bubbles of three schedules by simulation and by formula: python examples/choose_a_schedule.py."""

from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.schedules.closed_forms import bubble_share
from traceanalyzer.theory.schedules.orders import order, placement
from traceanalyzer.theory.simulator.op_times import OpTimes
from traceanalyzer.theory.simulator.simulation import simulate

RANKS, MICROBATCHES = 4, 8
TIMES = OpTimes(forward_ns=10_000_000, input_gradient_ns=10_000_000, weight_gradient_ns=10_000_000)

for text in ("GPipe", "1F1B", "ZBH1"):
    name = ScheduleName(text)
    found = simulate(order(name, RANKS, MICROBATCHES), placement(name, RANKS), TIMES)
    formula = bubble_share(name, RANKS, MICROBATCHES).share
    print(
        f"{text:6} {found.bubble_share:.1%} simulated, {formula:.1%} by formula, keeps {max(found.peak_in_flight)} microbatches"
    )
