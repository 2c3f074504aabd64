"""Every kind of fault planted into a launched job and looked for in a copy that knows nothing of it.

Prints one row of the table in docs/measurements.md per fault. What a fault costs is what the run is longer than its clean
twin, so a fault can be found as far as it is larger than what the machine itself does: a run that the host distorted and
that names another cause is skipped with what the guard said.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="reference jobs need torch")

from click.testing import CliRunner

from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.cli import traceanalyzer

pytestmark = [pytest.mark.soak, pytest.mark.runs]

PIPELINE = ["pipeline", "--ranks", "4", "--microbatches", "8"]
REPLICAS = ["pipeline", "--stages", "2", "--replicas", "3", "--microbatches", "4"]
"""Three replicas: enough to tell a slow rank from a slow stage."""
COSTLY = [
    ("slow_stage:stage=1,factor=1.4", REPLICAS, "stage", {3, 4, 5}),  # whichever replica's rank bound the step
    ("slow_rank:rank=3,factor=1.4", REPLICAS, "straggler", {3}),
    ("stall:rank=2,ms=60,position=9", PIPELINE, "host", {2}),
    ("delay_link:source=1,target=2,ms=20", PIPELINE, "transfer", {1}),
    ("jitter:share=0.15", PIPELINE, "jitter", {0, 1, 2, 3}),
]


def run_of(folder: Path, options: list[str], *faults: str) -> Analysis:
    """A launched run, analysed in a copy beside which no truth lies."""
    planted = folder / "planted"
    arguments = ["run", *options, "--out", str(planted), "--steps", "3", "--compute", "paced"]
    result = CliRunner().invoke(traceanalyzer, [*arguments, *(word for fault in faults for word in ("--fault", fault))])
    assert result.exit_code == 0, result.output
    truth = folder / "planted.truth.json"
    assert [fault["kind"] for fault in json.loads(truth.read_text())["faults"]] == [f.partition(":")[0] for f in faults]
    truth.unlink()
    return analyze(read(shutil.copytree(planted, folder / "copy")))


Twins = Callable[[list[str]], tuple[float, float]]


@pytest.fixture(scope="module")
def clean_ms(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """Measured and ideal phase of the clean twin of a job, run when it is first asked for."""

    @cache
    def twin(*options: str) -> tuple[float, float]:
        # a clock that is off by nothing: the twin takes the same way through every line
        bubble = run_of(tmp_path_factory.mktemp("clean"), list(options), "clock:rank=0,ms=0").review.bubble
        assert bubble is not None
        assert bubble.attribution_ms is not None
        return bubble.attribution_ms.measured, bubble.attribution_ms.ideal

    return lambda options: twin(*options)


@pytest.mark.parametrize(("fault", "options", "cause", "ranks"), COSTLY)
def test_a_fault_that_costs_time_is_the_largest_cause_and_who_has_it_is_named(
    fault: str,
    options: list[str],
    cause: str,
    ranks: set[int],
    clean_ms: Twins,
    tmp_path: Path,
) -> None:
    review = run_of(tmp_path, options, fault).review
    assert review.bubble is not None
    found = review.bubble.attribution_ms
    assert found is not None
    measured, ideal = clean_ms(options)
    blamed, truth = getattr(found, cause), found.measured - measured
    first = review.bubble.culprits[0]
    print(
        f"| `{fault}` | {truth:.1f} ms | {first.cause} | {first.culprit} | {blamed:.1f} ms | {review.validity.verdict} |"
    )
    named = first.cause == cause and first.culprit in ranks
    if review.validity.verdict == "distorted" and not named:
        pytest.skip(f"the host distorted the run: {'; '.join(review.validity.reasons)}")
    assert named
    if review.validity.verdict != "distorted" and cause != "stage":  # a slow stage is part of the ideal's medians
        assert blamed == pytest.approx(truth, rel=0.15, abs=measured - ideal)


def test_a_hot_expert_rank_is_named_with_its_load(tmp_path: Path) -> None:
    options = ["experts", "--routing", "hot", "--hot-factor", "2.4", "--hot-rank", "2"]
    experts = run_of(tmp_path, options, "clock:rank=0,ms=0").review.all_to_all
    assert experts is not None
    ratio = experts.rank_load_max_over_mean
    print(
        f"| `--routing hot --hot-rank 2` | 2.4 × mean | slowest rank | {experts.slowest_rank} | {ratio:.4f} × mean | |"
    )
    assert experts.slowest_rank == 2
    assert ratio == pytest.approx(2.4, rel=0.01)


def test_a_missing_rank_is_missed(tmp_path: Path) -> None:
    review = run_of(tmp_path, PIPELINE, "missing:rank=3").review
    quality = review.quality
    print(
        f"| `missing:rank=3` | 1 of 4 | {quality.verdict} | | {quality.num_ranks_found} of {quality.num_ranks_expected} | |"
    )
    assert (quality.verdict, quality.num_ranks_found, quality.num_ranks_expected) == ("partial", 3, 4)
    assert review.bubble is None


def test_a_wrong_clock_is_found_and_moves_no_figure(tmp_path: Path) -> None:
    analysis = run_of(tmp_path, PIPELINE, "clock:rank=2,ms=40")
    clock = analysis.tables["clocks"].filter(analysis.tables["clocks"]["rank"] == 2)
    offset_ms = clock["offset_ns"][0] / 1e6
    assert analysis.review.bubble is not None
    share = analysis.review.bubble.measured_share
    print(
        f"| `clock:rank=2,ms=40` | 40 ms | clock offset | 2 | {offset_ms:.3f} ms | bubble {share:.4f} (theory 0.2727) |"
    )
    assert abs(offset_ms) == pytest.approx(40, abs=0.5)
    assert share == pytest.approx(3 / 11, rel=0.1)
