"""What findings say of uneven loads."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from traceanalyzer.gaps.checks.check import Judged
from traceanalyzer.gaps.checks.registry import findings
from traceanalyzer.review import AllToAll, AllToAllTheory, ExpertWorth, HotSpot, LoadFigures, ValidityFigures


def uneven(padded_share: float | None, saved_ms: float) -> AllToAll:
    theory = AllToAllTheory(
        balanced_max_over_mean=1.0,
        chance_rank=1.05,
        chance_rank_low=1.0,
        chance_rank_high=1.1,
        chance_expert=None,
        chance_expert_low=None,
        chance_expert_high=None,
        chance_coverage=0.98,
        combine_wait_ms=None,
        time_per_token_us=None,
    )
    return AllToAll(
        groups=[],
        wait_share=None,
        transfer_share=None,
        exposed_share=None,
        rank_load_max_over_mean=1.25,
        expert_load_max_over_mean=None,
        chance_max_over_mean=1.05,
        slowest_rank=2,
        imbalance_cost_ms=None,
        imbalance_cost_spread_ms=None,
        bus_bandwidth_gbps=None,
        loads_source="side_file",
        theory=theory,
        padded_rows=None if padded_share is None else 100,
        padded_share=padded_share,
        worth=[ExpertWorth(remedy="balanced_experts", ms=saved_ms)],
    )


def judged(all_to_all: AllToAll, step_ms: float) -> Judged:
    unknown = ValidityFigures(
        verdict="unknown", cpu_pressure_share=None, involuntary_switches_per_second=None, action_spread=None, reasons=[]
    )
    return Judged(validity=unknown, all_to_all=all_to_all, step_ms=step_ms)


@pytest.mark.parametrize(
    ("padded_share", "saved_ms", "levelled"),
    [(0.25, 0.1, True), (None, 0.1, False), (0.05, 0.1, False), (0.25, 40.0, False)],
    ids=["filled up", "no padding", "too little padding to level", "time follows tokens all the same"],
)
def test_uneven_tokens_in_filled_up_buffers_are_reported_as_padding(
    padded_share: float | None, saved_ms: float, *, levelled: bool
) -> None:
    (found,) = [
        item for item in findings(judged(uneven(padded_share, saved_ms), 400.0)) if item.id == "experts.balanced"
    ]
    assert not found.passed
    assert found.worth_ms == saved_ms
    assert ("padding evens" in found.title) == levelled
    assert ("follows rows" in found.evidence) == levelled
    assert found.action is not None
    assert ("lower the capacity" in found.action) == levelled


@pytest.mark.parametrize(("ratio", "passed"), [(1.04, True), (1.3, False)], ids=["may be chance", "beyond it"])
def test_without_the_number_of_experts_a_small_ratio_is_no_fault(ratio: float, *, passed: bool) -> None:
    figures = replace(uneven(None, 9.0), theory=None, rank_load_max_over_mean=ratio)
    (found,) = [item for item in findings(judged(figures, 400.0)) if item.id == "experts.balanced"]
    assert (found.passed, found.worth_ms) == (passed, None if passed else 9.0)
    assert "what chance alone gives is not known" in found.evidence


@pytest.mark.parametrize(("ratio", "passed"), [(1.08, True), (1.7, False)], ids=["nearly even", "one source has more"])
def test_a_source_with_more_tokens_than_its_peers_is_named(ratio: float, *, passed: bool) -> None:
    sent = LoadFigures(
        unit="rank", side="sent", max_over_mean=ratio, max_vio=ratio - 1, cv=0, gini=0, entropy_share=1, num_idle=0
    )
    figures = replace(uneven(None, 9.0), loads=[sent], fullest_source=5)
    (found,) = [item for item in findings(judged(figures, 400.0)) if item.id == "experts.sources"]
    assert (found.passed, found.rank) == (passed, None if passed else 5)
    assert ("rank 5" in found.evidence) == (not passed)


def test_bursts_and_idle_experts_are_told_with_the_load() -> None:
    spot = HotSpot(layer=0, group=[0, 1], unit="rank", hottest=1, persistent_share=1.0, pattern="bursts", bursts=[7])
    figures = replace(uneven(None, 9.0), hot_spots=[spot], idle_experts=[3, 4])
    (found,) = [item for item in findings(judged(figures, 400.0)) if item.id == "experts.balanced"]
    assert found.evidence.endswith("nearly all of it in step 7; no token visits experts 3, 4")
    assert found.action is not None
    assert found.action.startswith("step 7 alone")


@pytest.mark.parametrize(
    ("hottest", "named"),
    [([], 2), ([3, 1, 3], 3)],
    ids=["loads of single ranks are not known", "hottest in most layers"],
)
def test_the_rank_to_relieve_is_the_fullest_one_not_the_slowest(hottest: list[int], named: int) -> None:
    spots = [
        HotSpot(layer=at, group=[0, 1, 2, 3], unit="rank", hottest=rank, persistent_share=1.0, pattern="steady")
        for at, rank in enumerate(hottest)
    ]
    found = findings(judged(replace(uneven(None, 40.0), hot_spots=spots), 400.0))
    load = next(each for each in found if "load" in each.title and not each.passed)
    assert load.rank == named
    assert f"rank {named}" in (load.action or "")
