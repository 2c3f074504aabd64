"""Blame and worth on planted GPU traces: faults named right and priced like the clean twin says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import AttributionMs, Bubble

CLOCKS = {1: 3_000_000, 2: -3_000_000}
Longer = Callable[[Job, Faults], tuple[Bubble, float]]
CAUSES = [name for name in AttributionMs.__struct_fields__ if name not in ("measured", "ideal", "schedule")]


@pytest.fixture(scope="module")
def clean_bubble(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Job], Bubble]:
    """The bubble of a job without faults, measured once for all tests that compare with it."""

    @cache
    def measured(job: Job) -> Bubble:
        return bubble_of(job, Faults(), tmp_path_factory.mktemp("clean") / "run")

    return measured


def bubble_of(job: Job, faults: Faults, folder: Path) -> Bubble:
    folder.mkdir()
    plant(job, faults, folder)
    bubble = analyze(read(folder)).review.bubble
    assert bubble is not None
    assert bubble.attribution_ms is not None
    assert bubble.attribution_ms.unexplained <= 0.02 * bubble.attribution_ms.measured
    return bubble


@pytest.fixture
def longer_ms(clean_bubble: Callable[[Job], Bubble], tmp_path: Path) -> Longer:
    """The run with its faults, and how much longer its steps are than those of its clean twin."""

    def compared(job: Job, faults: Faults) -> tuple[Bubble, float]:
        clean, faulty = clean_bubble(job), bubble_of(job, faults, tmp_path / "faulty")
        assert clean.attribution_ms is not None
        assert faulty.attribution_ms is not None
        assert {each.cause for each in clean.culprits} == {"transfer"}  # planted links take their time, nothing else
        return faulty, faulty.attribution_ms.measured - clean.attribution_ms.measured

    return compared


JOBS = {
    "1F1B": Job(),
    "1F1B unlabelled": Job(labels=None, coalesced=True),
    "GPipe": Job(schedule="GPipe", labels="own"),
    "interleaved": Job(schedule="Interleaved1F1B", num_chunks=2),
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", JOBS)
def test_a_slow_stage_is_named_and_priced(name: str, longer_ms: Longer) -> None:
    faults = Faults(slow_compute={1: 1.3}, clock_offset_ns=CLOCKS)
    found, truth = longer_ms(JOBS[name], faults)
    assert (found.culprits[0].cause, found.culprits[0].culprit) == ("stage", 1)
    # A slow rank hides messages that its clean twin waits for: blame, which sums to the excess, is that much larger.
    assert found.culprits[0].ms == pytest.approx(truth, rel=0.12)
    assert found.worth[0].ms == pytest.approx(truth, rel=0.01)  # the replay without the fault is the clean twin
    assert found.worth[0].rank == 1 or found.worth[0].stage == 1


@pytest.mark.wide
@pytest.mark.parametrize("name", JOBS)
def test_a_slow_stage_is_weighed_where_messages_are_short(name: str, longer_ms: Longer) -> None:
    job = replace(JOBS[name], p2p_bytes=1 << 20)
    found, truth = longer_ms(job, Faults(slow_compute={2: 1.3}, clock_offset_ns=CLOCKS))
    assert (found.culprits[0].cause, found.culprits[0].culprit) == ("stage", 2)
    assert found.culprits[0].ms == pytest.approx(truth, rel=0.05)


@pytest.mark.wide
def test_a_straggler_is_distinguished_from_its_stage(longer_ms: Longer) -> None:
    found, truth = longer_ms(Job(pp=2, dp=3), Faults(slow_compute={4: 1.3}))
    assert found.stragglers_separable
    assert (found.culprits[0].cause, found.culprits[0].culprit) == ("straggler", 4)
    assert found.culprits[0].ms == pytest.approx(truth, rel=0.1)
    assert found.worth[0].ms == pytest.approx(truth, rel=0.1)
    assert found.worth[0].rank == 4


@pytest.mark.wide
def test_slow_links_are_transfer(longer_ms: Longer) -> None:
    found, truth = longer_ms(Job(), Faults(slow_link={2: 20}))
    assert found.attribution_ms is not None
    assert found.culprits[0].cause == "transfer"
    assert found.attribution_ms.transfer == pytest.approx(truth, rel=0.1)
    assert found.worth[0].ms == pytest.approx(truth, rel=0.1)


@pytest.mark.wide
@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", JOBS)
def test_a_host_stall_that_reaches_the_device_is_the_hosts(name: str, longer_ms: Longer) -> None:
    """Messages that queue on their stream behind one which the stalled rank keeps waiting are the stall's as well."""
    job = replace(JOBS[name], steps_ahead=0)
    stalls = {(2, step, 6): 60_000_000 for step in (1, 2)}
    found, truth = longer_ms(job, Faults(host_stall_ns=stalls, clock_offset_ns=CLOCKS))
    assert (found.culprits[0].cause, found.culprits[0].culprit) == ("host", 2)
    assert found.culprits[0].ms == pytest.approx(truth, rel=0.02)
    assert found.worth[0].ms == pytest.approx(truth, rel=0.01)
    assert found.worth[0].cause == "host"


