"""Every rank of runs analysed alone: do its bounds hold the wait that all ranks together give, and do they say anything?

    python benchmarks/accuracy/one_rank_bounds.py RUN_OR_FOLDER...

One line per input, then every miss with its size. A rank-step counts where all its communication could be split with all
ranks present; its truth is that split. A lower bound of 0 and an upper one of the whole duration hold always: `low > 0`
counts the rank-steps with more, `width` is the median of (high - low) over the time inside communication.
"""

import sys
from pathlib import Path

import polars as pl

from traceanalyzer.analysis.measure import Measured, measure
from traceanalyzer.analysis.run import read
from traceanalyzer.errors import TraceAnalyzerError

_KEYS = ["rank", "step", "role"]
_HEADER = f"{'input':<32} inside  of  low > 0  width  no truth  slowest stage, by rank"


def waits(found: Measured) -> pl.DataFrame:
    """Low and high by rank, step and role, in milliseconds."""
    return found.waits.select(*_KEYS, pl.col("wait_low_ns", "wait_high_ns", "duration_ns") / 1e6)


def compare(path: str) -> tuple[pl.DataFrame, int, list[str]]:
    """Rank-steps with bounds and truth, how many have no known truth, and what each rank says of the slowest stage."""
    together = measure(read(path))
    truth = waits(together).with_columns((pl.col("wait_low_ns") == pl.col("wait_high_ns")).alias("known"))
    rows, sides = [], []
    for rank in sorted(set(together.tables.ranks["rank"])):
        alone = measure(read(path, ranks=[rank]))
        rows.append(waits(alone))
        sides.append(f"{rank}:{alone.captured.ranks[0].side or '-'}")
    known = truth.filter(pl.col("known").all().over("rank", "step")).select(
        *_KEYS, pl.col("wait_low_ns").alias("true_ms")
    )
    both = pl.concat(rows).join(known, on=_KEYS, nulls_equal=True)
    steps = both.group_by("rank", "step").agg(
        pl.col("wait_low_ns").sum().alias("low_ms"),
        pl.col("true_ms").sum(),
        pl.col("wait_high_ns").sum().alias("high_ms"),
        pl.col("duration_ns").sum().alias("duration_ms"),
    )
    inside = pl.col("true_ms").is_between(pl.col("low_ms") - 1e-9, pl.col("high_ms") + 1e-9)
    result = steps.filter(pl.col("duration_ms") > 0).with_columns(inside.alias("inside")).sort("rank", "step")
    return result, truth.select("rank", "step").unique().height - result.height, sides


def line(name: str, steps: pl.DataFrame, untold: int, sides: str) -> str:
    """Counts of one input."""
    width = steps.select((pl.col("high_ms") - pl.col("low_ms")) / pl.col("duration_ms")).to_series().median()
    shown = f"{width:.2f}" if isinstance(width, float) else "-"
    lows = steps.filter(pl.col("low_ms") > 0).height
    return f"{name:<32} {steps['inside'].sum():>6} {steps.height:>3} {lows:>8} {shown:>6} {untold:>9}  {sides}"


def main(paths: list[str]) -> None:
    found: list[pl.DataFrame] = []
    total = 0
    print(_HEADER)
    for path in paths:
        name = "/".join(Path(path).parts[-2:])[-32:]
        try:
            steps, untold, sides = compare(path)
        except TraceAnalyzerError as error:
            print(f"{name:<32} {error.message}")
            continue
        found.append(steps)
        total += untold
        print(line(name, steps, untold, " ".join(sides)))
        for row in steps.filter(~pl.col("inside")).iter_rows(named=True):
            off = max(row["low_ms"] - row["true_ms"], row["true_ms"] - row["high_ms"])
            print(
                f"  miss: rank {row['rank']} step {row['step']}: true {row['true_ms']:.3f} ms, "
                f"bounds {row['low_ms']:.3f} to {row['high_ms']:.3f}, off by {off:.3f} ms of {row['duration_ms']:.3f}"
            )
    if found:
        print(line("all", pl.concat(found), total, ""))


if __name__ == "__main__":
    main(sys.argv[1:])
