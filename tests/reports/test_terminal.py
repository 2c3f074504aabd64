"""The same page as text for a terminal."""

from __future__ import annotations

import pytest
from report_cases import expert_case, hostile, mfu_case, pipeline_case

from reports import text
from reports.page.grids import figures, grid
from reports.page.model import Chart, Grid, Page, Section, Tile
from reports.page.terminal import _tiles, _wrapped, grid_lines, terminal
from reports.review_page import review_page
from traceanalyzer.schema import TABLES

CASES = {"pipeline": pipeline_case, "experts": expert_case, "mfu": mfu_case}
LOADS = [("rank 3", 1.25, 2_500_000), ("rank 10", 0.5, 70), ("rank 11", 0.25, 7)]


def loads(**options: int) -> Grid:
    columns = [("who", lambda r: r[0], None), ("load", lambda r: r[1], "ratio"), ("sent", lambda r: r[2], "bytes")]
    found = grid("loads", "Loads", LOADS, columns, **options)  # type: ignore[arg-type] - a short test
    assert found is not None
    return found


def test_a_table_lines_up_with_text_to_the_left_and_numbers_to_the_right() -> None:
    assert list(grid_lines(loads())) == [
        "  Loads",
        "    who       load      sent",
        "    rank 3   1.25×  2.38 MiB",
        "    rank 10  0.50×      70 B",
        "    rank 11  0.25×       7 B",
    ]


def test_a_cut_table_names_the_command_that_shows_all() -> None:
    cut = list(grid_lines(loads(few=1), "runs/my job"))
    assert cut[-1] == "    … 2 more: traceanalyzer analyze 'runs/my job' --json review.json"


@pytest.mark.parametrize("name", CASES)
def test_a_command_for_all_rows_names_a_table_that_there_is(name: str) -> None:
    grids = [
        part for section in review_page(*CASES[name]()).sections for part in section.parts if isinstance(part, Grid)
    ]
    assert {grid.all_rows for grid in grids} <= {"review.json", *TABLES}


def test_a_table_that_is_not_for_a_terminal_is_left_out() -> None:
    assert list(grid_lines(loads(few=0))) == []


def test_unknown_figures_are_left_out_of_a_list() -> None:
    found = figures("Facts", [("known", 0.5, "share"), ("unknown", None, "ms"), ("said", "so"), ("unsaid", "")])
    assert found is not None
    assert found.entries == (("known", "50.0%"), ("said", "so"))
    assert figures("Facts", [("unknown", None, "ms")]) is None


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", CASES)
def test_prose_is_wrapped_to_the_width(name: str, width: int) -> None:
    lines = text(*CASES[name](), width).splitlines()
    prose = [line for line in lines if not line.startswith("    ")]
    assert max(map(len, prose)) <= width
    assert text(*CASES[name]()).split() == " ".join(lines).split()


def test_the_first_screen_stands_on_top_and_sections_are_those_of_the_report() -> None:
    review, tables = pipeline_case()
    shown = text(review, tables)
    order = [*review.headline.sentences, "Pipeline bubble", "Findings", "The bubble in all its forms", "Owners of time"]
    assert [shown.index(part) for part in order] == sorted(shown.index(part) for part in order)
    titles = {section.title for section in review_page(review, tables).sections}
    assert {line for line in shown.splitlines() if line in titles} <= titles
    assert "[!!] The schedule's own bubble is the whole gap (worth 190 ms per step): 450 of" in shown
    assert "→ Raise the number of microbatches to 16" in shown
    assert "[ok] Stages are even" in shown


def test_what_is_withheld_is_one_line_per_cause() -> None:
    lines = text(*expert_case()).splitlines()
    assert [line for line in lines if line.startswith("withheld: ")] == [
        "withheld: Bubble: no pipeline in this job",
        "withheld: MFU: paced run",
    ]


def test_a_tile_without_anything_beside_it_keeps_its_value() -> None:
    shown = list(_tiles([Tile(id="compute", title="Computing", value="97.5%")], 80))
    assert shown == ["Computing                  97.5%"]


@pytest.mark.parametrize("name", CASES)
def test_names_from_traces_reach_no_terminal_unescaped(name: str) -> None:
    shown = text(*hostile(CASES[name]()))
    assert not {"\x1b", "\x07", "\u202e", "\u200b", "\u2028"} & set(shown)
    assert "⟨U+001B⟩" in shown


def test_a_terminal_draws_no_chart() -> None:
    def draw() -> object:
        raise AssertionError

    picture = Chart(id="c", draw=draw, label="a picture", numbers=loads(), sketch=lambda width: "·" * width)
    page = Page(title="T", subject="", verdict=("So.",), sections=(Section(id="s", title="Loads", parts=(picture,)),))
    assert terminal(page, 40).splitlines()[-1] == "·" * 40
    assert "rank 10  0.50×" in terminal(page, 40)


@pytest.mark.parametrize("width", range(24, 80))
def test_a_number_stays_in_the_line_of_its_unit(width: int) -> None:
    text = "Rank 0 spends 4.55 ms per step, hidden or not: at most 2.62 ms of 1.2 TFLOP/s and 12 MiB, 8.14 points off"
    lines = _wrapped(text, width).splitlines()
    assert " ".join(lines) == text
    assert not [line for line in lines if line.split()[0] in ("ms", "TFLOP/s", "MiB", "points")]
