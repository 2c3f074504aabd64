"""Reading a page with mouse and keyboard: sorting, filtering, folding, definitions, contents, print."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from browser import opened, until
from report_cases import expert_case, pipeline_case

from reports import first_screen, render
from reports.browser import browser, write_pdf
from reports.charts.elements import floating_bars
from reports.page.grids import grid
from reports.page.html import html
from reports.page.model import Chart, Page, Section, Terms

pytestmark = pytest.mark.browser

ROWS = [(f"rank {at}", 900.0 / (1 + at), "=1+1" if at == 3 else f"note {at}") for at in range(30)]
FIRST = "[...document.querySelectorAll('#loads tbody tr')].filter((row) => row.offsetParent).map((row) => row.cells[0].textContent)"
CUT = """() => Object.values(Bokeh.index).filter((view) => view.model.tags?.[0] === "room").map((view) => {
  const [, longest, pixels] = view.model.tags, scale = view.frame.x_scale;
  return view.frame.bbox.right - scale.compute(longest) - pixels;
})"""


def tables_page() -> str:
    loads = grid(
        "loads",
        "Loads",
        ROWS,
        [("who", lambda r: r[0], None), ("wait", lambda r: r[1], "ms"), ("note", lambda r: r[2], None)],
        limit=64,
    )
    assert loads is not None
    method = Terms(entries=(("Wait", "time until the last one came"),))
    sections = (
        Section(id="loads-section", title="Loads", parts=(loads,), lead="Rank 0 waits longest."),
        Section(id="method", title="Method", parts=(method,)),
    )
    return html(Page(title="T", subject="s", verdict=("So.",), sections=sections), "review", {})


@pytest.fixture
def page(chromium: Any, tmp_path: Path) -> Any:
    """A page with one long table and no chart."""
    path = tmp_path / "tables.html"
    path.write_text(tables_page(), encoding="utf-8")
    context = chromium.new_context(viewport={"width": 1280, "height": 700})
    shown = context.new_page()
    shown.complaints = []
    shown.on("console", lambda m: shown.complaints.append(m.text) if m.type in {"error", "warning"} else None)
    shown.goto(path.as_uri())
    shown.wait_for_selector("html[data-ready]", state="attached")
    yield shown
    assert shown.complaints == []
    context.close()


def test_a_long_table_shows_twelve_rows_until_all_are_asked_for(page: Any) -> None:
    assert len(page.evaluate(FIRST)) == 12
    page.click("text=show all 30 rows")
    assert len(page.evaluate(FIRST)) == 30
    page.click("text=show 12 rows")
    assert len(page.evaluate(FIRST)) == 12


def test_numbers_sort_by_value_and_names_as_people_count(page: Any) -> None:
    page.click("#loads th >> text=wait")
    assert page.evaluate(FIRST)[:2] == ["rank 0", "rank 1"]
    page.click("#loads th >> text=wait")
    assert page.evaluate(FIRST)[:2] == ["rank 29", "rank 28"]
    assert page.get_attribute("#loads th:nth-child(2)", "aria-sort") == "ascending"
    page.focus("#loads th:nth-child(1) button")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.evaluate(FIRST)[:3] == ["rank 0", "rank 1", "rank 2"]
    assert page.locator("#loads th[aria-sort]").count() == 1


def test_a_filter_looks_through_all_rows(page: Any) -> None:
    page.fill("input[aria-label='filter Loads']", "note 2")
    assert page.evaluate(FIRST) == ["rank 2", *(f"rank {at}" for at in range(20, 30))]
    page.fill("input[aria-label='filter Loads']", "")
    assert len(page.evaluate(FIRST)) == 12


def test_the_shown_table_comes_as_numbers_with_units_and_without_formulas(page: Any, tmp_path: Path) -> None:
    with page.expect_download() as waiting:
        page.click("text=CSV")
    waiting.value.save_as(tmp_path / "loads.csv")
    rows = list(csv.reader((tmp_path / "loads.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["who", "wait (ms)", "note"]
    assert [float(row[1]) for row in rows[1:]] == [wait for _, wait, _ in ROWS]
    assert rows[4][2] == "'=1+1"


def test_a_question_mark_opens_the_definition_by_mouse_and_by_key(page: Any) -> None:
    page.click("#loads th >> a.what")
    assert page.inner_text("#meaning") == "Wait\ntime until the last one came"
    page.keyboard.press("Escape")
    assert not page.is_visible("#meaning")
    page.focus("#loads th a.what")
    page.keyboard.press("Enter")
    assert page.is_visible("#meaning")


def test_the_contents_stay_in_sight_and_mark_where_one_is(page: Any) -> None:
    assert page.inner_text("nav [aria-current]") == "Overview"
    page.click("text=show all 30 rows")
    page.click("nav >> text=Loads")
    until(page, "document.querySelector('nav [aria-current]').textContent === 'Loads'")
    assert page.evaluate("document.querySelector('header').getBoundingClientRect().top") == 0
    assert page.evaluate("document.querySelector('#loads-section h2').getBoundingClientRect().top") > 0


@pytest.mark.sweep(1)
@pytest.mark.parametrize("width", [1440, 400])
def test_no_text_beside_a_bar_is_cut(chromium: Any, tmp_path: Path, width: int) -> None:
    shown = opened(
        chromium, render(*pipeline_case(), tmp_path / "p.html"), viewport={"width": width, "height": 900}
    ).page
    room = shown.evaluate(CUT)
    assert room
    assert min(room) > -1


def test_long_names_leave_room_for_their_bars(chromium: Any, tmp_path: Path) -> None:
    names = [f"{at}. exposed communication (reduce scatter of 16 ranks, 512 B to 1.00 KiB)" for at in range(4)]
    rows = [(name, 3.0 + at, 4.0 + at, "#888888", "+1.00 ms") for at, name in enumerate(names)]
    bars = pl.DataFrame(rows, schema=["name", "start", "end", "color", "text"], orient="row")
    chart = Chart(
        id="way", title="Way", label="Bars of four changes.", draw=lambda: floating_bars(bars, x_label="ms", x_end=9)
    )
    page = Page(title="T", subject="s", verdict=("So.",), sections=(Section(id="a", title="A", parts=(chart,)),))
    (tmp_path / "bars.html").write_text(html(page, "review", {}), encoding="utf-8")
    shown = opened(chromium, tmp_path / "bars.html", viewport={"width": 400, "height": 900}).page
    assert shown.evaluate("document.documentElement.scrollWidth") <= 400
    assert shown.evaluate("Object.values(Bokeh.index)[0].frame.bbox.width") > 120


def test_every_chart_has_words_and_data(chromium: Any, tmp_path: Path) -> None:
    shown = opened(chromium, render(*expert_case(), tmp_path / "e.html")).page
    figures = shown.locator("main figure")
    assert figures.count() >= 4
    for at in range(figures.count()):
        figure = figures.nth(at)
        for each in figure.locator(".canvas").all():
            assert len(each.get_attribute("aria-label")) > 20
        if figure.locator("#timeline-canvas").count() == 0:
            assert figure.locator("table").count() == 1, figure.get_attribute("id")


@pytest.mark.sweep(1)
@pytest.mark.parametrize("case", [pipeline_case, expert_case])
def test_the_first_screen_prints_to_one_page(chromium: Any, tmp_path: Path, case: Any) -> None:
    del chromium  # skipped where there is none
    program = browser()
    assert program is not None
    write_pdf(first_screen(*case()), tmp_path / "one.pdf", program)
    content = (tmp_path / "one.pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", content)) == 1
