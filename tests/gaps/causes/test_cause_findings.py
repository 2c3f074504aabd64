"""What the causes of long steps read like."""

from __future__ import annotations

from typing import Any

import pytest

from reports.sections.findings import worth
from reports.sections.pipeline.causes import cause_grid
from traceanalyzer.analysis.first_screen.story import story_sentences
from traceanalyzer.gaps.checks.check import Judged
from traceanalyzer.gaps.checks.registry import findings, with_mfu_points
from traceanalyzer.review import AttributionMs, Bubble, Culprit, Finding, RemedyWorth, ValidityFigures, WhatIfFigures
from traceanalyzer.schema import CAUSE

NOTHING = dict.fromkeys(CAUSE.categories, 0.0)
UNKNOWN = ValidityFigures(
    verdict="unknown", cpu_pressure_share=None, involuntary_switches_per_second=None, action_spread=None, reasons=[]
)


def bubble_of(
    causes: dict[str, float], culprits: list[Culprit], worth: list[RemedyWorth], *, separable: bool = True
) -> Bubble:
    measured = 100 + sum(causes.values())
    return Bubble(
        measured_share=None, measured_ratio=None, span_share=None, idle_share=None, transfer_share=None, share_of_step=None,
        overhead_share=None, phase_ms=None, theory=None, stages=[], steps=[],
        attribution_ms=AttributionMs(measured=measured, ideal=100, schedule=30, **(NOTHING | causes)),
        culprits=culprits, worth=worth, replay_error=0.001, stragglers_separable=separable,
    )  # fmt: skip


def culprit(cause: str, rank: int | None, stages: list[int], ms: float) -> Culprit:
    return Culprit(cause=cause, culprit=rank, stages=stages, ms=ms)


def remedy(cause: str, ms: float, **who: Any) -> RemedyWorth:
    return RemedyWorth(remedy=f"mend {cause}", cause=cause, rank=who.get("rank"), stage=who.get("stage"), ms=ms)


def cause_findings(bubble: Bubble | None) -> list[Finding]:
    return findings(Judged(validity=UNKNOWN, bubble=bubble))


def by_id(bubble: Bubble) -> dict[str, Finding]:
    return {each.id: each for each in cause_findings(bubble)}


def test_a_slow_stage_fails_with_its_worth() -> None:
    culprits = [culprit("stage", 4, [1], 12), culprit("stage", 5, [1], 8), culprit("host", 2, [0], 0.5)]
    bubble = bubble_of({"stage": 20, "host": 0.5}, culprits, [remedy("stage", 19, stage=1), remedy("stage", 9)])
    found = by_id(bubble)
    assert not found["pipeline.stage"].passed
    assert found["pipeline.stage"].worth_ms == 19
    assert "20.0 ms of it by stage 1" in found["pipeline.stage"].evidence
    assert found["pipeline.host"].passed
    assert found["pipeline.host"].worth_ms is None
    told = story_sentences(cause_findings(bubble), 130.0, 0.65)
    assert told == ["Stage 1 computes longer than the other stages: this costs 19.0 ms of a step of 130 ms (14.6%)."]


def test_without_replicas_rank_and_stage_are_not_separated() -> None:
    bubble = bubble_of({"stage": 20}, [culprit("stage", 1, [1], 20)], [], separable=False)
    found = by_id(bubble)
    assert "pipeline.straggler" not in found
    assert "not separable" in found["pipeline.stage"].evidence
    assert found["pipeline.stage"].rank == 1


def test_small_causes_make_no_sentence() -> None:
    small = cause_findings(bubble_of({"host": 0.5}, [culprit("host", 2, [0], 0.5)], []))
    nobody = "No rank, stage or host holds up the others by more than 650 µs of a step of 130 ms (0.50%)."
    assert story_sentences(small, 130.0, 0.65) == [nobody]
    assert story_sentences([], 130.0, 0.65) == []
    assert story_sentences(small, None, None) == []
    assert cause_findings(None) == []


