"""Every figure covers the typical steps, and the others have a price."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from planted.step_loop import Loop

from reports import text
from traceanalyzer.analysis.assemble import Analysis, analyze, read


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
    assert (review.headline.tiles[-1].gap_text or "").startswith("3 of 4 steps captured")
    shown = " ".join(text(review, analysis.tables).split())
    assert "Typical 3 of 4 captured" in shown
    assert "step lasts beyond the median why 0 30.0 ms 19.8 ms first step" in shown
    assert not [finding for finding in review.findings if finding.id == "steps.periodic"]


def test_steps_of_which_none_is_usual_are_said_to_differ(tmp_path: Path) -> None:
    review = run(tmp_path, [2, 2, 14, 14.5, 14.2]).review
    assert review.step.set_apart == []
    assert review.headline.tiles[-1].gap_text == "5 steps captured, of 2.00 ms to 14.5 ms"
    assert "of its step, 9.35 ms on average (2.00 ms to 14.5 ms)" in review.headline.sentences[0]


def test_a_shorter_first_step_is_a_warm_up_where_it_skips_its_update(tmp_path: Path) -> None:
    for skips, expected in ((True, [0]), (False, [])):
        loop = Loop()
        for number in range(4):
            with loop.range(f"train_step_{number}"):
                loop.pass_through(6, 60 if number == 0 else 300)
                if number or not skips:
                    loop.update(length=400)
            loop.wait()
        review = analyze(read(loop.write(tmp_path / str(skips)))).review
        assert [each.step for each in review.step.set_apart] == expected
        assert [each.reason for each in review.step.set_apart] == ["first step"] * len(expected)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("idles_first", [True, False])
def test_a_first_step_that_lacks_the_time_before_its_first_kernel_was_cut(*, idles_first: bool, tmp_path: Path) -> None:
    loop = Loop()
    for number in range(4):
        with loop.range(f"train_step_{number}"):
            loop.now += 3000 if idles_first else 0
            loop.pass_through(4, 300)
            loop.update()
            loop.wait()
            loop.now += 0 if idles_first else 3000
    review = analyze(read(loop.write(tmp_path))).review
    assert [(each.step, each.reason, each.excess_ms) for each in review.step.set_apart] == [
        (0, "cut at its start", None)
    ]
    assert review.step.duration_ms.values == pytest.approx([5.8] * 3, rel=0.02)


def test_steps_whose_numbers_a_rank_repeats_have_their_own_lengths(tmp_path: Path) -> None:
    loop = Loop()
    for number in (7, 8, 8, 9):
        with loop.range(f"ProfilerStep#{number}"):
            loop.pass_through(4, 300)
            loop.update()
        loop.wait()
    steps = analyze(read(loop.write(tmp_path))).tables["steps"]
    assert steps.select(pl.col("end_ns") - pl.col("start_ns")).to_series().to_list() == pytest.approx(
        [2.8e6] * 4, rel=0.03
    )


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
