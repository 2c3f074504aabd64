"""Laws of blame: it closes exactly, does not depend on the order of its input, and its ideal is the simulator's."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs.planted_ops import MS, Planted, gpipe, one_f_one_b, run_steps
from polars.testing import assert_frame_equal

from traceanalyzer.errors import InputError
from traceanalyzer.gaps.causes.attribution import attribute
from traceanalyzer.gaps.causes.blame import blame, with_duration_parts
from traceanalyzer.gaps.causes.graph import dependency_graph, replay, with_arrivals
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.schema import ACTIONS, RECEIVES, conform, empty
from traceanalyzer.theory.schedules.orders import order, placement
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode
from traceanalyzer.theory.simulator.simulation import simulate

NO_RECEIVES = empty(RECEIVES)


def rows_of(text: str) -> pl.DataFrame:
    """Actions written `rank:action@start-end`, in nanoseconds."""
    rows: list[dict[str, object]] = []
    for word in text.split():
        rank, rest = word.split(":")
        action, window = rest.split("@")
        start, end = window.split("-")
        rows.append(
            {"rank": int(rank), "step": 0, "stage": int(action[0]), "phase": action[1], "microbatch": int(action[2:]),
             "start_ns": int(start), "end_ns": int(end)}
        )  # fmt: skip
    return conform(pl.DataFrame(rows), ACTIONS).with_columns(pl.lit(0, pl.Int32).alias("pipeline"))


def test_lateness_travels_with_the_binding_input() -> None:
    # Base: F 10, B 20 (medians). Rank 0's second forward takes 16; rank 1 starts its last forward 3 later than it can.
    actions = rows_of(
        "0:0F0@0-10 0:0F1@10-26 0:0F2@26-36 0:0B0@69-89 0:0B1@89-109 0:0B2@109-129 "
        "1:1F0@10-20 1:1F1@26-36 1:1F2@39-49 1:1B0@49-69 1:1B1@69-89 1:1B2@89-109"
    )
    found = blame(dependency_graph(with_duration_parts(actions)))
    assert (found.measured_ns, found.ideal_ns) == (129, 120)
    assert found.attribution.select("cause", "culprit", "duration_ns").rows() == [("host", 1, 3), ("jitter", 0, 6)]
    waiting = found.blame.select("waiter", "cause", "culprit", "duration_ns").rows()
    assert waiting == [(0, "host", 1, 3), (1, "host", 1, 3), (1, "jitter", 0, 6)]


def test_an_unobserved_stage_starts_the_blame_outside() -> None:
    actions = rows_of("1:1F0@30-40 1:1B0@60-80")
    graph = dependency_graph(with_duration_parts(actions), num_stages=3)
    found = blame(graph)
    outside = found.attribution.filter(pl.col("cause") == "outside_sample")
    assert outside["culprit"].to_list() == [None]
    assert found.attribution["duration_ns"].sum() == found.measured_ns - found.ideal_ns


def test_late_starts_without_a_late_launch_stay_unexplained() -> None:
    actions = rows_of("0:0F0@0-10 0:0B0@25-45").with_columns(pl.Series("launched_ns", [0, 14]))
    found = blame(dependency_graph(with_duration_parts(actions)))
    split = dict(found.attribution.select("cause", "duration_ns").iter_rows())
    assert split == {"host": 4, "unexplained": 11}


def test_an_action_that_runs_twice_is_refused() -> None:
    with pytest.raises(InputError, match="0F0 runs twice"):
        dependency_graph(rows_of("0:0F0@0-10 0:0F0@10-20"))


def test_actions_that_wait_for_each_other_are_refused() -> None:
    # Rank 0 runs its backward before the forward that feeds rank 1.
    with pytest.raises(InputError, match="circle"):
        dependency_graph(rows_of("0:0B0@0-10 0:0F0@10-20 1:1F0@20-30 1:1B0@30-40"))


@st.composite
def runs(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A planted run with several faults at random, jitter and clocks that disagree by up to 2 ms."""
    stages, replicas, microbatches = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    planted = Planted(seed=draw(st.integers(0, 1000)))
    planted.jitter = draw(st.sampled_from([0.0, 0.1, 0.8]))
    for stage in draw(st.lists(st.integers(0, stages - 1), max_size=2)):
        planted.slow_stage(stage, draw(st.sampled_from([0.5, 1.3, 3.0])))
    for rank in draw(st.lists(st.integers(0, stages * replicas - 1), max_size=2)):
        planted.host_stall(rank, draw(st.integers(0, 2 * microbatches - 1)), draw(st.integers(1, 30 * MS)))
    if stages > 1:
        planted.delayed_link(0, replicas, draw(st.integers(0, 9 * MS)))
    actions, receives, _ = run_steps(
        stages, replicas, microbatches, planted, num_steps=draw(st.integers(1, 2)), order=draw(st.sampled_from([gpipe, one_f_one_b]))
    )  # fmt: skip
    offsets = {rank: draw(st.integers(-2 * MS, 2 * MS)) for rank in range(stages * replicas)}
    shift = pl.col("rank").replace_strict(offsets, return_dtype=pl.Int64)
    frame = conform(pl.DataFrame(actions, infer_schema_length=None), ACTIONS).with_columns(
        pl.col("start_ns") + shift,
        pl.col("end_ns") + shift,
        (pl.col("rank") % replicas).cast(pl.Int32).alias("pipeline"),
    )
    received = conform(
        pl.DataFrame(receives, schema={"rank": pl.Int32, "step": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64}),
        RECEIVES,
    )
    return frame, received.with_columns(pl.col("start_ns") + shift, pl.col("end_ns") + shift)


