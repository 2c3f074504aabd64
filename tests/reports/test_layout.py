"""Where parts stand: charts first, rows of twelve columns, tables of detail folded."""

from __future__ import annotations

from itertools import accumulate

import pytest
from report_cases import expert_case, mfu_case, pipeline_case

from reports.page.glossary import GLOSSARY, anchor, term_of
from reports.page.layout import COLUMNS, laid_out
from reports.page.model import Chart, Grid, Section, Terms
from reports.review_page import review_page


def chart(name: str, *, half: bool = True) -> Chart:
    return Chart(id=name, draw=lambda: None, label=name, half=half)


def table(name: str, width: int = 10, few: int = 6) -> Grid:
    return Grid(id=name, title=name, columns=("a", "b"), rows=(("x" * width, "1"),), few=few)


def test_charts_stand_before_tables_and_rows_are_full() -> None:
    section = Section(id="s", title="S", parts=(table("t"), chart("one"), chart("wide", half=False), chart("two")))
    placed = laid_out(section).open
    assert [(each.part.id, each.span) for each in placed] == [("one", 12), ("wide", 12), ("two", 7), ("t", 5)]


@pytest.mark.parametrize("case", [pipeline_case, expert_case, mfu_case])
def test_every_row_of_every_section_is_full(case: object) -> None:
    for section in review_page(*case()).sections:  # type: ignore[operator] - one of the cases
        ends = list(accumulate(each.span for each in laid_out(section).open))
        assert {end - end % COLUMNS for end in ends} <= {0, *ends}
        assert not ends or ends[-1] % COLUMNS == 0


def test_tables_of_detail_are_folded_and_a_chart_told_above_is_left_out() -> None:
    section = Section(id="s", title="S", parts=(chart("c"), table("detail", few=0), Terms(entries=(("a", "b"),))))
    laid = laid_out(section, {"c"})
    assert [each.part for each in laid.open] == [section.parts[2]]
    assert [grid.id for grid in laid.folded] == ["detail"]


def test_a_section_of_nothing_but_detail_stands_open() -> None:
    assert [each.part.id for each in laid_out(Section(id="s", title="S", parts=(table("t", few=0),))).open] == ["t"]


def test_what_fills_the_charts_row_stands_open_and_the_rest_is_folded() -> None:
    tables = tuple(table(f"t{at}") for at in range(4))
    laid = laid_out(Section(id="s", title="S", parts=(*tables, chart("c"))))
    assert [each.part.id for each in laid.open] == ["c", "t0"]
    assert [part.id for part in laid.folded if isinstance(part, Grid)] == ["t1", "t2", "t3"]
    whole = laid_out(Section(id="s", title="S", parts=tables, folded=True))
    assert len(whole.open) == 4, "the section itself is folded"


def test_headings_find_their_term() -> None:
    assert term_of("Pipeline bubble") == "Bubble"
    assert term_of("mfu") == "MFU"
    assert term_of("Tables") == ""
    assert len({anchor(term) for term in GLOSSARY}) == len(GLOSSARY)
