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

from reports import render

pytestmark = pytest.mark.browser

CASES = {"pipeline": pipeline_case, "experts": expert_case, "mfu": mfu_case}


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


def test_the_theme_follows_the_reader_toggles_and_lasts(chromium: Any, reports: dict[str, Path]) -> None:
    found = opened(chromium, reports["pipeline"], color_scheme="dark")
    page, background = found.page, "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(15, 20, 26)"
    label = "Bokeh.documents.flatMap((d) => [...d._all_models.values()]).find((m) => m.type === 'Label').text_color"
    dark_ink = page.evaluate(label)
    page.click("#theme")
    until(page, f"{background} === 'rgb(255, 255, 255)' && {label} !== '{dark_ink}'")
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert found.complaints == []


def test_downloads_hold_the_table_and_the_review(chromium: Any, reports: dict[str, Path], tmp_path: Path) -> None:
    page = opened(chromium, reports["pipeline"]).page
    page.evaluate("document.querySelectorAll('details.whole').forEach((section) => section.open = true)")
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
    prose = "document.querySelectorAll('details.checks:not([open]), #method > details:not([open])').length"
    folded = page.evaluate(prose)
    assert folded > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(prose) == 0
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    charts, pictures = (page.locator(selector).count() for selector in (".canvas", ".canvas > canvas.picture"))
    assert charts == pictures > 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("canvas.picture").count() == 0
    assert page.evaluate(prose) == folded
    assert found.complaints == []
