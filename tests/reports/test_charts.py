from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_cases import expert_case, mfu_case, pipeline_case
from report_factory import accounting_table, bubble_table, expert_tables, pipeline_actions

from reports.charts.palette import RESULT
from reports.sections import causes, efficiency, experts, owners, pipeline
from reports.sections.expert_chain import chain_grid
from traceanalyzer.schema import (
    ACCOUNTING,
    BUBBLE,
    COLLECTIVE_SPLITS,
    EXPERT_CHAIN,
    OWNER,
    ROUTING,
    STEP_PHASE,
    conform,
    empty,
)

ONE_PHASE = conform(
    pl.DataFrame(
        {
            "rank": [4, 4, 5, 5],
            "step": [1, 2, 1, 2],
            "phase_ns": [100, 300, 100, 300],
            "warmup_ns": [0, 0, 10, 30],
            "steady_ns": [20, 100, 5, 5],
            "drain_ns": [0, 0, 5, 25],
            "transfer_ns": [4, 4, 0, 0],
            "overhead_ns": [0, 0, 0, 8],
        }
    ),
    BUBBLE,
)


def test_bubble_parts_are_shares_of_the_phase_over_all_steps() -> None:
    long, names = pipeline.bubble_shares(ONE_PHASE, {})
    assert names == ["rank 4", "rank 5"]
    assert long.sort("row", "part").filter(pl.col("value") > 0).rows() == [
        (0, "steady", 0.3),
        (0, "transfer", 0.02),
        (1, "drain", 0.075),
        (1, "overhead", 0.02),
        (1, "steady", 0.025),
        (1, "warm-up", 0.1),
    ]


def test_replicas_of_a_stage_share_one_bar() -> None:
    long, names = pipeline.bubble_shares(ONE_PHASE, {4: 0, 5: 0})
    assert names == ["stage 0"]
    assert long.filter(pl.col("part") == "steady")["value"].to_list() == [130 / 800]


def test_the_bars_of_a_perfect_pipeline_reach_the_closed_form() -> None:
    actions = pipeline_actions(4, 8, slow_step=None)
    long, _ = pipeline.bubble_shares(bubble_table(actions).with_columns(overhead_ns=pl.lit(0, pl.Int64)), {})
    dependency = (
        long.filter(pl.col("part").is_in(["warm-up", "steady", "drain"])).group_by("row").agg(pl.col("value").sum())
    )
    # steady_ns of the factory leaves 2 ms of overhead out
    assert all(math.isclose(value, 3 / 11, abs_tol=2 / 1650 + 1e-9) for value in dependency["value"])


def test_stages_of_ranks_reads_lists_and_leaves_out_ranks_with_several() -> None:
    review = {
        "bubble": {
            "stages": [{"stage": [0, 4], "ranks": [0]}, {"stage": [1], "ranks": [1, 5]}, {"stage": 2, "ranks": [2]}]
        }
    }
    assert pipeline.stages_of_ranks(review) == {1: 1, 5: 1, 2: 2}


def test_theory_is_the_closed_form_inside_its_domain_else_the_simulation() -> None:
    assert pipeline.theory_share({"bubble": {"theory": {"closed_form_share": 0.2, "simulated_share": 0.3}}}) == (
        0.2,
        "closed form",
    )
    found = pipeline.theory_share({"bubble": {"theory": {"closed_form_share": None, "simulated_share": 0.3}}})
    assert found == (0.3, "simulation of the measured order")
    assert pipeline.theory_share({})[0] is None


def test_owners_of_a_rank_sum_to_one() -> None:
    shares = owners.owner_shares(accounting_table(bubble_table(pipeline_actions())))
    sums = shares.group_by("rank").agg(pl.col("share").sum())["share"].to_list()
    assert all(math.isclose(total, 1.0) for total in sums)


def test_owners_by_phase_are_a_table_with_sums() -> None:
    cells = [("F", "compute", 2.0), ("between_chunks", "wait", 1.5), ("between_chunks", "communication", 0.5)]
    review = {"accounting": {"phases": [{"phase": p, "owner": o, "ms": ms} for p, o, ms in cells]}}
    grid = owners.phase_grid(review)
    assert grid is not None
    assert grid.columns == ("phase", "compute", "wait", "communication", "sum")
    assert [row[0] for row in grid.rows] == ["forward", "between chunks", "sum"]
    assert grid.rows[1] == ("between chunks", "", "1.50\u202fms", "500\u202fµs", "2.00\u202fms")
    assert grid.rows[2][-1] == "4.00\u202fms"
    assert owners.phase_grid({"accounting": {"owners": []}}) is None


