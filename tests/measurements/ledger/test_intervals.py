"""Interval algebra against a brute-force raster."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.measurements.ledger.intervals import clip, sweep, union

LABELS = ["a", "b", "c"]
SCHEMA = {"rank": pl.Int32, "label": pl.String, "start_ns": pl.Int64, "end_ns": pl.Int64}

rows = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(LABELS), st.integers(0, 40), st.integers(0, 40)),
    max_size=25,
)
WINDOWS = pl.DataFrame(
    {"rank": [0, 1, 2], "start_ns": [5, 0, 10], "end_ns": [30, 40, 11]},
    schema={"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64},
)


def frame(values: list[tuple[int, str, int, int]]) -> pl.DataFrame:
    return pl.DataFrame(values, schema=SCHEMA, orient="row")


def raster(values: list[tuple[int, str, int, int]], rank: int, at: int) -> set[str]:
    """Labels that cover nanosecond `at` of `rank`, one by one."""
    return {label for r, label, start, end in values if r == rank and start <= at < end}


@given(rows)
def test_union_covers_the_same_nanoseconds_once(values: list[tuple[int, str, int, int]]) -> None:
    merged = union(frame(values), ["rank"])
    covered = [(r, t) for r, s, e in merged.iter_rows() for t in range(s, e)]
    expected = {(r, t) for r in range(3) for t in range(41) if raster(values, r, t)}
    assert len(covered) == len(set(covered))
    assert set(covered) == expected


@given(rows, st.randoms())
def test_sweep_gives_each_nanosecond_the_first_label_that_covers_it(
    values: list[tuple[int, str, int, int]], random: object
) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    segments = sweep(clip(frame(shuffled), WINDOWS, ["rank"]), WINDOWS, ["rank"], LABELS)
    got = {(r, t): label for r, label, s, e in segments.iter_rows() for t in range(s, e)}
    expected = {
        (rank, t): min(raster(values, rank, t), default=None)
        for rank, start, end in WINDOWS.iter_rows()
        for t in range(start, end)
    }
    assert got == expected
    assert sum(e - s for _, _, s, e in segments.iter_rows()) == len(expected)


def test_sweep_of_nothing_is_one_unlabelled_segment_per_window() -> None:
    segments = sweep(frame([]), WINDOWS, ["rank"], LABELS)
    assert segments.rows() == [(0, None, 5, 30), (1, None, 0, 40), (2, None, 10, 11)]


def test_clip_repeats_an_interval_for_every_window_it_reaches() -> None:
    windows = pl.DataFrame({"rank": [0, 0], "step": [1, 2], "start_ns": [0, 10], "end_ns": [10, 20]})
    intervals = pl.DataFrame({"rank": [0], "start_ns": [5], "end_ns": [15]})
    cut = clip(intervals, windows, ["rank"]).sort("step")
    assert cut.select("step", "start_ns", "end_ns").rows() == [(1, 5, 10), (2, 10, 15)]
