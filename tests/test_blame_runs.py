"""Faults planted into real paced runs: named right, and priced like their clean twin.

The twin is as good as the machine is quiet: 10% are allowed, or as much as the clean run itself is longer than its ideal, if that is more.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from traceanalyzer.cli import traceanalyzer
from traceanalyzer.gaps.analysis import analyze, read
from traceanalyzer.gaps.pipeline_review import AttributionMs
from traceanalyzer.gaps.review import Bubble

pytestmark = [pytest.mark.soak, pytest.mark.runs]


def run_of(folder: Path, *faults: str) -> tuple[Bubble, AttributionMs]:
    """A paced run; skips where the machine itself distorted it, for then its clean twin is no twin."""
    arguments = ["run", "pipeline", "--out", str(folder), "--ranks", "4", "--steps", "3", "--compute", "paced"]
    result = CliRunner().invoke(traceanalyzer, [*arguments, *(word for fault in faults for word in ("--fault", fault))])
    assert result.exit_code == 0, result.output
    review = analyze(read(folder)).review
    if review.validity.verdict == "distorted":
        pytest.skip(f"the host distorted the run: {'; '.join(review.validity.reasons)}")
    bubble = review.bubble
    assert bubble is not None
    assert bubble.attribution_ms is not None
    return bubble, bubble.attribution_ms


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> AttributionMs:
    return run_of(tmp_path_factory.mktemp("clean") / "run")[1]


CASES = {
    "slow_stage:stage=1,factor=1.3": ("stage", 1),
    "stall:rank=2,ms=60,position=9": ("host", 2),
    "delay_link:source=1,target=2,ms=20": ("transfer", 1),
}


@pytest.mark.parametrize("fault", CASES)
def test_a_planted_fault_is_named_and_priced(fault: str, clean: AttributionMs, tmp_path: Path) -> None:
    bubble, found = run_of(tmp_path / "run", fault)
    truth = pytest.approx(found.measured - clean.measured, rel=0.1, abs=clean.measured - clean.ideal)
    assert (bubble.culprits[0].cause, bubble.culprits[0].culprit) == CASES[fault]
    assert bubble.culprits[0].ms == truth
    worths = [
        each for each in bubble.worth if each.cause == CASES[fault][0] and CASES[fault][1] in (each.rank, each.stage)
    ]
    assert worths[0].ms == truth
    assert found.unexplained <= 0.02 * found.measured


def test_a_clean_run_blames_nobody_for_more_than_a_hundredth(clean: AttributionMs) -> None:
    assert clean.measured - clean.ideal < 0.02 * clean.measured


def test_of_two_faults_the_larger_is_named_first(tmp_path: Path) -> None:
    bubble, _ = run_of(tmp_path / "run", "slow_stage:stage=1,factor=1.3", "stall:rank=1,ms=60,position=9")
    named = [(each.cause, each.culprit) for each in bubble.culprits[:2]]
    assert named == [("stage", 1), ("host", 1)]
