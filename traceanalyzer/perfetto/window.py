"""Which part of a run is written: ranks, steps, a stretch of time. What touches the part is written whole."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.measurements.ledger.intervals import union

_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for; None: everything."""

    ranks: frozenset[int] | None = None
    steps: frozenset[int] | None = None
    from_ms: float | None = None
    """Since the first of the chosen steps began on any of the chosen ranks."""
    to_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What was chosen of a run."""

    ranks: tuple[int, ...]
    spans: pl.DataFrame | None
    """`rank`, `start_ns`, `end_ns`; None: all time."""

    def kept(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of a frame with `rank`, `start_ns` and `end_ns` that touch the window, in their order."""
        chosen = frame.filter(pl.col("rank").is_in(self.ranks) & pl.col("start_ns").is_not_null())
        if self.spans is None:
            return chosen
        until = pl.max_horizontal(pl.col("end_ns").fill_null(pl.col("start_ns")), pl.col("start_ns") + 1)
        spans = self.spans.select("rank", pl.col("start_ns").alias("_from"), pl.col("end_ns").alias("_to"))
        touched = (
            chosen.select("rank", "start_ns", until.alias("_until"))
            .with_row_index("_row")
            .join(spans, on="rank")
            .filter((pl.col("start_ns") < pl.col("_to")) & (pl.col("_until") > pl.col("_from")))
        )
        return chosen[touched["_row"].unique().sort()]


def zero_ns(steps: pl.DataFrame) -> int | None:
    """The start of the first of `STEPS`; None without steps."""
    return int(str(steps["start_ns"].min())) if steps["start_ns"].drop_nulls().len() else None


def window(choice: Choice, ranks: Collection[int], steps: pl.DataFrame) -> Window:
    """The window of a choice in a run with these ranks and `STEPS`. Raises `UsageError` if it is empty."""
    chosen = tuple(sorted(rank for rank in ranks if choice.ranks is None or rank in choice.ranks))
    if not chosen:
        raise UsageError("none of the chosen ranks was captured", f"choose among the ranks that are: {_shown(ranks)}")
    if choice.steps is None and choice.from_ms is None and choice.to_ms is None:
        return Window(chosen, None)
    here = steps.filter(pl.col("rank").is_in(chosen))
    if choice.steps is not None:
        here = here.filter(pl.col("step").is_in(list(choice.steps)))
        if here.is_empty() and steps.height:
            raise UsageError(
                "none of the chosen steps was captured",
                f"choose among the steps that are: {_shown(set(steps['step']))}",
            )
    first, last = _bounds(choice, here)
    spans = pl.DataFrame({"rank": chosen}, schema={"rank": pl.Int32}).with_columns(
        pl.lit(first, pl.Int64).alias("start_ns"), pl.lit(last, pl.Int64).alias("end_ns")
    )
    if choice.steps is not None:
        spans = _within(here, first, last)
    return Window(chosen, union(spans, ["rank"]))


def _bounds(choice: Choice, steps: pl.DataFrame) -> tuple[int, int]:
    zero = zero_ns(steps)
    if zero is None:
        raise UsageError(
            "no step is known here, so neither --steps, --from nor --to means anything", "leave them out to write all"
        )
    if choice.from_ms is not None and choice.to_ms is not None and choice.from_ms >= choice.to_ms:
        raise UsageError("--from is not before --to", "both are milliseconds since the first chosen step began")
    first = -(1 << 62) if choice.from_ms is None else zero + round(choice.from_ms * _NS_PER_MS)
    last = 1 << 62 if choice.to_ms is None else zero + round(choice.to_ms * _NS_PER_MS)
    return first, last


def _within(steps: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    return steps.select(
        "rank",
        pl.max_horizontal("start_ns", pl.lit(first, pl.Int64)).alias("start_ns"),
        pl.min_horizontal("end_ns", pl.lit(last, pl.Int64)).alias("end_ns"),
    )


def _shown(numbers: Collection[int]) -> str:
    here = sorted(numbers)
    return ", ".join(map(str, here[:8])) + (", ..." if len(here) > 8 else "") or "none"
