"""What may mark the steps of a trace: one candidate is one way to cut every rank's time into steps."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

RANGES = pl.Schema(
    {
        "rank": pl.Int32,
        "cycle": pl.Int32,
        "number": pl.Int32,  # null if the trace does not number its steps
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "at_ns": pl.Int64,  # a moment that lies in this step whatever else shows steps
    }
)
PLACE = ["rank", "cycle"]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Steps as one kind of mark gives them."""

    basis: str
    """In words: `ProfilerStep`, `range "train_step_N"`, `Optimizer.step`, `actions`, `optimizer kernels`."""
    ranges: pl.DataFrame
    """`RANGES` of CPU time, by rank, cycle and start."""
    starts_recorded: bool = True
    """False: the first step begins where the capture does, so that it may be cut."""
    ends_recorded: bool = True
    """False: the last step ends where the capture does."""
    needs_agreement: bool = False
    """The name alone proves nothing: it counts only if no other mark contradicts it."""

    def counts(self) -> dict[int, list[tuple[int, int]]]:
        """Number of steps by rank and cycle."""
        by_place = self.ranges.group_by(PLACE).len().sort(PLACE)
        found: dict[int, list[tuple[int, int]]] = {}
        for rank, cycle, num in by_place.iter_rows():
            found.setdefault(rank, []).append((cycle, num))
        return found

    def why_not(self, ranks: frozenset[int]) -> str | None:
        """Why this cannot be the steps of all `ranks`: it is missing on some, or their counts differ."""
        counts = self.counts()
        missing = ranks - set(counts)
        if missing:
            return f"{self.basis} is on {len(counts)} of {len(ranks)} ranks only"
        if self.is_numbered:
            return None
        totals = {rank: sum(num for _, num in by_cycle) for rank, by_cycle in counts.items()}
        if len({tuple(by_cycle) for by_cycle in counts.values()}) > 1:
            return f"{self.basis} gives between {min(totals.values())} and {max(totals.values())} steps by rank"
        return None

    @property
    def is_numbered(self) -> bool:
        """Whether numbers show which steps of two ranks are the same one."""
        return self.ranges.height > 0 and self.ranges["number"].null_count() == 0


def conform_ranges(rows: pl.DataFrame) -> pl.DataFrame:
    """`RANGES` of these rows, sorted; what is missing is null, `at_ns` the start."""
    at = pl.col("at_ns") if "at_ns" in rows.columns else pl.col("start_ns").alias("at_ns")
    number = pl.col("number") if "number" in rows.columns else pl.lit(None).alias("number")
    named = rows.with_columns(at, number)
    return named.select(pl.col(name).cast(dtype) for name, dtype in RANGES.items()).sort(*PLACE, "start_ns")
