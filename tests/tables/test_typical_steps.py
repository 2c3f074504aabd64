"""One set of typical steps: which they are, that every figure speaks of them, and the price of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from msgspec import to_builtins
from step_loop import Loop
from traceanalyzer.cli.text.review import review_text

from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.measurements.capture.noise import step_noise
from traceanalyzer.schema import STEPS, conform
from traceanalyzer.tables.steps.typical import typical_steps, with_typical


def windows(*lengths: float, num_ranks: int = 2, **flags: list[int]) -> pl.DataFrame:
    """Steps of these lengths on every rank; `flags` names steps with `open_start` or `open_end`."""
    at, rows = 0, []
    for step, length in enumerate(lengths):
        end = at + round(length * 1e6)
        marks = {name: step in steps for name, steps in flags.items()}
        rows += [
            {"rank": r, "step": step, "start_ns": at, "end_ns": end, "open_end": False, **marks}
            for r in range(num_ranks)
        ]
        at = end
    return conform(pl.DataFrame(rows), STEPS)


def apart(frame: pl.DataFrame, *, chosen: bool = False) -> dict[int, str]:
    marked = with_typical(frame, chosen=chosen)
    assert (marked["is_typical"] == marked["set_apart"].is_null()).all()
    return dict(marked.filter(pl.col("set_apart").is_not_null()).select("step", "set_apart").unique().iter_rows())


NINE = (80, 81, 80, 79, 80, 82, 80, 81, 80)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((145,), {}),
        ((386, 145, 147), {0: "first step"}),
        ((180, 145, 147), {}),  # 23% off
        ((145, 147, 386), {}),  # of few steps only the first may be a warm-up
        ((60, 145, 147), {0: "first step"}),
        ((300, 145), {0: "first step"}),
        ((100, 145), {}),  # of two nobody knows which is usual
        ((*NINE, 120), {9: "outlier"}),
        ((200, *NINE), {0: "first step"}),
        ((*NINE, 83.9), {}),  # within 5%, though far beyond the spread
        ((*NINE, 120, 121), {}),  # more than a tenth: they are the run
        ((50, 90, 70, 110, 60, 100, 80, 95, 105, 130), {}),  # the spread itself is wide
        ((*NINE, *NINE, 130, 40), {18: "outlier", 19: "outlier"}),
    ],
)
def test_steps_are_set_apart_by_length(lengths: tuple[float, ...], expected: dict[int, str]) -> None:
    assert apart(windows(*lengths)) == expected
    assert typical_steps(with_typical(windows(*lengths))) == [
        step for step in range(len(lengths)) if step not in expected
    ]


def test_only_whole_steps_are_compared() -> None:
    cut = windows(30, 80, 81, 80, 5, open_start=[0], open_end=[4])
    assert apart(cut) == {0: "cut at its start", 4: "open end"}
    assert apart(windows(80, open_end=[0])) == {}  # the only step stays
    lacking = windows(80, 80, 80).filter(~((pl.col("rank") == 1) & (pl.col("step") == 0)))
    assert apart(lacking) == {0: "not on all ranks"}
    assert apart(windows(386, 145, 147), chosen=True) == {}


def run(folder: Path, lengths: list[float]) -> Analysis:
    """A loop on a device whose steps last this long, in milliseconds."""
    loop = Loop()
    for number, length in enumerate(lengths):
        with loop.range(f"ProfilerStep#{number}"):
            loop.pass_through(4, 100 * length)
            loop.update(length=200 * length)
        loop.wait()
    return analyze(read(loop.write(folder)))


def test_every_figure_speaks_of_the_typical_steps(tmp_path: Path) -> None:
    analysis = run(tmp_path, [30, 10, 10.4, 10.2])
    review = analysis.review
    assert review.step.duration_ms.num_steps == review.quality.num_steps_used == 3
    assert review.step.num_captured == 4
    assert [each.step for each in review.step.set_apart] == [0]
    ledger = sum(row.ms for row in review.accounting.owners)
    assert ledger == pytest.approx(np.mean(review.step.duration_ms.values))
    assert sum(row.ms for row in review.accounting.phases) == pytest.approx(ledger)
    assert analysis.tables["steps"].height == 4
    owned = analysis.tables["accounting"].group_by("step").agg(pl.col("duration_ns").sum()).sort("step")
    assert owned["duration_ns"].to_list() == (
        analysis.tables["steps"].sort("step").select(pl.col("end_ns") - pl.col("start_ns")).to_series().to_list()
    )
    assert review.step.set_apart_cost_ms == pytest.approx((30 - 10.2) / 4, rel=0.02)
    assert review.step.mean_all_ms == pytest.approx((30 + 10 + 10.4 + 10.2) / 4, rel=0.02)
    assert (review.headline.tiles[3].gap_text or "").startswith("3 of 4 steps captured")
    assert "set apart: step 0, 30.0" in review_text(to_builtins(review))
    assert not [finding for finding in review.findings if finding.id == "steps.periodic"]


def test_chosen_steps_are_all_spoken_of(tmp_path: Path) -> None:
    path = tmp_path / "traces"
    run(path, [30, 10, 10.4, 10.2])
    review = analyze(read(path, steps=[0, 1, 2])).review
    assert review.step.duration_ms.num_steps == 3
    assert review.step.set_apart == []


def test_steps_that_are_longer_at_a_fixed_distance_are_a_finding(tmp_path: Path) -> None:
    lengths = [4.0 + 0.01 * (n % 3) for n in range(25)]
    for step in (7, 19):
        lengths[step] = 9.0
    review = run(tmp_path, lengths).review
    assert [each.step for each in review.step.set_apart] == [7, 19]
    found = next(finding for finding in review.findings if finding.id == "steps.periodic")
    assert found.title == "Two steps, 12 apart, take longer"
    assert found.worth_ms == pytest.approx(2 * 5.0 / 25, rel=0.03)
    assert review.step.set_apart_cost_ms == pytest.approx(found.worth_ms)
    lengths[21] = 9.0  # no fixed distance, and more than a tenth
    often = [4.0] * 32
    for step in (3, 13, 23):
        often[step] = 7.0
    titles = [finding.title for finding in run(tmp_path / "often", often).review.findings]
    assert "One step in 10 takes longer" in titles
    irregular = run(tmp_path / "irregular", lengths).review
    assert not [finding for finding in irregular.findings if finding.id == "steps.periodic"]


def test_noise_is_half_the_bootstrap_interval_of_the_median() -> None:
    values = np.random.default_rng(5).normal(100.0, 4.0, 41)
    found = step_noise(values.tolist())
    assert found is not None
    assert not found.is_assumed
    drawn = np.random.default_rng(99).choice(values, (20_000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    assert found.half_width_ns == pytest.approx((high - low) / 2, rel=0.1)
    assert step_noise(values[::-1].tolist()) == found


@pytest.mark.parametrize("num", [1, 4])
def test_noise_of_few_steps_is_assumed_and_said(num: int) -> None:
    found = step_noise([90.0, 110.0, 90.0, 110.0][-num:])
    assert found is not None
    assert found.is_assumed
    assert found.half_width_ns == pytest.approx({1: 2.2, 4: 2.0}[num])
    assert found.basis.startswith("2% of the median assumed")


def test_equal_steps_have_no_noise() -> None:
    found = step_noise([7.0] * 5)
    assert found is not None
    assert (found.half_width_ns, found.is_assumed) == (0.0, False)
    assert step_noise([]) is None