@pytest.mark.wide
def test_a_stall_that_the_device_never_feels_costs_nothing(longer_ms: Longer) -> None:
    stalls = {(2, 1, 6): 5_000_000}
    found, truth = longer_ms(Job(), Faults(host_stall_ns=stalls))
    assert truth == 0
    assert {each.cause for each in found.culprits} == {"transfer"}


@pytest.mark.wide
def test_slow_exchanges_inside_chunks_are_distinguished_from_computation(
    clean_bubble: Callable[[Job], Bubble], tmp_path: Path
) -> None:
    job = Job(pp=4, dp=2, ep=2, moe_layers=2, p2p_bytes=1 << 10)
    clean = clean_bubble(job)
    found = bubble_of(job, Faults(slow_link={4: 8, 5: 8}, clock_offset_ns=CLOCKS), tmp_path / "faulty")
    assert clean.attribution_ms is not None
    assert found.attribution_ms is not None
    truth = found.attribution_ms.measured - clean.attribution_ms.measured
    assert found.culprits[0].cause == "chunk_comm"
    assert found.culprits[0].stages == [2]
    assert found.culprits[0].ms == pytest.approx(truth, rel=0.05)
    assert found.worth[0].cause == "chunk_comm"
    assert found.worth[0].ms == pytest.approx(truth, rel=0.05)
    assert abs(found.attribution_ms.stage) < 0.02 * truth


@pytest.mark.wide
@pytest.mark.sweep(1)
@pytest.mark.parametrize(("factor", "named"), [(1.3, ["host", "stage"]), (2.5, ["stage", "host"])])
def test_of_two_faults_the_larger_is_named_first_and_the_sum_is_exact(
    factor: float, named: list[str], clean_bubble: Callable[[Job], Bubble], tmp_path: Path
) -> None:
    """Each is the larger against the twin alone as well; together all causes make up what the steps are longer."""
    job = Job(p2p_bytes=1 << 20, steps_ahead=0)
    stalls = {(1, step, 6): 60_000_000 for step in (1, 2)}
    slow, both = {1: factor}, tmp_path / "both"
    clean = clean_bubble(job).attribution_ms
    found = bubble_of(job, Faults(slow_compute=slow, host_stall_ns=stalls, clock_offset_ns=CLOCKS), both)
    assert clean is not None
    assert found.attribution_ms is not None
    longer = found.attribution_ms.measured - clean.measured
    assert [(each.cause, each.culprit) for each in found.culprits[:2]] == [(cause, 1) for cause in named]
    assert sum(each.ms for each in found.culprits[:2]) == pytest.approx(longer, rel=0.01)
    every = sum(each.ms for each in found.culprits) - sum(getattr(clean, cause) for cause in CAUSES)
    assert every == pytest.approx(longer - (found.attribution_ms.ideal - clean.ideal), abs=1e-9)
    alone = {
        "stage": bubble_of(job, Faults(slow_compute=slow), tmp_path / "slow"),
        "host": bubble_of(job, Faults(host_stall_ns=stalls), tmp_path / "stalled"),
    }
    costs = {cause: each.attribution_ms.measured for cause, each in alone.items() if each.attribution_ms}
    assert costs[named[0]] > costs[named[1]] > clean.measured


@pytest.mark.wide
def test_what_faster_computation_saves_is_withheld_where_pipelines_wait_for_each_other_inside_actions(
    tmp_path: Path,
) -> None:
    slow = Faults(slow_compute={2: 1.3})
    for ep in (1, 2):
        plant(Job(pp=3, dp=2, ep=ep, moe_layers=int(ep > 1)), slow, tmp_path / str(ep))
        review = analyze(read(tmp_path / str(ep))).review
        assert review.bubble is not None
        assert review.bubble.worth
        causes = {each.cause for each in review.bubble.worth}
        withheld = {each.metric for each in review.quality.withheld}
        assert ("stage" in causes) == (ep == 1)
        assert ("bubble.worth.computation" in withheld) == (ep == 2)
        assert [each.rank for each in review.findings if each.id == "ranks.computation"] == [2]
        assert "pipeline.stage" not in {each.id for each in review.findings if not each.passed}
