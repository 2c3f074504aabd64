"""What a notebook shows: the report's parts in a sandboxed frame that loads nothing and lets nothing out."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from browser import Opened, until
from inputs.tiny_trace import TinyRank, run_of
from launched.gpipe_run import GPIPE, with_job
from msgspec.structs import replace

import traceanalyzer as ta

HOSTILE = '</iframe><script>parent.hit = 1</script>" onload="hit=1'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return with_job(run_of(tmp_path / "run", GPIPE))


def inner(frame: str) -> str:
    """The page inside the one frame."""
    found = re.fullmatch(r'<iframe sandbox="allow-scripts allow-downloads"[^>]* srcdoc="([^"]*)"[^>]*></iframe>', frame)
    assert found is not None
    return html.unescape(found[1])


@pytest.mark.wide
def test_the_cell_holds_verdict_and_timeline_and_nothing_else(run: Path) -> None:
    result = ta.analyze(run)
    page = inner(result._repr_html_())
    shown = html.unescape(re.sub("</?b>", "", page))
    assert all(sentence in shown for sentence in result.review.headline.sentences)
    assert 'id="timeline-section"' in page
    assert 'id="quality-section"' not in page
    assert "Content-Security-Policy" in page
    assert "default-src 'none'" in page


def test_a_run_without_actions_has_lanes_of_its_ranks(tmp_path: Path) -> None:
    TinyRank(0, 1).step(1, 0, 10).step(2, 10, 20).write(tmp_path)
    page = inner(ta.analyze(tmp_path)._repr_html_())
    assert "One lane per rank" in page


@pytest.mark.wide
def test_names_of_a_trace_cannot_leave_the_frame(run: Path) -> None:
    result = ta.analyze(run)
    verdict = result.review.headline
    hostile = type(result)(_with_verdict(result.review, [HOSTILE, *verdict.sentences]), result.tables)
    frame = hostile._repr_html_()
    assert frame.count("<iframe") == frame.count("</iframe") == 1
    assert frame.count('"') == frame[: frame.index("srcdoc=")].count('"') + 4
    assert "<script>parent" not in inner(frame)


def _with_verdict(review: Any, sentences: list[str]) -> Any:
    return replace(review, headline=replace(review.headline, sentences=sentences))


@pytest.mark.sweep(1)
@pytest.mark.browser
@pytest.mark.parametrize("what", ["result", "prediction"])
def test_the_cell_is_drawn_offline_and_cannot_touch_the_notebook(
    chromium: Any, run: Path, tmp_path: Path, what: str
) -> None:
    shown = ta.analyze(run) if what == "result" else ta.predict(["1F1B", "GPipe"], stages=4, microbatches=8)
    cell = tmp_path / "cell.html"
    cell.write_text(f"<!doctype html><meta charset=utf-8><p>cell</p>{shown._repr_html_()}")
    found = Opened(chromium.new_page(viewport={"width": 1000, "height": 900}))
    found.page.set_default_timeout(120_000)
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.on("console", lambda m: found.complaints.append(m.text) if m.type in {"error", "warning"} else None)
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.goto(cell.as_uri())
    frame = found.page.frames[1]
    frame.wait_for_selector("html[data-ready]", state="attached")
    until(frame, "Object.values(Bokeh.index).length > 0 && Object.values(Bokeh.index).every((view) => view.is_idle)")
    assert found.page.evaluate("document.querySelector('iframe').contentDocument") is None
    assert (
        frame.evaluate("(() => { try { return parent.document !== null; } catch { return 'refused'; } })()")
        == "refused"
    )
    assert found.requests == [cell.as_uri()]
    assert found.complaints == []
