"""The page of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from browser import DRAWN, opened

from reports.page.model import Chart
from reports.sweep.page import sweep_page
from traceanalyzer.cli import main
from traceanalyzer.schema.sweeps import SWEEP_POINTS


def sweep(*, failed: tuple[str, int] = ("GPipe", 10)) -> pl.DataFrame:
    rows = []
    for schedule in ("GPipe", "1F1B"):
        for num in (5, 10, 20):
            done = (schedule, num) != failed
            theory = 4 / (num + 4)
            rows.append(
                {
                    "schedule": schedule, "microbatches": str(num), "status": "done" if done else "failed",
                    "reason": None if done else "rank 3 died", "step_ms": 30.0 * num if done else None,
                    "bubble_share": theory + 0.01 if done else None, "simulated_share": theory if done else None,
                    "bubble_minus_simulated": 0.01 if done else None, "run": f"points/schedule={schedule},microbatches={num}",
                }
            )  # fmt: skip
    return pl.DataFrame(rows, schema={"schedule": pl.String, "microbatches": pl.String, **SWEEP_POINTS})


def test_the_verdict_names_ties_and_how_far_theory_is() -> None:
    page = sweep_page(sweep(), "mine")
    assert page.verdict[0] == (
        "The smallest bubble is 17.7% of the pipeline phase (GPipe, microbatches 20 and 1F1B, microbatches 20 alike), the largest "
        "45.4% (1F1B, microbatches 5 and GPipe, microbatches 5 alike)."
    )
    assert page.verdict[1].startswith("Measured and simulated bubbles differ by at most 1.00 points of the phase")
    assert page.verdict[2] == "5 of 6 jobs were measured."
    assert page.warnings == ("schedule=GPipe,microbatches=10 failed: rank 3 died",)


def test_charts_follow_what_was_swept() -> None:
    charts = [part.id for part in sweep_page(sweep(), "mine").sections[0].parts if isinstance(part, Chart)]
    assert charts == ["bubble-over-microbatches", "bubble-by-point", "step-over-microbatches"]
    alone = sweep_page(sweep().filter(pl.col("schedule") == "1F1B").drop("schedule"), "mine")
    assert [part.id for part in alone.sections[0].parts if isinstance(part, Chart)] == [
        "bubble-over-microbatches",
        "step-over-microbatches",
    ]


def test_a_sweep_without_a_measured_point_says_so() -> None:
    page = sweep_page(sweep().with_columns(status=pl.lit("failed")), "mine")
    assert page.verdict == ("None of 6 jobs was measured.",)


@pytest.mark.browser
def test_report_draws_the_folder_of_a_sweep(chromium: Any, tmp_path: Path) -> None:
    sweep().write_parquet(tmp_path / "sweep.parquet")
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "page.html")]) == 0
    found = opened(chromium, tmp_path / "page.html")
    assert found.complaints == []
    assert all(count >= 3 for count in found.page.evaluate(DRAWN))


def test_a_damaged_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.parquet").write_bytes(b"PAR1 no")
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "page.html")]) == 3
    assert "sweep.parquet cannot be read" in capsys.readouterr().err
