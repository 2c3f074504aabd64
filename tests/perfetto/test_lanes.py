"""Slices that overlap are put on lanes of their own; none is lost, and on a lane they nest."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.perfetto.timeline import Track, in_lanes, lanes_of, marks, slices

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=30)


def made(spans: list[tuple[int, int]]) -> pl.DataFrame:
    rows = [{"start_ns": start, "end_ns": start + length} for start, length in spans]
    return slices(pl.DataFrame(rows, schema={"start_ns": pl.Int64, "end_ns": pl.Int64}), pl.lit("x"), pl.lit("y"))


@given(SPANS)
def test_without_nesting_slices_of_a_lane_follow_each_other(spans: list[tuple[int, int]]) -> None:
    laid = made(spans)
    assert sorted(laid.select("start_ns", "end_ns").rows()) == sorted((a, a + n) for a, n in spans)
    for lane in laid.partition_by("lane"):
        ordered = lane.sort("start_ns", "end_ns")
        assert (ordered["start_ns"] >= ordered["end_ns"].shift(1).fill_null(-1)).all()


@given(SPANS)
def test_marks_of_every_lane_are_a_stack_in_order_of_time(spans: list[tuple[int, int]]) -> None:
    for nested in (False, True):
        laid = in_lanes(made(spans), nested=nested)
        seen = 0
        for _, rows in lanes_of(Track("t", laid)):
            starts, ends = rows["start_ns"].to_list(), rows["end_ns"].to_list()
            stack: list[int] = []
            last = -1
            for mark in marks(starts, ends):
                assert mark.at_ns >= last
                last = mark.at_ns
                if mark.begins:
                    stack.append(mark.row)
                    assert mark.at_ns == starts[mark.row]
                else:
                    assert stack.pop() == mark.row
                    assert mark.at_ns == ends[mark.row]
                    seen += 1
            assert not stack
        assert seen == len(spans)


def test_nested_slices_share_a_lane_and_crossing_ones_do_not() -> None:
    laid = in_lanes(made([(0, 10), (2, 3), (5, 5), (8, 6)]), nested=True)
    assert dict(zip(laid["start_ns"], laid["lane"], strict=True)) == {0: 0, 2: 0, 5: 0, 8: 1}
