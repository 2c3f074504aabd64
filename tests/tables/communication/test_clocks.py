"""Clocks recovered from matched operations."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launched.communication_run import measure
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.gaps.pipeline.actions import no_clock
from traceanalyzer.tables.clocks.alignment import on_one_clock
from traceanalyzer.tables.clocks.solving import solve_clocks

OFFSETS = {1: 5_000_000, 2: -5_000_000, 3: 1_234_567}
DRIFTS = {1: 20.0, 2: -20.0, 3: 7.0}
LONG = {"forward_ns": 40_000_000, "backward_ns": 80_000_000, "num_steps": 5, "steps_ahead": 0}


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    "job",
    [
        Job(ranks_per_host=1),
        Job(ranks_per_host=1, **LONG),
        Job(ranks_per_host=1, global_norm=False),
        Job(ranks_per_host=1, coalesced=True, labels=None, schedule="GPipe"),
        Job(ranks_per_host=1, pp=1, dp=4, ep=4, moe_layers=2, num_microbatches=2, global_norm=False),
        Job(ranks_per_host=4),
    ],
    ids=["1F1B", "5 s", "messages alone", "coalesced", "experts", "one host name, four clocks"],
)
def test_planted_offsets_and_drifts_are_recovered(job: Job, tmp_path: Path) -> None:
    planted = plant(job, Faults(clock_offset_ns=OFFSETS, clock_drift_ppm=DRIFTS), tmp_path)
    measured = measure(planted.traces)
    assert measured.tables.clock.basis == "matched"
    last = int(measured.tables.ranks["end_ns"].max())
    for row in measured.tables.clocks.iter_rows(named=True):
        for at in (row["at_ns"], last):
            true = planted.clock(row["rank"], at) - planted.clock(0, at)
            found = row["offset_ns"] + row["drift_ppm"] * 1e-6 * (at - row["at_ns"])
            assert abs(found - true) <= max(20_000, row["residual_ns"])
    if job.global_norm:  # a collective of the whole job pins the clocks
        assert measured.tables.clock.residual_ns < 30_000


@pytest.mark.parametrize("drift", [150.0, -400.0])
def test_drift_beyond_100_ppm_is_found_to_within_the_stated_residual(drift: float, tmp_path: Path) -> None:
    job, faults = Job(ranks_per_host=1, **LONG), Faults(clock_offset_ns={1: 2_000_000}, clock_drift_ppm={1: drift})
    planted = plant(job, faults, tmp_path)
    measured = measure(planted.traces)
    last = int(measured.tables.ranks["end_ns"].max())
    row = measured.tables.clocks.filter(rank=1).row(0, named=True)
    assert row["drift_ppm"] == pytest.approx(drift, abs=40)
    for at in (row["at_ns"], last):
        true = planted.clock(1, at) - planted.clock(0, at)
        found = row["offset_ns"] + row["drift_ppm"] * 1e-6 * (at - row["at_ns"])
        assert abs(found - true) <= row["residual_ns"]


def test_a_step_of_a_clock_widens_the_residual_to_hold_it() -> None:
    """Rank 1's clock jumps by 40 ms half way: no line holds, and the residual is half the jump and more."""
    rows = [
        (0, 1, at, jump - 20_000, jump + 20_000)
        for at in range(0, 10**9, 10**7)
        for jump in (40_000_000 * (at > 5 * 10**8),)
    ]
    bounds = pl.DataFrame(rows, schema=["rank", "other", "at_ns", "low_ns", "high_ns"], orient="row")
    line = solve_clocks(bounds, [0, 1], 0, 10**9)[1]
    for at, jump in ((0.0, 0.0), (1.0, 40e6)):
        found = line.first_ns + (line.last_ns - line.first_ns) * at
        assert abs(found - jump) <= line.residual_ns + 1
    assert line.residual_ns > 19_000_000