def test_worth_in_mfu_points_is_work_over_a_shorter_step() -> None:
    bubble = bubble_of({"host": 20}, [culprit("host", 2, [0], 20)], [remedy("host", 20, rank=2)])
    points = {each.id: each.worth_mfu_points for each in with_mfu_points(cause_findings(bubble), 0.4, 120.0)}
    assert points["pipeline.host"] == pytest.approx(100 * (0.4 * 120 / 100 - 0.4))  # the same work in 100 ms
    assert points["pipeline.stage"] is None
    assert with_mfu_points(cause_findings(bubble), None, 120.0)[0].worth_mfu_points is None


def test_the_text_closes_and_names_who_was_not_captured() -> None:
    culprits = [culprit("outside_sample", None, [], 7), culprit("jitter", 3, [1], 3)]
    bubble = bubble_of({"outside_sample": 7, "jitter": 3}, culprits, [remedy("jitter", 2)])
    assert bubble.attribution_ms is not None
    grid = cause_grid(bubble.attribution_ms, bubble.culprits)
    assert grid is not None
    assert grid.rows == (
        ("measured phase", "110 ms", ""),
        ("ideal", "100 ms", "computation 70.0 ms + bubble of the schedule 30.0 ms"),
        ("outside sample", "+7.00 ms", "not captured +7.00 ms"),
        ("jitter", "+3.00 ms", "rank 3 +3.00 ms"),
    )
    remedies = worth(bubble)
    assert remedies is not None
    assert remedies.rows == (("mend jitter", "2.00 ms"),)
    assert worth(None) is None


@pytest.mark.parametrize(("share", "stages", "told"), [(0.5, 2, True), (0.001, 2, False), (0.5, 1, False)])
def test_the_what_if_study_is_told_beside_a_slow_stage(share: float, stages: int, *, told: bool) -> None:
    """Half of the 40 ms between replay and ideal; what is below the limit, and a lone stage, make no sentence."""
    study = WhatIfFigures(
        slowdown=1.4, waste_share=0.3, replay_error=0.0, max_replay_error=0.0, measured_ms=140.0, replayed_ms=140.0,
        ideal_ms=100.0, by_kind={}, by_stage=dict.fromkeys(range(stages), 1.1), by_replica={}, by_rank={},
        slowest_workers_share=None, last_stage_share=share, launch_slowdown=1.0, launches_by_kind={}, launched_replay_error=0.0,
    )  # fmt: skip
    sentences = story_sentences([], 140.0, 0.7, study=study)
    assert ("steps would be 20.0 ms shorter (14.3%" in "".join(sentences)) == told
    assert bool(sentences) == told


def test_no_host_is_judged_where_no_launch_was_recorded() -> None:
    judged = Judged(
        validity=UNKNOWN, bubble=bubble_of({"host": 0.5}, [culprit("host", 2, [0], 0.5)], []), sees_launches=False
    )
    found = findings(judged)
    assert "pipeline.host" not in {each.id for each in found}
    nobody = "No rank or stage holds up the others by more than 650 µs of a step of 130 ms (0.50%)."
    assert story_sentences(found, 130.0, 0.65) == [nobody]


def test_what_the_path_of_blame_gains_is_no_cost() -> None:
    bubble = bubble_of({"stage": -9, "jitter": -0.2}, [], [remedy("stage", 7, stage=1)])
    found = {
        each.id: each
        for each in findings(Judged(validity=UNKNOWN, bubble=bubble, step_ms=100.0, stages={0: [0], 1: [1]}))
    }
    stage = found["pipeline.stage"]
    assert not stage.passed
    assert stage.statement == "stage 1 computes longer than the other stage"
    assert "adds" not in stage.evidence
    assert "finds nothing" in stage.evidence
    assert found["pipeline.jitter"].evidence == "adds nothing to a phase of 90.8 ms"