@pytest.mark.parametrize("owner", OWNER.categories)
def test_every_owner_and_phase_can_be_drawn(owner: str) -> None:
    rows = [{"rank": 0, "owner": owner, "phase": phase, "duration_ns": 5} for phase in STEP_PHASE.categories]
    table = conform(pl.DataFrame(rows), ACCOUNTING)
    assert [word for word, _ in owners.owner_chart(table).legend] == [owners.OWNER_NAMES.get(owner, owner)]
    assert [word for word, _ in owners.phase_chart(table).legend] == list(owners.PHASE_NAMES.values())


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["compute", "wait", "host"]), st.integers(1, 10**12)), min_size=1
    )
)
def test_owner_shares_close_whatever_the_table(rows: list[tuple[int, str, int]]) -> None:
    frame = pl.DataFrame([{"rank": r, "owner": o, "duration_ns": d} for r, o, d in rows])
    shares = owners.owner_shares(conform(frame, ACCOUNTING))
    assert shares["duration_ns"].sum() == sum(d for _, _, d in rows)
    for total in shares.group_by("rank").agg(pl.col("share").sum())["share"]:
        assert math.isclose(total, 1.0)


def routing(*rows: tuple[int, int, str, int, int, int, int, str]) -> pl.DataFrame:
    names = ["step", "layer", "group", "rank", "expert", "expert_rank", "tokens", "source"]
    return conform(pl.DataFrame(rows, schema=names, orient="row"), ROUTING)


TWO_EXPERTS = routing(
    (1, 0, "0,1", 0, 0, 0, 30, "side_file"),
    (1, 0, "0,1", 0, 1, 1, 10, "side_file"),
    (1, 0, "0,1", 1, 0, 0, 30, "side_file"),
    (1, 0, "0,1", 1, 1, 1, 10, "side_file"),
    (2, 0, "0,1", 0, 0, 0, 80, "side_file"),
)


def test_tokens_from_rank_to_rank_come_from_the_routing() -> None:
    found = experts.exchanges(TWO_EXPERTS, empty(COLLECTIVE_SPLITS)).sort("step", "source", "destination")
    assert found.select("step", "source", "destination", "tokens").rows() == [
        (1, 0, 0, 30),
        (1, 0, 1, 10),
        (1, 1, 0, 30),
        (1, 1, 1, 10),
        (2, 0, 0, 80),
    ]


def test_rows_inferred_from_splits_give_way_to_the_side_file() -> None:
    both = pl.concat([TWO_EXPERTS, TWO_EXPERTS.with_columns(source=pl.lit("splits"))])
    assert experts.exchanges(both, empty(COLLECTIVE_SPLITS))["tokens"].sum() == 160


def test_loads_are_ratios_to_the_mean_of_each_layer_and_step() -> None:
    loads = experts.rank_loads(experts.exchanges(TWO_EXPERTS, empty(COLLECTIVE_SPLITS)))
    assert loads is not None
    # step 1: 60 and 20 of 80; step 2: 80 and none of 80
    assert loads.ratios.rows() == [(0, 1.75, 1.5, 2.0), (1, 0.25, 0.0, 0.5)]
    assert loads.copies == 80
    assert math.isclose(loads.chance, 2 * math.sqrt(1 / 80))


def test_expert_groups_have_their_own_means() -> None:
    other = TWO_EXPERTS.with_columns(
        group=pl.lit("2,3"), rank=pl.col("rank") + 2, expert_rank=pl.col("expert_rank") + 2
    )
    tripled = other.with_columns(pl.col("tokens") * 3)
    loads = experts.rank_loads(experts.exchanges(pl.concat([TWO_EXPERTS, tripled]), empty(COLLECTIVE_SPLITS)))
    assert loads is not None
    assert loads.ratios["mean"].to_list() == [1.75, 0.25, 1.75, 0.25]


def test_split_sizes_tell_rank_loads_where_there_is_no_routing() -> None:
    tables = expert_tables(hot=1)
    loads = experts.rank_loads(experts.exchanges(empty(ROUTING), tables["collectives"]))
    assert loads is not None
    assert [round(mean, 2) for mean in loads.ratios["mean"]] == [0.53, 2.4, 0.53, 0.53]
    assert experts.expert_loads(empty(ROUTING)) is None


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any))
def test_loads_average_to_one(tokens: list[int]) -> None:
    rows = [(1, 0, "g", 0, i, i, t, "side_file") for i, t in enumerate(tokens)]
    loads = experts.expert_loads(routing(*rows))
    assert loads is not None
    assert math.isclose(sum(loads.ratios["mean"].to_list()) / len(tokens), 1.0)