def test_ranks_of_one_host_are_left_alone(tmp_path: Path) -> None:
    measured = measure(plant(Job(), Faults(), tmp_path).traces)
    assert measured.tables.clock.basis == "same_host"
    assert not measured.tables.clocks["applied"].any()


def test_ranks_without_a_common_operation_have_unknown_clocks(tmp_path: Path) -> None:
    job = Job(pp=3, ranks_per_host=1, num_microbatches=3, global_norm=False)
    measured = measure(plant(job, Faults(missing_ranks=frozenset({1})), tmp_path).traces)
    assert measured.tables.clock.basis == "unknown"
    assert measured.tables.clocks["residual_ns"].null_count() == 2
    assert measured.p2p["wait_ns"].null_count() == measured.p2p.height


@pytest.mark.wide
def test_pipelines_side_by_side_that_nothing_joins_have_a_clock_each(tmp_path: Path) -> None:
    job = Job(pp=3, dp=2, ranks_per_host=1, num_microbatches=4, global_norm=False, overlapped="never")
    offsets = {1: 7_000_000_000, 2: 4_000_000, 3: 7_001_000_000, 5: 6_998_000_000}
    planted = plant(job, Faults(clock_offset_ns=offsets), tmp_path)
    measured = measure(planted.traces)
    assert (measured.tables.clock.basis, measured.tables.clock.num_clocks) == ("matched", 2)
    assert dict(measured.tables.clocks.select("rank", "reference").iter_rows()) == {0: 0, 1: 1, 2: 0, 3: 1, 4: 0, 5: 1}
    bubble = analyze(read(planted.traces)).review.bubble
    (tmp_path / "one").mkdir()
    alone = analyze(read(plant(job, Faults(), tmp_path / "one").traces)).review.bubble
    assert bubble is not None
    assert alone is not None
    assert bubble.measured_share == pytest.approx(alone.measured_share, abs=0.002)
    assert bubble.num_pipelines == 2


@pytest.mark.parametrize(
    ("hosts", "named"),
    [
        (["a", "b", "c", "d"], True),
        (["a", "b", "a", "b"], False),  # each pipeline lies on one host
        (["a", "b", "c", "b"], False),  # so does one of them
        (["a", "a", "a", "a"], False),
        (["a", None, None, "b"], False),  # of no pipeline are two hosts known
        ([None] * 4, False),
    ],
)
def test_hosts_are_only_named_where_they_are_known(hosts: list[str | None], *, named: bool) -> None:
    ranks = pl.DataFrame({"rank": range(4), "host": hosts}, schema={"rank": pl.Int32, "host": pl.String})
    members = pl.DataFrame({"rank": range(4), "pipeline": [0, 1] * 2}, schema={"rank": pl.Int32, "pipeline": pl.Int32})
    assert ("different hosts" in no_clock(ranks, members)) is named


@settings(max_examples=60, deadline=None)
@given(
    offset=st.integers(-10_000_000, 10_000_000),
    drift=st.floats(-50e-6, 50e-6),
    arrivals=st.lists(
        st.tuples(
            st.integers(0, 10**9), st.integers(0, 3_000_000), st.integers(0, 3_000_000), st.integers(1_000, 200_000)
        ),
        min_size=2,
        max_size=30,
    ),
)
def test_the_true_line_lies_within_the_residual(
    offset: int, drift: float, arrivals: list[tuple[int, int, int, int]]
) -> None:
    """Two ranks meet at random; each bound is true, so the truth must lie within what is stated."""
    rows = []
    for at, early, late, transfer in arrivals:
        starts = (at + early, at + late)
        end = max(starts) + transfer

        def shown(time: int) -> int:
            return time + offset + round(drift * time)

        rows.append((0, 1, end, shown(starts[1]) - end, shown(end) - starts[0]))
    bounds = pl.DataFrame(rows, schema=["rank", "other", "at_ns", "low_ns", "high_ns"], orient="row")
    line = solve_clocks(bounds, [0, 1], 0, 10**9)[1]
    assert abs(line.first_ns - offset) <= line.residual_ns + 600  # half a step of the slopes that are tried
    assert abs(line.last_ns - (offset + drift * 10**9)) <= line.residual_ns + 600


