"""The report as a reader meets it: opened from disk in headless Chromium, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from browser import DRAWN, opened, until
from report_cases import expert_case, hostile, mfu_case, pipeline_case
from report_factory import pipeline_actions

from reports import render
from reports.charts.palette import PHASES

pytestmark = pytest.mark.browser

CASES = {"pipeline": pipeline_case, "experts": expert_case, "mfu": mfu_case}
PIXELS_OF = """([name, color]) => {
  const view = Object.values(Bokeh.index).find((v) => v.model.name === name);
  const canvas = view.export("png", false).canvas;
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < data.length; i += 4)
    if (Math.abs(data[i] - red) + Math.abs(data[i + 1] - green) + Math.abs(data[i + 2] - blue) < 6) count++;
  return count;
}"""
TIME_RANGE = """() => {
  const range = Bokeh.documents.map((d) => d.get_model_by_name("timeline-x")).find((m) => m !== null);
  return [range.start, range.end];
}"""
NUMBERS = 'Bokeh.documents.map((d) => d.get_model_by_name("timeline-numbers")).find((m) => m !== null).data.text.length'


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    plain = {name: render(*case(), folder / f"{name}.html") for name, case in CASES.items()}
    attacked = {
        f"hostile {name}": render(*hostile(case()), folder / f"hostile-{name}.html") for name, case in CASES.items()
    }
    return plain | attacked


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", [*CASES, *(f"hostile {name}" for name in CASES)])
def test_a_report_opens_without_a_request_or_a_complaint(chromium: Any, reports: dict[str, Path], name: str) -> None:
    found = opened(chromium, reports[name])
    assert found.requests == [reports[name].as_uri()]
    assert found.complaints == []
    assert found.page.evaluate("window.__pwn") is None


@pytest.mark.parametrize("name", CASES)
def test_every_chart_is_drawn(chromium: Any, reports: dict[str, Path], name: str) -> None:
    colors = opened(chromium, reports[name]).page.evaluate(DRAWN)
    assert colors
    assert all(count >= 3 for count in colors), colors


def test_the_timelines_bars_cover_the_time_they_stand_for(chromium: Any, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["pipeline"]).page
    forward, backward = (page.evaluate(PIXELS_OF, ["timeline", PHASES[phase]]) for phase in "FB")
    # a backward lasts twice its forward; numbers inside the bars and blended edges take a little of both
    assert forward > 5_000
    assert backward / forward == pytest.approx(2, rel=0.15)


def test_buttons_and_keys_zoom_and_pan_the_timeline(chromium: Any, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["pipeline"]).page
    start, end = page.evaluate(TIME_RANGE)
    page.click("button[aria-label='zoom in']")
    zoomed = page.evaluate(TIME_RANGE)
    assert zoomed[1] - zoomed[0] == pytest.approx((end - start) / 2)
    page.focus("[data-keys]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(TIME_RANGE)[0] == pytest.approx(zoomed[0] + 0.2 * (zoomed[1] - zoomed[0]))
    page.click("text=step 5 (median)")
    assert page.evaluate(TIME_RANGE) == pytest.approx([start, end])


def test_the_wheel_scrolls_the_page_and_zooms_only_with_ctrl(chromium: Any, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["pipeline"]).page
    page.locator("#timeline .canvas").scroll_into_view_if_needed()
    box = page.locator("#timeline .canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    before, top = page.evaluate(TIME_RANGE), page.evaluate("scrollY")
    page.mouse.wheel(0, 120)
    until(page, f"scrollY > {top}")
    assert page.evaluate(TIME_RANGE) == before
    page.locator("#timeline .canvas").scroll_into_view_if_needed()
    box = page.locator("#timeline .canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -240)
    page.keyboard.up("Control")
    until(page, f"(({TIME_RANGE})()[1] - ({TIME_RANGE})()[0]) < {0.95 * (before[1] - before[0])}")


def test_dragging_pans(chromium: Any, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["pipeline"]).page
    page.locator("#timeline .canvas").scroll_into_view_if_needed()
    box = page.locator("#timeline .canvas").bounding_box()
    before = page.evaluate(TIME_RANGE)
    page.mouse.move(box["x"] + 800, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 60, steps=5)
    page.mouse.up()
    until(page, f"({TIME_RANGE})()[0] > {before[0] + 50}")


def test_microbatch_numbers_show_where_they_fit(chromium: Any, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["pipeline"]).page
    until(page, f"{NUMBERS} >= 128")  # 64 measured and 64 ideal bars of one step
    for _ in range(6):
        page.click("button[aria-label='zoom out']")
    until(page, f"{NUMBERS} === 0")


def test_hovering_shows_exact_values(chromium: Any, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["pipeline"]).page
    page.locator("#timeline .canvas").scroll_into_view_if_needed()
    place = page.evaluate("""() => {
      const view = Object.values(Bokeh.index).find((v) => v.model.name === "timeline");
      const frame = view.frame.bbox, box = view.el.getBoundingClientRect();
      return [box.x + frame.left + view.frame.x_scale.compute(25) - frame.left, box.y + view.frame.y_scale.compute(0)];
    }""")
    page.mouse.move(place[0], place[1])
    page.mouse.move(place[0] + 2, place[1])
    for text in ("0F0", "0, step 5", "50.000 ms", "first of the step"):
        page.wait_for_selector(f".bk-Tooltip >> text={text}")


def test_a_finding_shows_its_window_in_the_timeline(chromium: Any, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["pipeline"]).page
    page.click("text=show in timeline")
    start, end = page.evaluate(TIME_RANGE)
    assert start < -3389.5 < -2739.5 < end
    assert end - start == pytest.approx(1.2 * 650)
    until(page, "Math.abs(document.getElementById('timeline-section').getBoundingClientRect().top) < 120")


def test_the_theme_follows_the_reader_toggles_and_lasts(chromium: Any, reports: dict[str, Path]) -> None:
    found = opened(chromium, reports["pipeline"], color_scheme="dark")
    page, background = found.page, "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(15, 20, 26)"
    label = "Bokeh.documents.flatMap((d) => [...d._all_models.values()]).find((m) => m.type === 'Label').text_color"
    dark_ink = page.evaluate(label)
    page.click("#theme")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.evaluate(label) != dark_ink
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert found.complaints == []


def test_downloads_hold_the_table_and_the_review(chromium: Any, reports: dict[str, Path], tmp_path: Path) -> None:
    page = opened(chromium, reports["pipeline"]).page
    page.click("text=actions (192 rows)")
    with page.expect_download() as waiting:
        page.click("text=download actions.csv")
    waiting.value.save_as(tmp_path / "actions.csv")
    _, tables = pipeline_case()
    assert pl.read_csv(tmp_path / "actions.csv")["start_ns"].to_list() == tables["actions"]["start_ns"].to_list()
    with page.expect_download() as waiting:
        page.click("text=download review.json")
    waiting.value.save_as(tmp_path / "review.json")
    assert json.loads((tmp_path / "review.json").read_text(encoding="utf-8")) == json.loads(
        msgspec.json.encode(pipeline_case()[0])
    )


@pytest.mark.sweep(2)
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_wider_than_the_window(chromium: Any, reports: dict[str, Path], name: str, width: int) -> None:
    page = opened(chromium, reports[name], viewport={"width": width, "height": 844}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_printing_shows_light_pictures_and_puts_the_page_back(chromium: Any, reports: dict[str, Path]) -> None:
    found = opened(chromium, reports["pipeline"], color_scheme="dark")
    page = found.page
    assert len(page.pdf(prefer_css_page_size=True)) > 50_000
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    charts, pictures = (page.locator(selector).count() for selector in (".canvas", ".canvas > canvas.picture"))
    assert charts == pictures > 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("canvas.picture").count() == 0
    assert found.complaints == []


def test_the_most_bars_that_are_drawn_still_open(chromium: Any, tmp_path: Path) -> None:
    review, tables = pipeline_case()
    measured = pipeline_actions(64, 80, slow_step=None)
    tables |= {"actions": measured, "ideal_actions": pipeline_actions(64, 80, steps=(0,), slow_step=None)}
    found = opened(chromium, render(review, tables, tmp_path / "large.html"))
    assert found.complaints == []
    text = found.page.locator("#timeline figcaption").inner_text()
    assert "are not drawn: the limit is 20,000 bars." in text
