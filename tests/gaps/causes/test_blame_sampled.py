"""Blame where some stages were not captured: what comes from outside is called that, and the sum still closes."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from planted import Faults, Job, plant

import reports
from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.review import AttributionMs, Bubble

JOB = Job(p2p_bytes=1 << 20)
CAUSES = ("stage", "straggler", "transfer", "chunk_comm", "host", "jitter", "slack", "outside_sample", "unexplained")


def analysed(job: Job, faults: Faults, folder: Path) -> Analysis:
    folder.mkdir(exist_ok=True)
    return analyze(read(plant(job, faults, folder).traces))


def told(analysis: Analysis) -> tuple[Bubble, AttributionMs]:
    bubble = analysis.review.bubble
    assert bubble is not None
    assert bubble.attribution_ms is not None
    return bubble, bubble.attribution_ms


def outside_ms(analysis: Analysis) -> float:
    return told(analysis)[1].outside_sample


@pytest.mark.sweep(2)
@pytest.mark.parametrize("missing", [{0}, {1}, {3}, {0, 3}, {1, 2}], ids=str)
def test_it_closes_exactly_and_withholds_the_bubble(missing: set[int], tmp_path: Path) -> None:
    faults = Faults(missing_ranks=frozenset(missing), slow_compute={2: 1.2}, host_stall_ns={(1, 1, 6): 9_000_000})
    analysis = analysed(JOB, faults, tmp_path)
    bubble, found = told(analysis)
    assert found.ideal + sum(getattr(found, cause) for cause in CAUSES) == pytest.approx(found.measured, abs=1e-9)
    table, actions = analysis.tables["attribution"], analysis.tables["actions"]
    for step, rows in actions.group_by("step"):
        ideal = rows["end_ns"].max() - rows["start_ns"].min() - found.ideal * 1e6  # type: ignore[operator]
        own = table.filter(pl.col("step") == step[0])["duration_ns"].sum()
        assert own == pytest.approx(ideal, abs=1)
    assert found.outside_sample >= 0
    # Where only the first stage is missing, the slow one's own lateness covers all waiting for it.
    assert (found.outside_sample == 0) == (missing == {0})
    assert bubble.measured_share is None
    withheld = {item.metric for item in analysis.review.quality.withheld}
    assert "bubble.measured_share" in withheld
    assert "bubble" not in withheld
    assert analysis.review.stragglers == []
    assert ("outside sample" in reports.text(analysis.review, analysis.tables)) == (missing != {0})


@pytest.mark.wide
@pytest.mark.sweep(1)
@pytest.mark.parametrize("missing", [{0}, {3}, {0, 3}], ids=str)
def test_a_fault_outside_is_found_outside(missing: set[int], tmp_path: Path) -> None:
    culprit = min(missing)
    gone = frozenset(missing)
    clean = analysed(JOB, Faults(missing_ranks=gone), tmp_path / "clean")
    slow = analysed(JOB, Faults(missing_ranks=gone, slow_compute={culprit: 1.3}), tmp_path / "slow")
    truth = told(slow)[1].measured - told(clean)[1].measured
    assert truth > 5
    assert outside_ms(slow) - outside_ms(clean) == pytest.approx(truth, rel=0.05)
    assert told(slow)[0].culprits[0].culprit is None


@pytest.mark.wide
def test_a_fault_inside_is_not_taken_for_one_outside(tmp_path: Path) -> None:
    gone = frozenset({0})
    clean = analysed(JOB, Faults(missing_ranks=gone), tmp_path / "clean")
    slow = analysed(JOB, Faults(missing_ranks=gone, slow_compute={2: 1.3}), tmp_path / "slow")
    truth = told(slow)[1].measured - told(clean)[1].measured
    first = told(slow)[0].culprits[0]
    assert (first.cause, first.culprit) == ("stage", 2)
    assert first.ms == pytest.approx(truth, rel=0.1)


@pytest.mark.wide
def test_one_rank_alone_blames_nobody(tmp_path: Path) -> None:
    analysis = analysed(JOB, Faults(missing_ranks=frozenset({0, 1, 3})), tmp_path)
    assert analysis.review.bubble is None
    assert "bubble" in {item.metric for item in analysis.review.quality.withheld}
