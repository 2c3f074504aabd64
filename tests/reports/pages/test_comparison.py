"""The page and the Markdown of a comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import DRAWN, opened
from planted import Faults, Job, plant

from reports.page.markdown import escaped, markdown
from reports.page.model import Grid, Page, Section
from traceanalyzer.cli import main

JOB = Job(pp=2, num_microbatches=3, num_steps=5)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`two.html` of two runs, `three.html` of three."""
    folder = tmp_path_factory.mktemp("comparison")
    chance = Faults(varying_compute=0.01)
    for name, faults in {
        "a": chance,
        "b": replace(chance, seed=1, slow_compute={0: 1.2}),
        "c": replace(chance, seed=2),
    }.items():
        (folder / name).mkdir()
        plant(JOB, faults, folder / name)
    runs = [str(folder / name) for name in "abc"]
    assert main(["compare", *runs[:2], "--html", str(folder / "two.html")]) == 0
    assert main(["compare", *runs, "--html", str(folder / "three.html")]) == 0
    return folder


@pytest.mark.wide
@pytest.mark.browser
@pytest.mark.parametrize("name", ["two", "three"])
def test_it_opens_without_a_request_or_a_complaint_and_draws_every_chart(chromium: Any, pages: Path, name: str) -> None:
    page = pages / f"{name}.html"
    found = opened(chromium, page, ready=None)
    assert found.requests == [page.as_uri()]
    assert found.complaints == []
    colors = found.page.evaluate(DRAWN)
    assert found.page.locator("figure").count() >= 2
    assert found.page.locator("figure:not(:has(.canvas))").count() == 0
    assert all(count >= 3 for count in colors), colors
    text = found.page.inner_text("main")
    assert "stage 0 (rank 0) computes for" in text
    assert found.page.evaluate("document.documentElement.scrollWidth") <= 1280


HOSTILE = "</details><script>x</script> | @team `code` #12\n# _em_ ![i](u) &lt;b&gt;"


@pytest.mark.wide
def test_contents_name_runs_by_what_tells_them_apart(pages: Path) -> None:
    text = (pages / "three.html").read_text()
    assert "From the old step to the new: b<" in text
    assert f"new: {pages}" not in text


def test_names_cannot_break_out_of_markdown() -> None:
    grid = Grid(id="g", title=HOSTILE, columns=("a", "b"), rows=((HOSTILE, "1"),))
    told = markdown(
        Page(title="t", subject="", verdict=(HOSTILE,), sections=(Section(id="s", title="s", parts=(grid,)),))
    )
    assert "<script>" not in told
    assert "</details><" not in told
    assert "@team" not in told
    assert "\n#" not in told.replace("\n####", "").replace("\n###", "")
    (row,) = [line for line in told.splitlines() if line.startswith("| &#60;")]
    assert row.count("|") == 3
    assert escaped("step_time of rank_0") == "step_time of rank_0"


@pytest.mark.wide
@pytest.mark.browser
def test_a_longer_base_covers_no_other_step(chromium: Any, tmp_path: Path) -> None:
    for name, faults in {"slow": Faults(slow_compute={1: 1.6}), "fast": Faults()}.items():
        (tmp_path / name).mkdir()
        plant(JOB, faults, tmp_path / name)
    page = tmp_path / "page.html"
    assert main(["compare", str(tmp_path / "slow"), str(tmp_path / "fast"), "--html", str(page)]) == 0
    found = opened(chromium, page, ready=None).page
    found.evaluate("document.querySelector('button[aria-label=\"zoom out\"]').click()")
    found.wait_for_timeout(300)
    ends, drawn = (
        found.evaluate(
            f"[...Bokeh.documents.map((d) => d.get_model_by_name('{name}')).find((m) => m !== null).data.x0]"
        )
        for name in ("timeline-ends", "timeline-ideal-ends")
    )
    step = json.loads(found.locator("#timeline-facts").text_content() or "")["steps"][0]
    length = step["ideal"] - step["start"]
    assert length > 1.2 * (step["end"] - step["start"])
    assert len(ends) > len(drawn) >= 1
    assert all(later - earlier >= length for earlier, later in pairwise(sorted(drawn)))
