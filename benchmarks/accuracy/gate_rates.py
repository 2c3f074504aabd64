"""How often a gate of +2% alarms without a reason, and misses a slower step, against the noise of steps and of runs.

    PYTHONPATH=.:tests/support python benchmarks/accuracy/gate_rates.py [REPEATS]

Steps of a run vary by a normal share around the run's own step, and runs around the job's. Limit, noise and floor are the
product's own: the median typical step, `max_increase = "2%"`, 1% between runs.
"""

from __future__ import annotations

import random
import sys
from itertools import product

from msgspec.structs import replace
from report_cases import pipeline_case

from traceanalyzer.gates.file import Gate, Limit
from traceanalyzer.gates.outcome import judged
from traceanalyzer.measurements.capture.noise import step_noise
from traceanalyzer.review import Review

GATE = Gate(limit=[Limit(path="step.duration_ms.median", max_increase="2%")])
TEMPLATE = pipeline_case()[0]
SLOWER = (0.0, 0.03, 0.05, 0.10)


def run_of(chance: random.Random, num_steps: int, by_step: float, by_run: float, slower: float) -> Review:
    """A review of a run whose steps and whose own level vary."""
    level = 100.0 * (1 + slower) * (1 + chance.gauss(0, by_run))
    values = sorted(level * (1 + chance.gauss(0, by_step)) for _ in range(num_steps))
    noise = step_noise([ms * 1e6 for ms in values])
    duration = replace(
        TEMPLATE.step.duration_ms, values=values, num_steps=num_steps, median=values[(num_steps - 1) // 2]
    )
    step = replace(
        TEMPLATE.step, duration_ms=duration, noise_ms=noise.half_width_ns / 1e6 if noise else None, open_end=False
    )
    return replace(TEMPLATE, step=step)


def main(repeats: int) -> None:
    print(
        f"{'steps':>5} {'of steps':>9} {'of runs':>8}   alarms at +0%   missed at "
        + "  ".join(f"+{s:.0%}" for s in SLOWER[1:])
    )
    for num_steps, by_step, by_run in product((5, 20), (0.005, 0.02, 0.05), (0.0, 0.005, 0.01)):
        chance = random.Random(f"{num_steps} {by_step} {by_run}")  # noqa: S311 - repeatable, not secret
        broken: list[float] = []
        for slower in SLOWER:
            pairs = (
                (run_of(chance, num_steps, by_step, by_run, slower), run_of(chance, num_steps, by_step, by_run, 0.0))
                for _ in range(repeats)
            )
            broken.append(sum(judged(GATE, new, base)[0].status == "broken" for new, base in pairs) / repeats)
        missed = "  ".join(f"{1 - rate:>5.1%}" for rate in broken[1:])
        print(f"{num_steps:>5} {by_step:>9.1%} {by_run:>8.1%} {broken[0]:>13.1%}             {missed}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
