"""*Idle* and *bubble* have one meaning each: in the tables, the result, the docs and every sentence."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from planted import Faults, Job, plant

import reports
from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.measurements.pipeline.bubble import IDLE_PARTS

ROOT = Path(__file__).parents[2]
DEPENDENCY = ("warmup_ns", "steady_ns", "drain_ns")
CONFUSED = re.compile(r"(?i)\bidles? (?:for )?[\d.]+ ?%|bubble is (?:the )?idle")
"""A share that is called idle: only `all idle time` is one, and its row says so."""


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """A pipeline with slow messages and a slow stage, so that it idles for more than its bubble."""
    folder = tmp_path_factory.mktemp("idle")
    plant(Job(pp=3, num_microbatches=5, num_steps=3), Faults(slow_compute={2: 1.4}), folder)
    return analyze(read(folder))


def test_idle_is_the_phase_less_the_chunks_and_the_bubble_its_dependency_part(analysis: Analysis) -> None:
    rows = analysis.tables["bubble"]
    idle = pl.sum_horizontal(IDLE_PARTS)
    assert rows.select((pl.col("phase_ns") - pl.col("chunk_ns") - idle).abs().max()).item() == 0
    bubble = analysis.review.bubble
    assert bubble is not None
    totals = rows.group_by("step").agg(pl.col("phase_ns", *IDLE_PARTS).sum())
    shares = totals.select(
        (pl.sum_horizontal(IDLE_PARTS) / pl.col("phase_ns")).median().alias("idle"),
        (pl.sum_horizontal(DEPENDENCY) / pl.col("phase_ns")).median().alias("bubble"),
    )
    assert bubble.idle_share == pytest.approx(shares["idle"].item())
    assert bubble.measured_share == pytest.approx(shares["bubble"].item())
    assert bubble.idle_share > bubble.measured_share


def test_the_definition_is_written_once_and_quoted() -> None:
    definitions = " ".join((ROOT / "docs" / "definitions.md").read_text(encoding="utf-8").split())
    assert (
        "idle = phase − chunk spans = Σ dependency + transfer + exposed DP + overhead bubble = Σ dependency"
        in definitions
    )
    assert "the rank had nothing it could compute" in definitions
    for page in ("README.md", "docs/report.md", "docs/architecture.md"):
        assert "definitions.md" in (ROOT / page).read_text(encoding="utf-8"), page


def test_tile_and_readme_define_the_bubble_alike(analysis: Analysis) -> None:
    tile = next(tile for tile in analysis.review.headline.tiles if tile.id == "bubble")
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for text in (tile.definition, readme):
        assert "time a rank had nothing it could compute" in text
        assert "÷ pipeline phase" in text


def test_no_sentence_calls_the_bubble_idle(analysis: Analysis) -> None:
    said = " ".join([*analysis.review.headline.sentences, reports.text(analysis.review, analysis.tables)])
    assert not CONFUSED.findall(said)
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert [page.name for page in pages if CONFUSED.search(page.read_text(encoding="utf-8"))] == []
