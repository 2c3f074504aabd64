"""The bubble: a timeline worked out by hand, closure on anything, and no dependence on the order of the input."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.measurements.pipeline.bubble import IDLE_PARTS, bubble, gaps_before, shares_by_step
from traceanalyzer.measurements.pipeline.replica_waits import NO_EXCHANGES
from traceanalyzer.schema import ACTIONS, STEPS, conform

COLUMNS = ["rank", "stage", "phase", "microbatch", "start_ns", "end_ns"]


def actions(rows: list[tuple[int, int, str, int, int, int]], step: int = 1) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=COLUMNS, orient="row").with_columns(pl.lit(step).alias("step"))
    return conform(frame, ACTIONS).with_columns(pl.lit(0, pl.Int32).alias("pipeline"))


# Two stages, two microbatches, 1F1B, forward 10, backward 20:
#   rank 0  F0 F1 -- -- B0 .. B1        rank 1  -- F0 B0 F1 B1
HAND = [
    (0, 0, "F", 0, 0, 10),
    (0, 0, "F", 1, 10, 20),
    (0, 0, "B", 0, 40, 60),
    (0, 0, "B", 1, 73, 93),  # its gradient is there at 70: 3 late
    (1, 1, "F", 0, 11, 21),  # its input is there at 10: 1 late
    (1, 1, "B", 0, 21, 40),
    (1, 1, "F", 1, 40, 50),
    (1, 1, "B", 1, 50, 70),
]


def test_a_timeline_worked_out_by_hand() -> None:
    table = bubble(actions(HAND)).select(
        "rank", "phase_ns", "chunk_ns", "warmup_ns", "steady_ns", "drain_ns", "overhead_ns", "span_ns"
    )
    assert table.rows() == [
        (0, 93, 60, 20, 0, 10, 3, 93),
        (1, 93, 59, 10, 0, 23, 1, 59),
    ]


def test_shares_of_it() -> None:
    windows = conform(pl.DataFrame({"rank": [0, 1], "step": [1, 1], "start_ns": [0, 0], "end_ns": [100, 110]}), STEPS)
    (row,) = shares_by_step(bubble(actions(HAND)), windows).iter_rows(named=True)
    assert row["measured_share"] == pytest.approx(63 / 186)
    assert row["measured_ratio"] == pytest.approx(63 / 119)
    assert row["share_of_step"] == pytest.approx(63 / 210)
    assert row["overhead_share"] == pytest.approx(4 / 186)
    assert row["span_share"] == pytest.approx(30 / 152)  # rank 0: 30 of 93, rank 1: 0 of 59


def test_a_weight_gradient_waits_for_its_own_input_gradient_only() -> None:
    rows = [
        (0, 0, "F", 0, 0, 10),
        (1, 1, "F", 0, 10, 20),
        (1, 1, "I", 0, 20, 30),
        (1, 1, "W", 0, 35, 45),  # could have started at 30
        (0, 0, "I", 0, 30, 40),
        (0, 0, "W", 0, 40, 50),
    ]
    table = bubble(actions(rows))
    assert table.select("rank", "overhead_ns", "drain_ns", "warmup_ns").rows() == [(0, 0, 0, 20), (1, 5, 5, 10)]


def test_an_overlapped_pair_releases_both_results_at_its_end() -> None:
    rows = [(0, 0, "F", 0, 0, 10), (0, 0, "F", 1, 10, 20), (1, 1, "F", 0, 20, 30), (1, 1, "B", 0, 30, 40)]
    together = actions(rows).with_columns(pl.when(pl.col("rank") == 0).then(20).cast(pl.Int64).alias("release_ns"))
    late, early = bubble(together), bubble(actions(rows))
    assert late.filter(pl.col("rank") == 1)["overhead_ns"].item() == 0
    assert early.filter(pl.col("rank") == 1)["overhead_ns"].item() == 10


@st.composite
def timelines(draw: st.DrawFn) -> list[tuple[int, int, str, int, int, int]]:
    """Any timeline whatever, causal or not: ranks run forwards and backwards one after the other with gaps."""
    rows = []
    num_stages, num_microbatches = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    for stage in range(num_stages):
        at = draw(st.integers(0, 20))
        todo = draw(st.permutations([(phase, m) for phase in "FB" for m in range(num_microbatches)]))
        for phase, microbatch in todo:
            at += draw(st.integers(0, 9))
            end = at + draw(st.integers(0, 9))
            rows.append((stage, stage, phase, microbatch, at, end))
            at = end
    return rows


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Messages on their way, and exchanges between replicas with the moment their transfer begins; any whatever."""
    span = st.tuples(st.integers(0, 2), st.integers(0, 90), st.integers(0, 30))
    messages = [(rank, at, at + length) for rank, at, length in draw(st.lists(span, max_size=5))]
    replicas = [
        (rank, 1, at, at + draw(st.integers(0, length)), at + length)
        for rank, at, length in draw(st.lists(span, max_size=5))
    ]
    columns = {"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}
    return (
        pl.DataFrame(messages, schema=columns, orient="row"),
        pl.DataFrame(replicas, schema=NO_EXCHANGES.schema, orient="row"),
    )


def raster(start: int, end: int, intervals: list[tuple[int, int]]) -> set[int]:
    return {at for low, high in intervals for at in range(max(low, start), min(high, end))}


@given(timelines(), exchanges())
def test_parts_of_late_starts_are_what_a_raster_counts(
    rows: list[tuple[int, int, str, int, int, int]], given_: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    messages, replicas = given_
    gaps = gaps_before(actions(rows), messages, replicas)
    for row in gaps.iter_rows(named=True):
        own = [frame.filter(pl.col("rank") == row["rank"]) for frame in given_]
        late = (row["ready_ns"], row["start_ns"])
        sent = raster(*late, list(own[0].select("start_ns", "end_ns").iter_rows()))
        moved = raster(*late, list(own[1].select("transfer_start_ns", "end_ns").iter_rows())) - sent
        waited = raster(*late, list(own[1].select("start_ns", "end_ns").iter_rows())) - sent - moved
        assert (row["transfer_ns"], row["dp_transfer_ns"], row["dp_wait_ns"]) == (len(sent), len(moved), len(waited))
        assert row["overhead_ns"] == late[1] - late[0] - len(sent | moved | waited)
    table = bubble(actions(rows), messages, replicas)
    assert (table.select(pl.sum_horizontal("chunk_ns", *IDLE_PARTS)).to_series() == table["phase_ns"]).all()


@given(timelines(), st.randoms(use_true_random=False))
def test_parts_sum_to_the_phase_and_input_order_changes_nothing(
    rows: list[tuple[int, int, str, int, int, int]], random: object
) -> None:
    table = bubble(actions(rows))
    parts = ["chunk_ns", *IDLE_PARTS]
    assert (table.select(pl.sum_horizontal(parts)).to_series() == table["phase_ns"]).all()
    assert all((table[part] >= 0).all() for part in parts)
    busy = {r: sum(e - s for rank, *_, s, e in rows if rank == r) for r in table["rank"]}
    assert dict(table.select("rank", "chunk_ns").iter_rows()) == busy
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert bubble(actions(shuffled)).equals(table)


def test_pooled_shares_are_sums_over_whole_pipelines_of_the_fullest_steps() -> None:
    slow = [(rank + 2, stage, phase, mb, 2 * start, 2 * end) for rank, stage, phase, mb, start, end in HAND]
    first = pl.concat([actions(HAND), actions(slow).with_columns(pl.lit(1, pl.Int32).alias("pipeline"))])
    both = pl.concat([first, actions(HAND, step=2)])  # the second pipeline is not whole in step 2
    table = bubble(both)
    (row,) = shares_by_step(table, pl.DataFrame(schema=STEPS), pooled=True).iter_rows(named=True)
    assert row["step"] == 1
    assert row["measured_share"] == pytest.approx((63 + 126) / (186 + 372))
    assert row["phase_ns"] == pytest.approx((93 + 186) / 2)