def test_residuals_add_up_along_the_path() -> None:
    bounds = pl.DataFrame(
        [(0, 1, 0, -10, 30), (0, 1, 1000, -10, 30), (1, 2, 0, 90, 110), (1, 2, 1000, 90, 110)],
        schema=["rank", "other", "at_ns", "low_ns", "high_ns"],
        orient="row",
    )
    lines = solve_clocks(bounds, [0, 1, 2, 3], 0, 1000)
    assert lines[1].first_ns == pytest.approx(10, abs=1)
    assert lines[2].first_ns == pytest.approx(110, abs=1)
    assert lines[2].residual_ns == pytest.approx(lines[1].residual_ns + 10, abs=1)
    assert [lines[rank].reference for rank in range(4)] == [0, 0, 0, 3]


def test_bounds_that_contradict_each_other_widen_the_residual() -> None:
    bounds = pl.DataFrame(
        [(0, 1, 0, 100, 200), (0, 1, 0, -200, -100)],
        schema=["rank", "other", "at_ns", "low_ns", "high_ns"],
        orient="row",
    )
    assert solve_clocks(bounds, [0, 1], 0, 1)[1].residual_ns >= 100


def test_one_sided_bounds_give_no_clock() -> None:
    bounds = pl.DataFrame(
        {"rank": [0], "other": [1], "at_ns": [0], "low_ns": [None], "high_ns": [5]},
        schema_overrides={"low_ns": pl.Int64},
    )
    assert {rank: line.reference for rank, line in solve_clocks(bounds, [0, 1], 0, 1).items()} == {0: 0, 1: 1}


def test_times_move_and_durations_do_not() -> None:
    table = pl.DataFrame({"rank": [1], "applied": [True], "offset_ns": [1000], "at_ns": [0], "drift_ppm": [10.0]})
    frame = pl.DataFrame(
        {"rank": [0, 1], "start_ns": [1_000_000, 1_000_000], "end_ns": [None, 2_000_000], "duration_ns": [7, 7]}
    )
    moved = on_one_clock(frame, table)
    assert moved.rows() == [(0, 1_000_000, None, 7), (1, 1_000_000 - 1000 - 10, 2_000_000 - 1000 - 20, 7)]


def test_equal_ways_round_are_a_tie_whatever_their_order() -> None:
    """Rank 3 is as far over rank 1 as over rank 2, on different lines; the rows' order decides nothing."""
    rows = [(0, 1, -10, 10), (0, 2, -10, 10), (1, 3, 90, 110), (2, 3, 80, 100)]
    timed = [(a, b, at, low, high) for a, b, low, high in rows for at in (0, 1000)]
    found = [
        solve_clocks(
            pl.DataFrame(order, schema=["rank", "other", "at_ns", "low_ns", "high_ns"], orient="row"),
            [0, 1, 2, 3],
            0,
            1000,
        )
        for order in (timed, timed[::-1])
    ]
    assert found[0] == found[1]
    assert found[0][3].first_ns == pytest.approx(90, abs=1)


def test_sets_of_ranks_that_nothing_joins_have_a_clock_each() -> None:
    rows = [(0, 2, at, 990, 1010) for at in (0, 1000)] + [(1, 3, at, -510, -490) for at in (0, 1000)]
    bounds = pl.DataFrame(rows, schema=["rank", "other", "at_ns", "low_ns", "high_ns"], orient="row")
    lines = solve_clocks(bounds, [0, 1, 2, 3, 4], 0, 1000)
    assert {rank: line.reference for rank, line in lines.items()} == {0: 0, 1: 1, 2: 0, 3: 1, 4: 4}
    assert lines[2].first_ns == pytest.approx(1000, abs=1)
    assert lines[3].first_ns == pytest.approx(-500, abs=1)
