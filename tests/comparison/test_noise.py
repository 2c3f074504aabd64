"""What difference counts as chance."""

from __future__ import annotations

import msgspec
import pytest
from report_cases import pipeline_case

from reports.comparison import comparison_text
from traceanalyzer.comparison.compare import compare
from traceanalyzer.comparison.noise import limit_of, run_floor
from traceanalyzer.comparison.side import Side, lower_median


def of_steps(*ms: float) -> Side:
    found = pipeline_case()[0]
    duration = msgspec.structs.replace(found.step.duration_ms, values=list(ms), num_steps=len(ms))
    step = msgspec.structs.replace(found.step, duration_ms=duration)
    return Side("run", msgspec.structs.replace(found, step=step), {})


def test_the_median_is_of_a_real_step() -> None:
    assert lower_median([5, 1, 9, 7]) == 5
    assert lower_median([]) is None


def test_the_floor_is_assumed_set_or_seen() -> None:
    runs = [of_steps(*[ms] * 5) for ms in (100.0, 101.0, 99.0)]
    assert run_floor(runs[:1], None).share == 0.01
    assert run_floor(runs[:1], 0.03).share == 0.03
    assert run_floor([of_steps(100), of_steps(103)], None).share == pytest.approx(3 / 101.5)
    seen = run_floor(runs, None)  # t(2) · s · √(1 + 1/3) over the median
    assert seen.share == pytest.approx(4.30 * 1.0 * (4 / 3) ** 0.5 / 100)
    assert "3 base runs" in seen.basis


def test_few_steps_are_assumed_to_vary_and_said_to() -> None:
    limit = limit_of(of_steps(100, 100), of_steps(100, 100), run_floor([], None))
    assert limit is not None
    assert limit.ns == pytest.approx(100e6 * 0.02 * 2**0.5, rel=1e-6)
    assert "2 steps and 2 steps" in limit.basis


def test_steps_that_scatter_widen_the_limit() -> None:
    quiet, loud = of_steps(*[100.0] * 6), of_steps(90, 95, 100, 105, 110, 115)
    floor = run_floor([quiet], None)
    narrow, wide = limit_of(quiet, quiet, floor), limit_of(quiet, loud, floor)
    assert narrow is not None
    assert wide is not None
    assert narrow.ns == 1_000_000
    assert wide.ns > 5_000_000


def test_a_comparison_says_first_whose_host_distorted_its_run() -> None:
    clean = pipeline_case()[0]
    clean = msgspec.structs.replace(
        clean, validity=msgspec.structs.replace(clean.validity, verdict="faithful", reasons=[])
    )
    bad = msgspec.structs.replace(
        clean,
        validity=msgspec.structs.replace(clean.validity, verdict="distorted", reasons=["tasks waited for a core"]),
    )
    for new, told in ((bad, True), (clean, False)):
        found = compare(Side("base", clean, {}), [Side("busy", new, {})])
        assert ("The host distorted busy" in comparison_text(found, 120)) is told
        assert bool(found.runs[1].distorted) is told


def test_a_change_that_a_busy_host_may_have_made_is_not_claimed() -> None:
    def side(path: str, ms: float, *reasons: str) -> Side:
        review = of_steps(*[ms] * 6).review
        verdict = "distorted" if reasons else "faithful"
        validity = msgspec.structs.replace(review.validity, verdict=verdict, reasons=list(reasons))
        return Side(path, msgspec.structs.replace(review, validity=validity, kernels=None), {})

    (busy,) = compare(side("base", 100), [side("busy", 117, "equal actions vary by 9%")]).pairs
    (quiet,) = compare(side("base", 100), [side("quiet", 117)]).pairs
    (same,) = compare(side("base", 100), [side("busy", 100.5, "equal actions vary by 9%")]).pairs
    assert (busy.verdict, quiet.verdict, same.verdict) == ("unknown", "slower", "noise")
    assert "the host disturbed busy (equal actions vary by 9%)" in busy.sentences[0]


def test_shares_change_by_points() -> None:
    review = of_steps(*[100.0] * 6).review
    bubble = review.bubble
    assert bubble is not None
    assert bubble.measured_share is not None
    more = msgspec.structs.replace(bubble, measured_share=bubble.measured_share + 0.0321)
    found = compare(Side("a", review, {}), [Side("b", msgspec.structs.replace(review, bubble=more), {})])
    assert "+3.21 points" in comparison_text(found, 120)