@pytest.mark.wide
@given(run=runs(), seed=st.integers(0, 1 << 30), with_receives=st.booleans())
@settings(max_examples=60, deadline=None)
def test_blame_closes_exactly_whatever_the_order_of_the_input(
    run: tuple[pl.DataFrame, pl.DataFrame], seed: int, *, with_receives: bool
) -> None:
    actions, receives = run[0], run[1] if with_receives else NO_RECEIVES
    found = attribute(actions, receives)
    for _, rows in actions.group_by("pipeline", "step"):
        keys = {"pipeline": rows["pipeline"][0], "step": rows["step"][0]}
        measured = rows["end_ns"].max() - rows["start_ns"].min()  # type: ignore[operator]
        parts = with_duration_parts(actions).filter(pl.all_horizontal(pl.col(k) == v for k, v in keys.items()))
        graph = dependency_graph(parts)
        ideal = replay(graph, parts.sort("rank", "start_ns")["base_ns"].to_numpy()[:, None]).max()
        mine = found.attribution.filter(pl.all_horizontal(pl.col(k) == v for k, v in keys.items()))
        assert mine["duration_ns"].sum() == measured - ideal
    assert sum(found.causes_ms.values()) == pytest.approx(found.measured_ms - found.ideal_ms, abs=1e-6)
    shuffled = attribute(
        actions.sample(fraction=1, shuffle=True, seed=seed), receives.sample(fraction=1, shuffle=True, seed=seed)
    )
    assert_frame_equal(shuffled.attribution, found.attribution, check_row_order=False)
    assert_frame_equal(shuffled.blame, found.blame, check_row_order=False)
    assert shuffled.worth == found.worth


@given(runs())
@settings(max_examples=30, deadline=None)
def test_durations_split_into_their_parts(run: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    parts = with_duration_parts(run[0])
    columns = ("base_ns", "stage_ns", "straggler_ns", "chunk_comm_ns", "jitter_ns")
    split = parts.select(pl.sum_horizontal(columns), duration=pl.col("end_ns") - pl.col("start_ns"))
    assert split["base_ns"].to_list() == split["duration"].to_list()


def test_communication_inside_chunks_is_set_apart() -> None:
    actions = rows_of("0:0F0@0-10 0:0F1@10-20 0:0F2@20-37").with_columns(pl.Series("comm_ns", [2, 2, 9]))
    parts = with_duration_parts(actions)
    assert parts["chunk_comm_ns"].to_list() == [0, 0, 7]
    assert parts["base_ns"].to_list() == [10, 10, 10]


CASES = [
    (ScheduleName("1F1B"), 4, 8, 1),
    (ScheduleName("GPipe"), 3, 5, 1),
    (ScheduleName("Interleaved1F1B"), 4, 8, 2),
    (ScheduleName("ZBH1"), 4, 8, 1),
    (ScheduleName("ZBVZeroBubble"), 4, 8, 2),
    (ScheduleName("DualPipeV"), 3, 7, 2),
]


@pytest.mark.parametrize(("name", "num_ranks", "num_microbatches", "num_chunks"), CASES)
def test_replay_is_the_simulation_of_the_same_order(
    name: ScheduleName, num_ranks: int, num_microbatches: int, num_chunks: int
) -> None:
    stage_ranks = placement(name, num_ranks, num_chunks)
    chance = random.Random(3)  # noqa: S311 - any numbers will do
    times = OpTimes(
        forward_ns=[chance.randint(5, 15) for _ in stage_ranks],
        input_gradient_ns=[chance.randint(5, 15) for _ in stage_ranks],
        weight_gradient_ns=[chance.randint(5, 15) for _ in stage_ranks],
        pairs=PairMode.SERIAL_LATE,
    )
    simulated = simulate(order(name, num_ranks, num_microbatches, num_chunks), stage_ranks, times)
    actions = simulated.actions.with_columns(pl.lit(0, pl.Int32).alias("pipeline"))
    graph = dependency_graph(with_arrivals(actions, NO_RECEIVES))
    durations = (graph.actions["end_ns"] - graph.actions["start_ns"]).to_numpy()
    assert replay(graph, durations[:, None])[:, 0].tolist() == graph.actions["end_ns"].to_list()
