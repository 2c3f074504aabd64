from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import EPOCH_NS, MS, expert_tables, pipeline_actions

from reports.charts import exchanges
from reports.charts.time_axis import median_step
from reports.charts.timeline import Timeline, chart, lay_out
from traceanalyzer.schema import ACTIONS, COLLECTIVE_SPLITS, conform, empty


def actions(*rows: tuple[int, int, int, str, int, float, float]) -> pl.DataFrame:
    names = ["rank", "step", "stage", "phase", "microbatch", "start", "end"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    times = [(pl.col(n) * MS).round().cast(pl.Int64).alias(f"{n}_ns") for n in ("start", "end")]
    return conform(frame.with_columns(times), ACTIONS)


def laid_out(measured: pl.DataFrame, ideal: pl.DataFrame, limit: int = 20_000) -> Timeline:
    timeline = lay_out(measured, ideal, limit)
    assert timeline is not None
    return timeline


MEASURED = actions(
    (0, 7, 0, "F", 0, 100.0, 110.0),
    (0, 7, 0, "B", 0, 135.0, 155.0),
    (1, 7, 1, "F", 0, 112.0, 122.0),
    (1, 7, 1, "B", 0, 122.0, 132.0),
)
IDEAL = actions((0, 0, 0, "F", 0, 0.0, 10.0), (1, 0, 1, "F", 0, 10.0, 20.0), (1, 0, 1, "B", 0, 20.0, 40.0))


def test_bars_lie_in_milliseconds_since_the_phase_began_with_the_ideal_below() -> None:
    bars = laid_out(MEASURED, IDEAL).bars.sort("row", "start_ms")
    assert bars.select("series", "row", "phase", "start_ms", "end_ms").rows() == [
        ("measured", 0.0, "F", 0.0, 10.0),
        ("measured", 0.0, "B", 35.0, 55.0),
        ("measured", 1.0, "F", 12.0, 22.0),
        ("measured", 1.0, "B", 22.0, 32.0),
        ("ideal", 3.0, "F", 0.0, 10.0),
        ("ideal", 4.0, "F", 10.0, 20.0),
        ("ideal", 4.0, "B", 20.0, 40.0),
    ]


def test_idle_time_is_what_lies_between_a_ranks_actions() -> None:
    bars = laid_out(MEASURED, empty(ACTIONS)).bars.sort("row", "start_ms")
    assert bars["idle_before_ms"].to_list() == [None, 25.0, None, 0.0]


def test_windows_show_where_each_phase_ends_measured_and_ideal() -> None:
    assert laid_out(MEASURED, IDEAL).windows.rows() == [(7, 0.0, 55.0, 40.0)]
    assert laid_out(MEASURED, empty(ACTIONS)).windows.rows() == [(7, 0.0, 55.0, None)]


def test_the_ideal_stands_below_every_step() -> None:
    later = MEASURED.with_columns(pl.col("step") + 1, pl.col("start_ns") + 200 * MS, pl.col("end_ns") + 200 * MS)
    bars = laid_out(pl.concat([MEASURED, later]), IDEAL).bars
    firsts = bars.filter((pl.col("series") == "ideal") & (pl.col("rank") == 0)).sort("start_ms")["start_ms"].to_list()
    assert firsts == [0.0, 200.0]


@pytest.mark.parametrize(("lengths", "shown"), [([10, 30, 20], 2), ([10, 30], 0), ([5], 0), ([9, 1, 5, 7], 2)])
def test_the_median_step_is_shown(lengths: list[int], shown: int) -> None:
    frame = pl.DataFrame({"step": range(len(lengths)), "start_ns": [0] * len(lengths), "end_ns": lengths})
    assert median_step(frame) == shown


def test_a_step_set_apart_is_not_the_one_that_a_timeline_opens_on() -> None:
    measured = pipeline_actions(steps=(3, 4), slow_step=4)
    assert laid_out(measured, IDEAL).shown_step == 3
    apart = lay_out(measured, IDEAL, apart=[3])
    assert apart is not None
    assert apart.shown_step == 4
    alone = lay_out(measured, IDEAL, apart=[3, 4])
    assert alone is not None
    assert alone.shown_step == 3


def test_a_ranks_stages_are_numbered_as_chunks() -> None:
    chunked = actions(
        (0, 1, 0, "F", 0, 0, 1), (0, 1, 2, "F", 0, 1, 2), (1, 1, 1, "F", 0, 0, 1), (1, 1, 3, "F", 0, 1, 2)
    )
    bars = laid_out(chunked, empty(ACTIONS)).bars.sort("rank", "stage")
    assert bars.select("rank", "stage", "chunk").rows() == [(0, 0, 0), (0, 2, 1), (1, 1, 0), (1, 3, 1)]


def test_no_timed_action_means_no_timeline() -> None:
    assert lay_out(empty(ACTIONS), IDEAL) is None
    assert lay_out(MEASURED.with_columns(end_ns=pl.lit(None, pl.Int64)), IDEAL) is None


def test_steps_that_do_not_fit_are_left_out_and_counted() -> None:
    timeline = laid_out(pipeline_actions(), pipeline_actions(steps=(0,), slow_step=None), limit=150)
    assert timeline.windows["step"].to_list() == [5]
    assert timeline.left_out.strip() == "2 of 3 steps are not drawn: the limit is 150 bars."


def test_ranks_that_do_not_fit_are_left_out_and_counted() -> None:
    timeline = laid_out(pipeline_actions(), pipeline_actions(steps=(0,), slow_step=None), limit=80)
    assert timeline.bars["rank"].unique().sort().to_list() == [0, 1]
    assert "2 of 4 ranks are not drawn: the limit is 80 bars." in timeline.left_out


@settings(deadline=None, max_examples=40)
@given(
    stages=st.integers(1, 5),
    microbatches=st.integers(1, 6),
    num_steps=st.integers(1, 4),
    limit=st.integers(4, 200),
)
def test_never_more_bars_than_the_limit_and_nothing_is_dropped_in_silence(
    stages: int, microbatches: int, num_steps: int, limit: int
) -> None:
    measured = pipeline_actions(stages, microbatches, steps=tuple(range(num_steps)), slow_step=None)
    ideal = pipeline_actions(stages, microbatches, steps=(0,), slow_step=None, origin_ns=0)
    timeline = laid_out(measured, ideal, limit)
    assert timeline.bars.height <= limit
    whole = measured.height + ideal.height * num_steps
    assert (timeline.bars.height == whole) == (timeline.left_out == "")


def test_a_perfect_run_lies_exactly_above_its_ideal() -> None:
    measured = pipeline_actions(steps=(3,), slow_step=None)
    ideal = pipeline_actions(steps=(0,), slow_step=None, origin_ns=0)
    bars = laid_out(measured, ideal).bars
    keys = ["rank", "phase", "microbatch", "start_ms", "end_ms"]
    above, below = (bars.filter(pl.col("series") == name).select(keys).sort(keys) for name in ("measured", "ideal"))
    assert above.equals(below)


COLLECTIVES = conform(
    pl.DataFrame(
        {
            "rank": [0, 1],
            "step": [2, 2],
            "group": ["0,1", "0,1"],
            "kind": ["all_to_all", "all_to_all"],
            "direction": ["dispatch", "dispatch"],
            "layer": [4, 4],
            "start_ns": [EPOCH_NS, EPOCH_NS + 30 * MS],
            "end_ns": [EPOCH_NS + 40 * MS, EPOCH_NS + 40 * MS],
            "wait_ns": [30 * MS, 0],
            "transfer_ns": [10 * MS, 10 * MS],
        }
    ),
    COLLECTIVE_SPLITS,
)


def test_an_all_to_all_is_drawn_as_wait_then_transfer() -> None:
    laid = exchanges.lay_out(COLLECTIVES, None)
    assert laid is not None
    assert laid.bars.sort("rank", "start_ms").select("rank", "part", "start_ms", "end_ms").rows() == [
        (0, "wait", 0.0, 30.0),
        (0, "transfer", 30.0, 40.0),
        (1, "transfer", 30.0, 40.0),
    ]


def test_all_to_alls_stand_on_the_pipelines_zero_where_there_is_one() -> None:
    laid = exchanges.lay_out(COLLECTIVES, EPOCH_NS - 5 * MS)
    assert laid is not None
    assert laid.windows == {2: (5.0, 45.0)}


def test_other_collectives_are_not_drawn() -> None:
    reduced = COLLECTIVES.with_columns(kind=pl.lit("all_reduce"))
    assert exchanges.lay_out(reduced, None) is None


def test_too_many_all_to_alls_are_cut_by_step_and_counted() -> None:
    laid = exchanges.lay_out(expert_tables()["collectives"], None, limit=64)
    assert laid is not None
    assert laid.bars.height <= 64
    assert laid.left_out == " 2 more steps are not drawn: the limit is 64 bars."


def test_bars_of_an_unknown_schedule_are_not_called_microbatches() -> None:
    laid = laid_out(pipeline_actions(), empty(ACTIONS))
    assert "are microbatches" in chart(laid).caption
    assert "are microbatches" not in chart(laid, ordered=False).caption
