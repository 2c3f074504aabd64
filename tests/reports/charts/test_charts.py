from __future__ import annotations

import math

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_cases import expert_case, mfu_case, pipeline_case
from report_factory import accounting_table, bubble_table, expert_tables, pipeline_actions

from reports.charts import token_flow
from reports.charts.palette import RESULT
from reports.sections import efficiency, owners
from reports.sections.experts import loads
from reports.sections.experts.chain import chain_grid
from reports.sections.material import Material
from reports.sections.pipeline import bubble as pipeline
from reports.sections.pipeline import causes
from traceanalyzer.review import Accounting, Bubble, Culprit, OwnerShare, PhaseShare, Review, StageBubble, WaterfallStep
from traceanalyzer.review.theory import theory_share
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


def measured(review: Review) -> Bubble:
    assert review.bubble is not None
    return review.bubble


def stage(stages: list[int], ranks: list[int]) -> StageBubble:
    return StageBubble(
        stage=stages, ranks=ranks, dependency_ms=0, warmup_ms=0, steady_ms=0, drain_ms=0, transfer_ms=None, overhead_ms=0,
        chunk_ms=0,
    )  # fmt: skip


def test_ranks_with_several_stages_have_no_stage_of_their_own() -> None:
    stages = [stage([0, 4], [0]), stage([1], [1, 5]), stage([2], [2])]
    bubble = msgspec.structs.replace(measured(pipeline_case()[0]), stages=stages)
    assert pipeline.stages_of_ranks(bubble) == {1: 1, 5: 1, 2: 2}


def test_theory_is_the_closed_form_inside_its_domain_else_the_simulation() -> None:
    bubble = measured(pipeline_case()[0])
    assert bubble.theory is not None
    assert theory_share(bubble) == (3 / 11, "1F1B closed form")
    outside = msgspec.structs.replace(bubble.theory, closed_form_share=None, simulated_share=0.3)
    simulated = msgspec.structs.replace(bubble, theory=outside)
    assert theory_share(simulated) == (0.3, "simulation of the measured order")
    assert theory_share(msgspec.structs.replace(bubble, theory=None)) is None


def test_owners_of_a_rank_sum_to_one() -> None:
    shares = owners.owner_shares(accounting_table(bubble_table(pipeline_actions())))
    sums = shares.group_by("rank").agg(pl.col("share").sum())["share"].to_list()
    assert all(math.isclose(total, 1.0) for total in sums)


def test_owners_by_phase_are_a_table_with_sums() -> None:
    cells = [("F", "compute", 2.0), ("between_chunks", "wait", 1.5), ("between_chunks", "communication", 0.5)]
    account = Accounting(
        owners=[OwnerShare(owner=owner, share=ms / 4, ms=ms) for _, owner, ms in cells],
        phases=[PhaseShare(phase=phase, owner=owner, share=ms / 4, ms=ms) for phase, owner, ms in cells],
        ambiguous_ns=None,
    )
    grid = owners.owner_grid(account, {})
    assert grid is not None
    assert grid.columns == ("owner", "share", "in all", "forward", "between chunks")
    assert grid.rows == (
        ("compute", "50.0%", "2.00 ms", "2.00 ms", ""),
        ("wait", "37.5%", "1.50 ms", "", "1.50 ms"),
        ("communication", "12.5%", "500 µs", "", "500 µs"),
        ("in all", "100%", "4.00 ms", "2.00 ms", "2.00 ms"),
    )
    assert owners.owner_grid(Accounting(owners=[], phases=[], ambiguous_ns=None), {}) is None


@pytest.mark.parametrize("owner", OWNER.categories)
def test_every_owner_and_phase_can_be_drawn(owner: str) -> None:
    rows = [{"rank": 0, "owner": owner, "phase": phase, "duration_ns": 5} for phase in STEP_PHASE.categories]
    table = conform(pl.DataFrame(rows), ACCOUNTING)
    material = Material(pipeline_case()[0], {})
    assert [word for word, _ in owners.owner_chart(material, table).legend] == [owner.replace("_", " ")]
    assert [word for word, _ in owners.phase_chart(material, table).legend] == list(owners.PHASE_NAMES.values())


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
    found = token_flow.exchanges(TWO_EXPERTS, empty(COLLECTIVE_SPLITS)).sort("step", "source", "destination")
    assert found.select("step", "source", "destination", "tokens").rows() == [
        (1, 0, 0, 30),
        (1, 0, 1, 10),
        (1, 1, 0, 30),
        (1, 1, 1, 10),
        (2, 0, 0, 80),
    ]


def test_rows_inferred_from_splits_give_way_to_the_side_file() -> None:
    both = pl.concat([TWO_EXPERTS, TWO_EXPERTS.with_columns(source=pl.lit("splits"))])
    assert token_flow.exchanges(both, empty(COLLECTIVE_SPLITS))["tokens"].sum() == 160


def test_loads_are_ratios_to_the_mean_of_each_layer_and_step() -> None:
    found = token_flow.rank_loads(token_flow.exchanges(TWO_EXPERTS, empty(COLLECTIVE_SPLITS)))
    assert found is not None
    # step 1: 60 and 20 of 80; step 2: 80 and none of 80
    assert found.ratios.rows() == [(0, 1.75, 1.5, 2.0), (1, 0.25, 0.0, 0.5)]
    assert found.copies == 80
    assert math.isclose(found.chance, 2 * math.sqrt(1 / 80))


