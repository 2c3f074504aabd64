"""The timeline as a reader meets it, in headless Chromium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browser import opened, until
from planted import Faults, Job, plant
from report_cases import expert_case, pipeline_case
from report_factory import pipeline_actions

from reports import render
from traceanalyzer.analysis.assemble import analyze, read

pytestmark = pytest.mark.browser

MODEL = "Bokeh.documents.map((d) => d.get_model_by_name({!r})).find((m) => m !== null)"
RANGE = f"(() => {{ const r = {MODEL.format('timeline-x')}; return [r.start, r.end]; }})()"
FRAME = f"(() => {{ const r = {MODEL.format('timeline-frame')}; return [r.start, r.end]; }})()"
BARS = MODEL.format("timeline-bars") + ".data"
NUMBERS = MODEL.format("timeline-numbers") + ".data.text.length"
KERNELS = "document.getElementById('timeline').dataset.kernels"


def drawn(chromium: Any, path: Path, **options: Any) -> Any:
    found = opened(chromium, path, **options)
    until(found.page, "document.getElementById('timeline').dataset.drawn === 'true'")
    assert found.complaints == []
    return found.page


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(*pipeline_case(), tmp_path_factory.mktemp("timeline") / "pipeline.html")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted pipeline of three stages with experts, rank 4 of which is slow."""
    folder = tmp_path_factory.mktemp("planted")
    job = Job(pp=3, dp=2, ep=2, num_microbatches=5, moe_layers=1, moe_hot_share=0.7, num_steps=3)
    traces = plant(job, Faults(slow_compute={4: 1.6}), folder / "job").traces
    result = analyze(read(traces))
    return render(result.review, result.tables, folder / "report.html")


def test_bars_lie_where_the_actions_are(chromium: Any, pipeline: Path) -> None:
    page = drawn(chromium, pipeline)
    bars = page.evaluate(f"JSON.stringify({BARS})")
    found = json.loads(bars)
    first = [i for i, name in enumerate(found["name"]) if name == "0F0" and found["place"][i] == "rank 0, stage 0"]
    assert [(round(found["left"][i], 3), round(found["right"][i], 3)) for i in first] == [(0.0, 50.0)]


