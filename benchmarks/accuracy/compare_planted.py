"""Changes planted between two runs of other seeds: what `compare` names first, how well it is sized, and clean repeats.

    PYTHONPATH=.:tests/support python benchmarks/accuracy/compare_planted.py [RUNS]

Every run is a capture of its own with chance of its own; truth is the step with the change less the same run's without.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from inputs.planted_changes import CHANCE, PLANTINGS, Planting, true_change_ns
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.comparison.compare import compare
from traceanalyzer.comparison.record import Pair
from traceanalyzer.comparison.side import Side


def side(job: Job, faults: Faults, folder: Path, name: str) -> Side:
    """A run that was planted and analysed."""
    place = folder / name
    place.mkdir()
    plant(job, faults, place)
    found = analyze(read(place))
    return Side(name, found.review, found.tables)


def is_named(pair: Pair, planting: Planting) -> bool:
    """Whether the first change is the planted one, and the first sentence says it."""
    first = pair.changes[0]
    return (first.kind, tuple(first.ranks)) == (planting.kind, planting.ranks) and planting.word in pair.sentences[0]


def main(num_runs: int) -> None:
    print(f"{'planted':<30} {'named first':>12} {'within 5%':>10} {'worst':>7} {'clean alarms':>13}")
    for name, planting in PLANTINGS.items():
        named, within, worst, alarms = 0, 0, 0.0, 0
        with tempfile.TemporaryDirectory() as folder:
            base = side(planting.job, CHANCE, Path(folder), "base")
            for seed in range(1, num_runs + 1):
                chance = replace(CHANCE, seed=seed)
                new = side(*planting.changed(planting.job, chance), Path(folder), f"new{seed}")
                clean = side(planting.job, replace(CHANCE, seed=1000 + seed), Path(folder), f"clean{seed}")
                pair = compare(base, [new]).pairs[0]
                truth = true_change_ns(planting, chance)
                error = abs(pair.changes[0].change_ns / truth - 1)
                named += is_named(pair, planting)
                within += error <= 0.05
                worst = max(worst, error)
                alarms += compare(base, [clean]).pairs[0].verdict != "noise"
        print(
            f"{name:<30} {named:>5} of {num_runs:<3} {within:>3} of {num_runs:<3} {worst:>6.1%} {alarms:>6} of {num_runs}",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
