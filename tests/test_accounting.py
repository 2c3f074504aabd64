"""The accounting law against a brute-force raster."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.measurements.accounting import accounting, owner_shares
from traceanalyzer.schema import COLLECTIVE_SPLITS, RECEIVES, STEPS, conform

Interval = tuple[int, int, int]
intervals = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 40)), max_size=8)
WINDOWS = conform(
    pl.DataFrame({"rank": [0, 0, 1], "step": [1, 2, 1], "start_ns": [0, 15, 5], "end_ns": [15, 30, 35]}), STEPS
)


def frame(rows: list[Interval]) -> pl.DataFrame:
    schema = {"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").filter(pl.col("end_ns") >= pl.col("start_ns"))


def covers(rows: list[Interval], rank: int, at: int) -> bool:
    return any(r == rank and start <= at < end for r, start, end in rows)


@given(intervals, intervals, intervals, intervals, st.integers(0, 12))
def test_every_nanosecond_has_the_owner_that_precedence_says(
    acts: list[Interval], ops: list[Interval], receives: list[Interval], exchanged: list[Interval], wait: int
) -> None:
    exchanged = [(r, s, e) for r, s, e in exchanged if e >= s]
    splits = frame(exchanged).with_columns(
        pl.min_horizontal(pl.lit(wait, pl.Int64), pl.col("end_ns") - pl.col("start_ns")).alias("wait_ns")
    )
    table = accounting(
        WINDOWS, frame(acts), frame(ops), conform(frame(receives), RECEIVES), conform(splits, COLLECTIVE_SPLITS)
    )
    waits = [(r, s, min(s + wait, e)) for r, s, e in exchanged]
    transfers = [(r, min(s + wait, e), e) for r, s, e in exchanged]
    blocking = [
        (r, s, e) for r, s, e in receives if any(q == r and a <= s and e <= b for q, a, b in acts + ops if b >= a)
    ]
    expected: dict[tuple[int, int, str], int] = {}
    for rank, step, start, end, _ in WINDOWS.iter_rows():
        for at in range(start, end):
            if covers(transfers, rank, at):
                owner = "transfer"
            elif covers(waits, rank, at) or covers(blocking, rank, at):
                owner = "wait"
            elif covers(acts, rank, at) or covers(ops, rank, at):
                owner = "compute"
            elif covers(receives, rank, at):
                owner = "wait"
            else:
                owner = "host"
            expected[rank, step, owner] = expected.get((rank, step, owner), 0) + 1
    got = table.group_by("rank", "step", pl.col("owner").cast(pl.String)).agg(pl.col("duration_ns").sum())
    assert {(r, s, o): ns for r, s, o, ns in got.iter_rows()} == expected


def test_shares_sum_to_one() -> None:
    nothing = frame([])
    table = accounting(
        WINDOWS,
        frame([(0, 0, 10)]),
        nothing,
        conform(frame([(0, 5, 12)]), RECEIVES),
        conform(nothing, COLLECTIVE_SPLITS),
    )
    shares = owner_shares(table)
    assert shares["share"].sum() == pytest.approx(1)
    ms = dict(shares.select("owner", "ms").iter_rows())
    assert ms == pytest.approx({"compute": 10 / 3e6, "wait": 2 / 3e6, "host": 48 / 3e6})