def test_buttons_and_keys_zoom_and_pan(chromium: Any, pipeline: Path) -> None:
    page = drawn(chromium, pipeline)
    start, end = page.evaluate(RANGE)
    page.click("button[aria-label='zoom in']")
    zoomed = page.evaluate(RANGE)
    assert zoomed[1] - zoomed[0] == pytest.approx((end - start) / 2)
    page.focus("[data-keys]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(RANGE)[0] == pytest.approx(zoomed[0] + 0.2 * (zoomed[1] - zoomed[0]))
    page.click("text=step 5 (median)")
    assert page.evaluate(RANGE) == pytest.approx([start, end])


def test_a_steps_button_moves_axis_ticks_and_caption(chromium: Any, pipeline: Path) -> None:
    page = drawn(chromium, pipeline)
    label = MODEL.format("timeline-time") + ".axis_label"
    assert page.evaluate(label) == "ms since the pipeline phase of step 5 began"
    page.click("text=step 4")
    assert page.evaluate(label) == "ms since the pipeline phase of step 4 began"
    assert "step 4: 1.70 s measured" in page.locator("#timeline-caption").inner_text()
    start, end = page.evaluate(RANGE)
    assert start < 0 < end
    assert end - start == pytest.approx(1.04 * 1699.5)
    until(page, f"{BARS}.left.some((x) => Math.abs(x) < 1e-6)")
    assert page.locator("button[aria-pressed=true]").all_inner_texts() == ["step 4"]
    frame = page.evaluate(FRAME)
    assert frame[1] - frame[0] == pytest.approx(end - start)
    assert frame[0] - start == pytest.approx(
        -1719.5
    )  # step 4 begins so long before step 5, from which strip and map count


def test_the_frame_on_the_map_moves_the_lanes(chromium: Any, pipeline: Path) -> None:
    page = drawn(chromium, pipeline)
    page.click("text=step 4")
    start, end = page.evaluate(RANGE)
    page.evaluate(f"{MODEL.format('timeline-frame')}.setv({{ start: -1500, end: -1200 }})")
    until(page, f"{RANGE}[1] - {RANGE}[0] < {(end - start) / 2}")
    assert page.evaluate(RANGE) == pytest.approx([219.5, 519.5])
    assert page.evaluate(FRAME) == pytest.approx([-1500, -1200])


def test_the_wheel_scrolls_the_page_and_zooms_only_with_ctrl(chromium: Any, pipeline: Path) -> None:
    page = drawn(chromium, pipeline)
    canvas = page.locator("#timeline-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    before, top = page.evaluate(RANGE), page.evaluate("scrollY")
    page.mouse.wheel(0, -60)
    until(page, f"scrollY < {top}")
    assert page.evaluate(RANGE) == before
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -240)
    page.keyboard.up("Control")
    until(page, f"{RANGE}[1] - {RANGE}[0] < {0.95 * (before[1] - before[0])}")


@pytest.mark.wide
def test_dragging_pans(chromium: Any, pipeline: Path) -> None:
    page = drawn(chromium, pipeline)
    page.locator("#timeline-canvas").scroll_into_view_if_needed()
    box = page.locator("#timeline-canvas").bounding_box()
    before = page.evaluate(RANGE)
    page.mouse.move(box["x"] + 800, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 60, steps=5)
    page.mouse.up()
    until(page, f"{RANGE}[0] > {before[0] + 50}")


@pytest.mark.wide
def test_microbatch_numbers_show_where_they_fit(chromium: Any, pipeline: Path) -> None:
    page = drawn(chromium, pipeline)
    until(page, f"{NUMBERS} >= 128")  # 64 measured and 64 ideal bars of one step
    for _ in range(6):
        page.click("button[aria-label='zoom out']")
    until(page, f"{NUMBERS} === 0")


@pytest.mark.wide
def test_hovering_shows_exact_values(chromium: Any, pipeline: Path) -> None:
    page = drawn(chromium, pipeline)
    page.locator("#timeline-canvas").scroll_into_view_if_needed()
    place = page.evaluate("""() => {
      const view = Object.values(Bokeh.index).find((v) => v.model.name === "timeline");
      const frame = view.frame.bbox, box = view.el.getBoundingClientRect();
      return [box.x + frame.left + view.frame.x_scale.compute(25) - frame.left, box.y + view.frame.y_scale.compute(0)];
    }""")
    page.mouse.move(place[0], place[1])
    page.mouse.move(place[0] + 2, place[1])
    for text in ("0F0", "rank 0, stage 0", "50 ms"):
        page.wait_for_selector(f".bk-Tooltip >> text={text}")


def test_a_finding_shows_its_window_with_its_command(chromium: Any, pipeline: Path) -> None:
    page = drawn(chromium, pipeline)
    page.click("text=show in timeline")
    start, end = page.evaluate(RANGE)
    assert (start, end) == pytest.approx((-65.0, 715.0))  # of step 3, whose first 650 ms the finding points to
    assert page.evaluate(MODEL.format("timeline-time") + ".axis_label").endswith("step 3 began")
    box = page.evaluate(
        f"(() => {{ const b = {MODEL.format('timeline-moment')}; return [b.visible, b.left, b.right, b.top, b.bottom]; }})()"
    )
    assert box == pytest.approx([True, 0.0, 650.0, -0.5, 0.5])
    note = page.locator("#timeline-note").inner_text()
    assert "traceanalyzer perfetto runs/demo --ranks 0 --steps 3" in note
    until(page, "Math.abs(document.getElementById('timeline-section').getBoundingClientRect().top) < 120")
    page.click("#timeline-note >> text=clear")
    assert page.evaluate(MODEL.format("timeline-moment") + ".visible") is False


def test_zooming_in_shows_kernels_by_stream_with_the_lines_to_culprits(chromium: Any, experts: Path) -> None:
    page = drawn(chromium, experts)
    for _ in range(3):
        page.click("button[aria-label='zoom in']")
    until(page, f"{KERNELS} === 'true'")
    found = json.loads(page.evaluate(f"JSON.stringify({BARS})"))
    assert any("stream row 2" in place for place in found["place"])
    assert any(name.startswith("matrix multiplication: ") for name in found["name"])
    assert any(name.startswith("waits for the last member, for rank") for name in found["name"])
    culprits = json.loads(page.evaluate(f"JSON.stringify({MODEL.format('timeline-culprits')}.data)"))
    assert culprits["x0"]
    bands = json.loads(page.evaluate(f"JSON.stringify({MODEL.format('timeline-bands')}.data)"))
    assert all(bottom - top > 1.5 for top, bottom in zip(bands["top"], bands["bottom"], strict=True))
    assert bands["top"]


def test_every_finding_and_every_step_lands_on_drawn_bars(chromium: Any, experts: Path) -> None:
    page = drawn(chromium, experts)
    shows = page.locator("button[data-show]")
    assert shows.count() > 0
    inside = f"(() => {{ const d = {BARS}, [a, b] = {RANGE}; return d.left.filter((x, i) => x < b && d.right[i] > a && d.y[i] > -0.5 && d.y[i] < 5.5).length; }})()"
    for i in range(shows.count()):
        shows.nth(i).click()
        until(page, f"{inside} > 5")
        note = page.locator("#timeline-note").inner_text()
        assert "traceanalyzer perfetto" in note
    steps = page.locator("button[data-step]")
    assert steps.count() == 3
    for i in range(3):
        steps.nth(i).click()
        until(page, f"{inside} > 20")


@pytest.mark.wide
def test_a_name_is_searched_and_the_next_match_is_gone_to(chromium: Any, experts: Path) -> None:
    page = drawn(chromium, experts)
    page.fill("#timeline-search", "1F3")
    assert page.locator("#timeline-hits").inner_text() == "6 matches"  # two ranks, three steps
    page.keyboard.press("Enter")
    assert page.locator("#timeline-hits").inner_text() == "3 of 6"  # the first one of the step in view
    until(page, f"{BARS}.name.some((n, i) => n === '1F3' && {BARS}.alpha[i] === 1)")
    assert page.evaluate(f"{BARS}.name.every((n, i) => n === '1F3' || {BARS}.alpha[i] < 0.5)")
    page.click("button[aria-label='next match']")
    assert page.locator("#timeline-hits").inner_text() == "4 of 6"
    page.fill("#timeline-search", "no such kernel")
    assert page.locator("#timeline-hits").inner_text() == "no match in these lanes"


@pytest.mark.wide
def test_a_view_of_one_pipeline_has_its_lanes_alone(chromium: Any, experts: Path) -> None:
    page = drawn(chromium, experts)
    page.select_option("#timeline-lanes", label="pipeline 1")
    labels = f"[...{MODEL.format('timeline-ranks')}.major_label_overrides.values()]"
    assert page.evaluate(labels)[:3] == ["rank 1", "rank 3", "rank 5"]
    page.select_option("#timeline-lanes", label="all ranks")
    assert "▲ rank 4" in page.evaluate(labels)


@pytest.mark.wide
def test_a_job_without_a_pipeline_is_drawn(chromium: Any, tmp_path: Path) -> None:
    page = drawn(chromium, render(*expert_case(), tmp_path / "experts.html"))
    assert page.evaluate(f"new Set({BARS}.name.map((n) => n.split(',')[0])).size") >= 2


@pytest.mark.wide
def test_thousands_of_actions_are_drawn_as_fewer_bars(chromium: Any, tmp_path: Path) -> None:
    review, tables = pipeline_case()
    measured = pipeline_actions(64, 80, slow_step=None)
    tables |= {"actions": measured, "ideal_actions": pipeline_actions(64, 80, steps=(0,), slow_step=None)}
    page = drawn(chromium, render(review, tables, tmp_path / "large.html"))
    assert 1000 < page.evaluate(f"{BARS}.y.length") <= 7000