def test_expert_groups_have_their_own_means() -> None:
    other = TWO_EXPERTS.with_columns(
        group=pl.lit("2,3"), rank=pl.col("rank") + 2, expert_rank=pl.col("expert_rank") + 2
    )
    tripled = other.with_columns(pl.col("tokens") * 3)
    found = token_flow.rank_loads(token_flow.exchanges(pl.concat([TWO_EXPERTS, tripled]), empty(COLLECTIVE_SPLITS)))
    assert found is not None
    assert found.ratios["mean"].to_list() == [1.75, 0.25, 1.75, 0.25]


def test_split_sizes_show_rank_loads_where_there_is_no_routing() -> None:
    tables = expert_tables(hot=1)
    found = token_flow.rank_loads(token_flow.exchanges(empty(ROUTING), tables["collectives"]))
    assert found is not None
    assert [round(mean, 2) for mean in found.ratios["mean"]] == [0.53, 2.4, 0.53, 0.53]
    assert token_flow.expert_loads(empty(ROUTING)) is None


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any))
def test_loads_average_to_one(tokens: list[int]) -> None:
    rows = [(1, 0, "g", 0, i, i, t, "side_file") for i, t in enumerate(tokens)]
    found = token_flow.expert_loads(routing(*rows))
    assert found is not None
    assert math.isclose(sum(found.ratios["mean"].to_list()) / len(tokens), 1.0)


def test_waterfall_starts_at_the_peak_and_ends_at_the_measured_mfu() -> None:
    review = mfu_case()[0]
    rows = efficiency.waterfall_rows(review.mfu, review.waterfall).select("name", "start", "end").rows()
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
    chart = efficiency.waterfall_chart(review.mfu, review.waterfall[:-1])
    assert chart is not None
    assert "miss 100 points by 2.40" in chart.caption


def test_a_negative_loss_is_drawn_as_a_gain() -> None:
    review = mfu_case()[0]
    gained = WaterfallStep(name="faster than thought", ms=-10.0, mfu_points=-4.0)
    steps = [review.waterfall[0], gained, *review.waterfall[1:]]
    _, gain, after, *_ = efficiency.waterfall_rows(review.mfu, steps).rows(named=True)
    assert (gain["start"], gain["end"], gain["color"]) == (100.0, 104.0, RESULT)
    assert gain["text"].startswith("+")
    assert after["end"] == 104.0


def test_hfu_stands_between_peak_and_mfu_without_a_waterfall() -> None:
    mfu = mfu_case()[0].mfu
    assert efficiency.waterfall_rows(mfu, [])["name"].to_list() == ["peak", "HFU (recompute counted)", "measured MFU"]


def test_the_charts_of_a_case_say_what_they_show() -> None:
    review, tables = pipeline_case()
    chart = pipeline.bubble_chart(measured(review), tables["bubble"])
    assert chart is not None
    assert "theory, 27.3" in chart.caption
    assert [word for word, _ in chart.legend] == ["warm-up", "steady", "drain", "overhead"]
    experts_review, expert_tables_ = expert_case()
    split = loads.split_chart(Material(experts_review, expert_tables_))
    assert split is not None
    assert "Basis: clock." in split.caption
    load = loads.load_chart(
        token_flow.rank_loads(token_flow.exchanges(expert_tables_["routing"], empty(COLLECTIVE_SPLITS))),
        experts_review.all_to_all,
    )
    assert load is not None
    assert "by chance 1.03× (1.02× to 1.04×)" in load.caption


def test_causes_lead_from_the_ideal_step_to_the_measured_one() -> None:
    attribution = measured(pipeline_case()[0]).attribution_ms
    assert attribution is not None
    rows = causes.excess_rows(attribution).select("name", "start", "end").rows()
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
    assert causes.excess(msgspec.structs.replace(measured(pipeline_case()[0]), attribution_ms=None)) is None


def test_lists_are_cut_and_say_so() -> None:
    grid = causes.waiting(measured(pipeline_case()[0]))
    assert grid is not None
    assert len(grid.rows) == 10
    assert grid.rows[0] == ("0", "2", "host", "3.50 ms")
    assert (grid.num_rows, grid.all_rows) == (12, "blame")


def test_a_rank_that_was_not_captured_is_a_dash_and_a_column_without_values_is_left_out() -> None:
    culprits = [
        Culprit(cause="outside_sample", culprit=None, stages=[], ms=2.0),
        Culprit(cause="host", culprit=3, stages=[], ms=1.0),
    ]
    grid = causes.culprits(msgspec.structs.replace(measured(pipeline_case()[0]), culprits=culprits))
    assert grid is not None
    assert grid.columns == ("cause", "rank", "per step")
    assert grid.rows == (("outside sample", "–", "2.00 ms"), ("host", "3", "1.00 ms"))


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
    assert [row[:4] for row in grid.rows] == [("0", "1", "1.50×", "30"), ("0", "0", "0.50×", "10")]
    assert chain_grid(conform(pl.DataFrame(rows), EXPERT_CHAIN).clear()) is None
