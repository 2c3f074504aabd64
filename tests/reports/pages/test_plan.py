"""The page of a plan: its heat map of sizes and devices, and what it says where nothing fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from plan_jobs import DENSE, GIB, job

from reports.page.html import html
from reports.page.model import Chart
from reports.page.terminal import terminal
from reports.planning.heat import cell_table, size_map
from reports.planning.page import plan_page
from traceanalyzer.cli import main
from traceanalyzer.theory.model.parameters import parameters
from traceanalyzer.theory.planning.plan import plan
from traceanalyzer.theory.planning.sizes import SizeCell, sizes_and_devices


def cell(layers: int, devices: int, mfu: float | None) -> SizeCell:
    return SizeCell(
        num_layers=layers,
        num_parameters=layers * 10**9,
        num_devices=devices,
        mfu=mfu,
        step_ns=None if mfu is None else 1e9 / mfu,
        configuration=f"L{layers} on {devices} <b>",
    )


CELLS = (cell(3, 4, 0.4), cell(3, 8, 0.2), cell(6, 4, None), cell(6, 8, 0.3))


def test_cells_lie_by_size_and_devices() -> None:
    found = cell_table(CELLS)
    assert found["x"].to_list() == [0, 1, 0, 1]
    assert found["y"].to_list() == [0, 0, 1, 1]
    assert found["size"].to_list() == ["3 B", "3 B", "6 B", "6 B"]
    assert found["text"].to_list() == ["40.0%", "20.0%", "–", "30.0%"]
    assert len(set(found["color"].to_list())) == 4
    assert size_map(CELLS).height == 300


def test_the_page_holds_all_sections_and_no_markup_of_names() -> None:
    planned = plan(job(num_devices=4, batch_size=8))
    page = plan_page(planned, CELLS)
    assert [each.id for each in page.sections][:4] == ["sizes", "decided", "fastest", "front"]
    chart = page.sections[0].parts[0]
    assert isinstance(chart, Chart)
    assert chart.numbers is not None
    assert len(chart.numbers.rows) == 4
    text = html(page, "plan", {"a": 1})
    assert "on 8 <b>" not in text
    assert "Rules of thumb" in text
    assert "3 billion" in terminal(page)


def test_a_plan_of_which_nothing_fits_is_a_page() -> None:
    planned = plan(job(num_devices=2, batch_size=2, memory_bytes=0.5 * GIB))
    assert planned.best is None
    page = plan_page(planned, (cell(3, 4, None),))
    assert page.verdict == ("Nothing fits: see what was rejected.",)
    assert "rejections" in html(page, "plan", {})


@pytest.mark.wide
def test_sizes_are_fewer_and_more_of_the_same_layers() -> None:
    at = job(num_devices=4, batch_size=8)
    cells = sizes_and_devices(at)
    assert {each.num_devices for each in cells} == {1, 2, 4, 8, 16}
    assert {each.num_layers for each in cells} == {2, 3, 6, 12, 24}
    assert len(cells) == 25
    own = next(each for each in cells if (each.num_layers, each.num_devices) == (6, 4))
    assert own.num_parameters == parameters(DENSE).total
    planned = plan(at)
    assert planned.best is not None
    assert own.mfu == pytest.approx(planned.mfu(planned.best))
    small = sizes_and_devices(replace(at, memory_bytes=2.2 * GIB))
    assert any(each.mfu is None and "over" in each.configuration for each in small)


@pytest.mark.wide
def test_plan_job_writes_the_page(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page, plain = tmp_path / "plan.html", tmp_path / "plan.json"
    common = [
        "plan",
        "job",
        "--model",
        "gpt2",
        "--gpus",
        "4",
        "--hardware",
        "dgx a100",
        "--seq",
        "1024",
        "--batch",
        "16",
    ]
    assert main([*common, "--html", str(page), "--json", str(plain)]) == 0
    assert "page:" in capfd.readouterr().out
    assert "Model size and devices" in page.read_text(encoding="utf-8")
    assert len(json.loads(plain.read_text())["sizes_and_devices"]) == 25
