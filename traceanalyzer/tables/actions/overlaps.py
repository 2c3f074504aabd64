"""Actions of one rank that overlap by rounding: the earlier one is cut at the later one's start, and all cuts are counted.

Op tables and labels round times, or take starts and ends on two clocks. What two actions share is rounding up to a small
share of the shorter one; a longer overlap is none, and stays for whoever judges the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

MAX_OVERLAP_SHARE = 0.005
"""Of the shorter of two actions: what they may overlap by rounding."""
_KEYS = ["rank", "step"]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """What was cut off actions of one rank that overlapped."""

    num: int = 0
    total_ns: int = 0
    largest_ns: int = 0


class Apart(NamedTuple):
    """Actions none of which begins before the last one ends, up to what is not a rounding."""

    actions: pl.DataFrame
    """`ACTIONS`."""
    cut: Overlaps


def without_overlaps(actions: pl.DataFrame) -> Apart:
    """`ACTIONS` whose overlaps by rounding are cut off, in the order they came in, and what was cut."""
    if actions.is_empty():
        return Apart(actions, Overlaps())
    duration = pl.col("end_ns") - pl.col("start_ns")
    next_start, next_duration = (each.shift(-1).over(_KEYS) for each in (pl.col("start_ns"), duration))
    over = pl.col("end_ns") - next_start
    shorter = pl.min_horizontal(duration, next_duration)
    rounded = ((over > 0) & (over <= MAX_OVERLAP_SHARE * shorter)).fill_null(value=False)
    found = (
        actions.with_row_index("_row")
        .sort(*_KEYS, "start_ns", "end_ns", maintain_order=True)
        .with_columns(pl.when(rounded).then(over).otherwise(0).alias("_cut"))
        .sort("_row")
    )
    cut = found["_cut"]
    tally = Overlaps(int((cut > 0).sum()), int(cut.sum()), int(str(cut.max())))
    return Apart(found.with_columns(pl.col("end_ns") - pl.col("_cut")).drop("_row", "_cut"), tally)


def overlapping_steps(actions: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The `keys` (with `rank` and `step` among them or not) of steps in which some rank runs two actions at once."""
    reach = pl.col("end_ns").cum_max().shift(1).over(_KEYS)
    ordered = actions.sort(*_KEYS, "start_ns", "end_ns").with_columns((pl.col("start_ns") < reach).alias("_over"))
    return ordered.filter("_over").select(keys).unique()
