"""Memory over time: what each stage holds in the typical step, and what the loop metered step by step."""

from __future__ import annotations

import polars as pl
import pytest
from msgspec.structs import replace
from report_cases import base_review, pipeline_case, review_of
from report_factory import pipeline_actions

from reports.sections.material import Material
from reports.sections.pipeline.memory import memory
from reports.sections.pipeline.over_time import held_chart, metered_chart
from traceanalyzer.review import Memory, RankMemory
from traceanalyzer.schema import TABLES

MIB = 2**20


def held(tables: dict[str, pl.DataFrame]) -> list[tuple[str, ...]]:
    chart = held_chart(Material(pipeline_case()[0], tables))
    assert chart is not None
    assert chart.numbers is not None
    return [row[:3] for row in chart.numbers.rows]


def test_one_f_one_b_holds_as_many_microbatches_as_stages_follow() -> None:
    assert held(pipeline_case()[1]) == [("0", "4", "4"), ("1", "3", "3"), ("2", "2", "2"), ("3", "1", "1")]


def test_a_backward_that_comes_last_is_held_until_then() -> None:
    actions = pipeline_actions()
    late = (pl.col("stage") == 3) & (pl.col("microbatch") == 0) & (pl.col("phase") == "B")
    end = pl.col("end_ns").max().over("step")
    moved = actions.with_columns(end_ns=pl.when(late).then(end).otherwise("end_ns"))
    rows = held({**pipeline_case()[1], "actions": moved})
    assert rows[3] == ("3", "2", "1")
    assert rows[:3] == [("0", "4", "4"), ("1", "3", "3"), ("2", "2", "2")]


def test_without_actions_nothing_is_held() -> None:
    assert held_chart(Material(review_of(base_review()), {})) is None


def records(*rows: tuple[int, int, int | None]) -> pl.DataFrame:
    """rank, step, kept MiB."""
    schema = TABLES["step_records"].schema
    frame = pl.DataFrame(
        [(rank, step, None if kept is None else kept * MIB) for rank, step, kept in rows],
        schema={"rank": pl.Int32, "step": pl.Int32, "peak_saved_bytes": pl.Int64},
        orient="row",
    )
    return pl.concat([pl.DataFrame(schema=schema), frame], how="diagonal").select(schema.names())


@pytest.mark.parametrize("draw", [False, True])
def test_metered_peaks_stand_step_by_step(*, draw: bool) -> None:
    review, tables = pipeline_case()
    table = records((0, 1, 40), (0, 2, 50), (1, 1, 30), (1, 2, None))
    chart = metered_chart(Material(review, {**tables, "step_records": table}))
    assert chart is not None
    assert chart.numbers is not None
    assert chart.numbers.rows == (("0", "1", "40.0 MiB"), ("0", "2", "50.0 MiB"), ("1", "1", "30.0 MiB"))
    if draw:
        chart.draw()


def test_one_metered_step_is_no_course() -> None:
    review, tables = pipeline_case()
    assert metered_chart(Material(review, {**tables, "step_records": records((0, 1, 40), (1, 1, 30))})) is None


def lead(*ranks: RankMemory) -> str:
    review = pipeline_case()[0]
    return memory(
        Material(replace(review, memory=Memory(stages=list(ranks), activation_bytes=[MIB], formula=None)), {})
    ).lead


def kept(rank: int, held: int, predicted: int, mib: float | None) -> RankMemory:
    return RankMemory(
        rank=rank,
        stage=[rank],
        in_flight=held,
        in_flight_basis="loop",
        predicted_in_flight=predicted,
        peak_bytes=None if mib is None else int(mib * MIB),
        predicted_bytes=predicted * MIB,
        peak_allocated_bytes=None,
        peak_reserved_bytes=None,
    )


def test_the_lead_agrees_with_theory_only_where_bytes_do() -> None:
    assert "by theory" not in lead(kept(0, 4, 4, 4.1), kept(1, 3, 3, 3.0))
    assert "rank 0 keeps 1.25× the bytes that they take by theory" in lead(kept(0, 4, 4, 5.0), kept(1, 3, 3, 3.0))
    assert "not every rank holds as many" in lead(kept(0, 5, 4, None), kept(1, 3, 3, None))