def test_waterfall_starts_at_the_peak_and_ends_at_the_measured_mfu() -> None:
    rows = efficiency.waterfall_rows(mfu_case()[0]).select("name", "start", "end").rows()
    expected = [
        ("peak", 0.0, 100.0),
        ("kernels below peak", 71.7, 100.0),
        ("optimizer", 63.7, 71.7),
        ("host", 61.3, 63.7),
        ("measured MFU", 0.0, 61.3),
    ]
    for row, want in zip(rows, expected, strict=True):
        assert row == (want[0], pytest.approx(want[1]), pytest.approx(want[2]))


def test_a_waterfall_that_does_not_close_says_by_how_much() -> None:
    review = mfu_case()[0]
    review["waterfall"].pop()
    chart = efficiency.waterfall_chart(review)
    assert chart is not None
    assert "miss the measured MFU by 2.40 points" in chart.caption


def test_a_negative_loss_is_drawn_as_a_gain() -> None:
    review = mfu_case()[0]
    review["waterfall"].insert(1, {"name": "faster than thought", "ms": -10.0, "mfu_points": -4.0})
    _, gain, after, *_ = efficiency.waterfall_rows(review).rows(named=True)
    assert (gain["start"], gain["end"], gain["color"]) == (100.0, 104.0, RESULT)
    assert gain["text"].startswith("+")
    assert after["end"] == 104.0


def test_hfu_stands_between_peak_and_mfu_without_a_waterfall() -> None:
    review: dict[str, Any] = {"mfu": {"mfu": 0.5, "hfu": 0.6}}
    assert efficiency.waterfall_rows(review)["name"].to_list() == ["peak", "HFU (recompute counted)", "measured MFU"]


def test_the_charts_of_a_case_say_what_they_show() -> None:
    review, tables = pipeline_case()
    chart = pipeline.bubble_chart(review, tables["bubble"])
    assert chart is not None
    assert "theory, 27.3" in chart.caption
    assert [word for word, _ in chart.legend] == ["warm-up", "steady", "drain", "overhead"]
    experts_review, expert_tables_ = expert_case()
    split = experts.split_chart(expert_tables_["collectives"])
    assert split is not None
    assert "Basis: clock." in split.caption
    load = experts.load_chart(
        experts.rank_loads(experts.exchanges(expert_tables_["routing"], empty(COLLECTIVE_SPLITS))), experts_review
    )
    assert load is not None
    assert "by chance 1.03× (1.02× to 1.04×)" in load.caption


def test_causes_lead_from_the_ideal_step_to_the_measured_one() -> None:
    rows = causes.excess_rows(pipeline_case()[0]).select("name", "start", "end").rows()
    expected = [
        ("stage", 0.0, 1.2),
        ("host", 1.2, 5.2),
        ("jitter", 5.2, 6.6),
        ("slack", 5.6, 6.6),
        ("in all", 0.0, 5.6),
    ]
    assert [row[0] for row in rows] == [row[0] for row in expected]
    assert [row[1:] for row in rows] == [pytest.approx(row[1:]) for row in expected]


def test_without_an_attribution_there_is_no_chart_of_it() -> None:
    assert causes.excess_chart({"bubble": {"attribution_ms": None}}) is None


def test_lists_are_cut_and_say_so() -> None:
    grid = causes.waiting(pipeline_case()[0])
    assert grid is not None
    assert len(grid.rows) == 10
    assert grid.rows[0] == ("0", "2", "host", "3.50\u202fms")
    assert grid.note == "2 further rows are in review.json."


def test_a_rank_that_was_not_captured_is_a_dash() -> None:
    review = {"bubble": {"culprits": [{"cause": "outside_sample", "culprit": None, "stages": [], "ms": 2.0}]}}
    grid = causes.culprits(review)
    assert grid is not None
    assert grid.rows == (("outside sample", "–", "", "2.00\u202fms"),)


def test_the_chain_of_experts_shows_the_rank_that_others_wait_for_first() -> None:
    rows = [
        {"step": step, "layer": 0, "group": "0,1", "rank": rank, "received_tokens": 10 + 20 * rank,
         "load_over_mean": 0.5 + rank, "combine_wait_ns": 2_000_000 * (1 - rank), "combine_caused_wait_ns": 2_000_000 * rank}
        for step in (1, 2)
        for rank in (0, 1)
    ]  # fmt: skip
    grid = chain_grid(conform(pl.DataFrame(rows), EXPERT_CHAIN))
    assert grid is not None
    assert grid.columns == ("layer", "rank", "load", "tokens", "waits", "others wait")
    assert [row[:4] for row in grid.rows] == [("0", "1", "1.50×", "30"), ("0", "0", "0.500×", "10")]
    assert chain_grid(conform(pl.DataFrame(rows), EXPERT_CHAIN).clear()) is None
