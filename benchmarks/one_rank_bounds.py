"""Every rank of runs analysed alone: do its bounds hold the wait that all ranks together give?

    python benchmarks/one_rank_bounds.py RUN_OR_FOLDER...

One line per input, then every miss with its size. A rank-step counts where all its communication could be split with all
ranks present; its truth is that split.
"""

import sys
from pathlib import Path

import polars as pl

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.gaps.measured import Measured, measure
from traceanalyzer.gaps.run import read

_KEYS = ["rank", "step", "role"]


def waits(found: Measured) -> pl.DataFrame:
    """Low and high by rank, step and role, in milliseconds."""
    return found.waits.select(*_KEYS, pl.col("wait_low_ns", "wait_high_ns", "duration_ns") / 1e6)


def compare(path: str) -> tuple[int, int, pl.DataFrame, list[str]]:
    """Rank-steps with a known truth, those the bounds hold, the others, and what each rank says of the slowest stage."""
    together = measure(read(path))
    truth = waits(together).with_columns((pl.col("wait_low_ns") == pl.col("wait_high_ns")).alias("known"))
    rows, sides = [], []
    for rank in sorted(set(together.tables.ranks["rank"])):
        alone = measure(read(path, ranks=[rank]))
        rows.append(waits(alone))
        sides.append(f"{rank}:{alone.captured.ranks[0].side or '-'}")
    both = pl.concat(rows).join(truth.filter("known").select(*_KEYS, pl.col("wait_low_ns").alias("true_ms")), on=_KEYS)
    steps = both.group_by("rank", "step").agg(
        pl.col("wait_low_ns").sum().alias("low_ms"),
        pl.col("true_ms").sum(),
        pl.col("wait_high_ns").sum().alias("high_ms"),
        pl.col("duration_ns").sum().alias("duration_ms"),
    )
    inside = pl.col("true_ms").is_between(pl.col("low_ms") - 1e-9, pl.col("high_ms") + 1e-9)
    return steps.height, steps.filter(inside).height, steps.filter(~inside).sort("rank", "step"), sides


def main(paths: list[str]) -> None:
    total = held = 0
    for path in paths:
        try:
            num, inside, misses, sides = compare(path)
        except TraceAnalyzerError as error:
            print(f"{Path(path).name:<28} {error.message}")
            continue
        total, held = total + num, held + inside
        print(f"{Path(path).name:<28} {inside:>4} of {num:>4} rank-steps inside; slowest stage: {' '.join(sides)}")
        for row in misses.iter_rows(named=True):
            off = max(row["low_ms"] - row["true_ms"], row["true_ms"] - row["high_ms"])
            print(
                f"  miss: rank {row['rank']} step {row['step']}: true {row['true_ms']:.3f} ms, "
                f"bounds {row['low_ms']:.3f} to {row['high_ms']:.3f}, off by {off:.3f} ms of {row['duration_ms']:.3f}"
            )
    print(f"{'all':<28} {held:>4} of {total:>4} rank-steps inside ({held / max(total, 1):.1%})")


if __name__ == "__main__":
    main(sys.argv[1:])
