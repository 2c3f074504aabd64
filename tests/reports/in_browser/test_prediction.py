"""The page of a prediction as a reader meets it: opened from disk in headless Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import DRAWN, opened

from traceanalyzer.cli import main

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prediction") / "prediction.html"
    options = ["-s", "GPipe,1F1B,ZBVZeroBubble", "-p", "4", "-m", "8", "--html", str(path)]
    assert main(["predict", *options]) == 0
    return path


def test_it_opens_without_a_request_or_a_complaint_and_draws_every_chart(chromium: Any, page: Path) -> None:
    found = opened(chromium, page, ready=None)
    assert found.requests == [page.as_uri()]
    assert found.complaints == []
    colors = found.page.evaluate(DRAWN)
    assert len(colors) == found.page.locator("figure").count() >= 2
    assert all(count >= 3 for count in colors), colors


def test_it_says_the_schedules_bubbles_as_a_reader_computes_them(chromium: Any, page: Path) -> None:
    text = opened(chromium, page, ready=None).page.inner_text("main")
    assert "27.3%" in text  # (P - 1) / (M + P - 1) = 3 / 11
    assert "ZBVZeroBubble" in text


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(chromium: Any, page: Path, width: int) -> None:
    shown = opened(chromium, page, ready=None, viewport={"width": width, "height": 844}).page
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
