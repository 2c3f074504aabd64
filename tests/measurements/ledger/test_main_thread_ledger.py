"""The accounting law against a brute-force raster."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.measurements.ledger.main_thread import accounting, owner_shares, phase_shares
from traceanalyzer.measurements.ledger.phases import step_phases
from traceanalyzer.schema import COLLECTIVE_SPLITS, RECEIVES, STEPS, conform

Interval = tuple[int, int, int]
intervals = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 40)), max_size=8)
WINDOWS = conform(
    pl.DataFrame({"rank": [0, 0, 1], "step": [1, 2, 1], "start_ns": [0, 15, 5], "end_ns": [15, 30, 35]}), STEPS
)


def frame(rows: list[Interval]) -> pl.DataFrame:
    schema = {"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").filter(pl.col("end_ns") >= pl.col("start_ns"))


PHASED = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 40), st.sampled_from("FBIW")), max_size=6
)


def phase_at(at: int, rank: int, window: tuple[int, int], chunks: list, optimizer: list, reductions: list) -> str:
    """What a rank's step is doing at one nanosecond, by the rules in words."""
    start, end = window
    mine = [(p, max(s, start), min(e, end)) for r, s, e, p in chunks if r == rank and max(s, start) < min(e, end)]
    for phase in "FBIW":
        if any(p == phase and s <= at < e for p, s, e in mine):
            return phase
    if covers(optimizer, rank, at):
        return "optimizer"
    if not mine:
        return "other"
    first, last = min(s for _, s, _ in mine), max(e for _, _, e in mine)
    if at >= last and covers(reductions, rank, at):
        return "grad_sync"
    return "before_chunks" if at < first else "between_chunks" if at < last else "other"


def covers(rows: list[Interval], rank: int, at: int) -> bool:
    return any(r == rank and start <= at < end for r, start, end in rows)


@given(intervals, intervals, intervals, intervals, st.integers(0, 12), PHASED, intervals)
def test_every_nanosecond_has_the_owner_and_the_phase_that_precedence_says(
    acts: list[Interval],
    ops: list[Interval],
    receives: list[Interval],
    exchanged: list[Interval],
    wait: int,
    chunks: list,
    optimizer: list[Interval],
) -> None:
    exchanged = [(r, s, e) for r, s, e in exchanged if e >= s]
    splits = frame(exchanged).with_columns(
        pl.min_horizontal(pl.lit(wait, pl.Int64), pl.col("end_ns") - pl.col("start_ns")).alias("wait_ns")
    )
    schema = {"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64, "phase": pl.String}
    phases = step_phases(WINDOWS, pl.DataFrame(chunks, schema=schema, orient="row"), frame(optimizer), frame(exchanged))
    table = accounting(
        WINDOWS, frame(acts), frame(ops), conform(frame(receives), RECEIVES), conform(splits, COLLECTIVE_SPLITS), phases
    )
    waits = [(r, s, min(s + wait, e)) for r, s, e in exchanged]
    transfers = [(r, min(s + wait, e), e) for r, s, e in exchanged]
    blocking = [
        (r, s, e) for r, s, e in receives if any(q == r and a <= s and e <= b for q, a, b in acts + ops if b >= a)
    ]
    expected: dict[tuple[int, int, str, str], int] = {}
    for rank, step, start, end, *_ in WINDOWS.iter_rows():
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
            phase = phase_at(at, rank, (start, end), chunks, optimizer, exchanged)
            expected[rank, step, owner, phase] = expected.get((rank, step, owner, phase), 0) + 1
    named = [pl.col(name).cast(pl.String) for name in ("owner", "phase")]
    got = table.group_by("rank", "step", *named).agg(pl.col("duration_ns").sum())
    assert {(r, s, o, p): ns for r, s, o, p, ns in got.iter_rows()} == expected


def test_shares_sum_to_one() -> None:
    nothing = frame([])
    table = accounting(
        WINDOWS,
        frame([(0, 0, 10)]),
        nothing,
        conform(frame([(0, 5, 12)]), RECEIVES),
        conform(nothing, COLLECTIVE_SPLITS),
        step_phases(WINDOWS, frame([(0, 0, 10)]).with_columns(pl.lit("F").alias("phase")), nothing, nothing),
    )
    cells = {(phase, owner): ms for phase, owner, _, ms in phase_shares(table).iter_rows()}
    assert cells == pytest.approx({("F", "compute"): 10 / 3e6, ("other", "wait"): 2 / 3e6, ("other", "host"): 48 / 3e6})
    assert phase_shares(table)["share"].sum() == pytest.approx(1)
    shares = owner_shares(table)
    assert shares["share"].sum() == pytest.approx(1)
    ms = dict(shares.select("owner", "ms").iter_rows())
    assert ms == pytest.approx({"compute": 10 / 3e6, "wait": 2 / 3e6, "host": 48 / 3e6})
