"""What a bubble larger than its schedule's consists of: the same order simulated with ever more of what was measured.

python benchmarks/accuracy/bubble_split.py RUN...
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import polars as pl

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.gaps.causes.blame import base_times
from traceanalyzer.gaps.pipeline.ideal import measured_orders
from traceanalyzer.schedule import Action, Phase
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode
from traceanalyzer.theory.simulator.simulation import simulate

DURATION = pl.col("end_ns") - pl.col("start_ns")
KEYS = ("stage", "phase", "microbatch", "ns")


def median_share(actions: pl.DataFrame, duration: Callable[[pl.DataFrame], pl.Expr]) -> float:
    """Bubble of the simulated order, median over steps, with the durations that `duration` gives."""
    shares: list[float] = []
    timed = actions.with_columns(duration(actions).cast(pl.Int64).alias("ns"))
    for step in timed.partition_by("step", as_dict=True).values():
        orders, stage_ranks, _ = measured_orders(step)
        exact = {Action(stage, Phase(phase), number): ns for stage, phase, number, ns in step.select(KEYS).iter_rows()}
        found = simulate(orders, stage_ranks, OpTimes(forward_ns=0, exact_ns=exact, pairs=PairMode.SERIAL_LATE))
        shares.append(1 - sum(found.busy_ns) / (found.makespan_ns * len(found.busy_ns)))
    return float(pl.Series(shares).median() or 0.0)  # type: ignore[arg-type]


def main(*paths: str) -> None:
    """One row of a Markdown table per run of one pipeline."""
    for path in paths:
        analysis = analyze(read(path))
        bubble = analysis.review.bubble
        actions = analysis.tables["actions"].filter(pl.col("microbatch").is_not_null())
        actions = actions.with_columns(pl.lit(0).alias("pipeline"), pl.col("phase").cast(pl.String))
        base = base_times(actions)
        shares = [
            median_share(actions, lambda _: pl.col("phase").replace_strict(base, return_dtype=pl.Int64)),  # noqa: B023
            median_share(actions, lambda _: DURATION.median().over("stage", "phase").round()),
            median_share(actions, lambda _: DURATION),
            (bubble.measured_share if bubble else None) or 0.0,
            (bubble.idle_share if bubble else None) or 0.0,
        ]
        sys.stdout.write(f"| {path} | {' | '.join(f'{share:.2%}' for share in shares)} |\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
