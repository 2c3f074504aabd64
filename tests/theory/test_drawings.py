"""The page on schedules: its figures and pictures are what the simulation gives."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from reports.charts.schedules import DRAWN, drawing, textbook
from traceanalyzer.cli import main
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.schedules.order_csv import write_orders
from traceanalyzer.theory.schedules.orders import order

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "schedules.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DRAWN)
def test_figures_of_the_table(name: ScheduleName) -> None:
    predicted = textbook(name)
    simulated = predicted.simulation
    shares = (simulated.bubble_share, simulated.bubble_ratio, simulated.span_bubble_share)
    held = " ".join(f"{peak:g}" for peak in predicted.peak_in_flight)
    cells = [*(f"{100 * share:.2f}%" for share in shares), held, str(sum(simulated.num_messages))]
    assert f"| [{name}](#{name.lower()}) | {' | '.join(cells)} |" in PAGE


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_are_current(name: ScheduleName) -> None:
    """`python -m reports.charts.schedules docs/schedules` draws them anew."""
    assert f"\n## {name}\n\n![{name}](schedules/{name}.svg)\n" in PAGE
    assert (DOCS / "schedules" / f"{name}.svg").read_text(encoding="utf-8") == drawing(textbook(name))


def test_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text(write_orders(order(ScheduleName("ZBVZeroBubble"), 4, 8, 2)), encoding="utf-8")
    commands = re.findall(r"^    traceanalyzer (predict .*)$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        assert main(shlex.split(command)) == 0, command
    assert (tmp_path / "prediction.html").stat().st_size > 100_000
