"""Pairs of planted runs that differ by one thing: named first, sized like the clean twin says, and silence without one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from inputs.planted_changes import CHANCE, EXPERTS, PIPELINE, PLANTINGS, REPLICAS, true_change_ns
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.comparison.compare import compare
from traceanalyzer.comparison.places import matched_ranks
from traceanalyzer.comparison.record import Comparison, Pair
from traceanalyzer.comparison.side import Side
from traceanalyzer.errors import UsageError


@cache
def side(index: str, job: Job, seed: int, **faults: object) -> Side:
    return made(job, replace(CHANCE, seed=seed, **faults), index)  # type: ignore[arg-type]


def made(job: Job, faults: Faults, name: str) -> Side:
    with TemporaryDirectory() as folder:
        plant(job, faults, Path(folder))
        found = analyze(read(folder))
    return Side(name, found.review, found.tables)


def closes(pair: Pair) -> None:
    """Every waterfall leads from the old step to the new, and the changes sum to the difference."""
    assert sum(each.change_ns for each in pair.changes) == pair.change_ns
    for view in pair.waterfalls:
        assert view.new_ns - view.base_ns == pair.change_ns
        assert view.base_ns + sum(line.change_ns for line in view.lines) == view.new_ns
        if view.by != "cause":
            assert sum(line.base_ns for line in view.lines) == view.base_ns
            assert sum(line.new_ns for line in view.lines) == view.new_ns


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", PLANTINGS)
def test_a_change_is_named_first_and_sized(name: str) -> None:
    planting, chance = PLANTINGS[name], replace(CHANCE, seed=11)
    new = made(*planting.changed(planting.job, chance), "new")
    (pair,) = compare(side("base", planting.job, 0), [new]).pairs
    first = pair.changes[0]
    assert (first.kind, tuple(first.ranks)) == (planting.kind, planting.ranks)
    assert planting.word in pair.sentences[0]
    assert first.change_ns == pytest.approx(true_change_ns(planting, chance), rel=0.05)
    assert pair.verdict == ("faster" if first.change_ns < 0 else "slower")
    assert all(each.is_noise for each in pair.changes[1:])
    closes(pair)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", PLANTINGS)
@pytest.mark.parametrize("kept", [(), ("base",)], ids=["two reviews", "tables of one side"])
def test_reviews_alone_name_and_size_it_too(name: str, kept: tuple[str, ...]) -> None:
    """Of a kernel they know only that computation takes longer."""
    planting, chance = PLANTINGS[name], replace(CHANCE, seed=12)
    base, new = side("base", planting.job, 0), made(*planting.changed(planting.job, chance), "new")
    sides = [each if each.path in kept else Side(each.path, each.review, {}) for each in (base, new)]
    (pair,) = compare(sides[0], [sides[1]]).pairs
    first = pair.changes[0]
    assert first.kind == ("computation" if planting.kind == "kernel" else planting.kind)
    assert tuple(first.ranks) == planting.ranks or planting.kind == "expert_load"
    assert first.change_ns == pytest.approx(true_change_ns(planting, chance), rel=0.05)
    assert all(each.is_noise for each in pair.changes[1:] if each.kind != "unexplained")
    closes(pair)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("job", "rank", "factor"),
    [
        (Job(pp=2, num_microbatches=3, num_steps=5), 1, 1.3),
        (Job(pp=2, num_microbatches=8, num_steps=5), 0, 1.07),
        (Job(pp=5, num_microbatches=9, num_steps=5), 4, 1.2),
        (Job(pp=4, num_microbatches=6, num_steps=5), 0, 1.07),
    ],
    ids=["two stages", "two stages, a little", "last of five", "first of four"],
)
def test_one_stage_is_sized_by_reviews_whatever_the_median_does(job: Job, rank: int, factor: float) -> None:
    planting = replace(PLANTINGS["stage 2 computes 10% longer"], job=job)
    chance = replace(CHANCE, seed=1)
    base, new = side("base", job, 0), made(job, replace(chance, slow_compute={rank: factor}), "new")
    truth = true_change_ns(
        replace(planting, changed=lambda of, by: (of, replace(by, slow_compute={rank: factor}))), chance
    )
    (pair,) = compare(Side("base", base.review, {}), [Side("new", new.review, {})]).pairs
    assert (pair.changes[0].kind, pair.changes[0].ranks) == ("stage", [rank])
    assert pair.changes[0].change_ns == pytest.approx(truth, rel=0.05)
    assert all(each.is_noise for each in pair.changes[1:] if each.kind != "unexplained")
    closes(pair)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("job", [PIPELINE, REPLICAS, EXPERTS], ids=["pipeline", "replicas", "experts"])
def test_a_clean_repeat_is_noise(job: Job) -> None:
    found = compare(side("base", job, 0), [side("again", job, 5)])
    (pair,) = found.pairs
    assert pair.verdict == "noise"
    assert all(each.is_noise for each in pair.changes)
    assert found.sentences[0].startswith("The step did not change by more than noise")
    closes(pair)


@pytest.mark.wide
def test_what_was_repaired_is_named_too() -> None:
    slow = made(PIPELINE, replace(CHANCE, seed=2, slow_compute={2: 1.15}), "slow")
    (pair,) = compare(slow, [side("base", PIPELINE, 0)]).pairs
    assert pair.verdict == "faster"
    assert "stage 2 (rank 2) computes for" in pair.sentences[0]
    assert "less time, which takes off" in pair.sentences[0]


def test_two_changes_are_told_in_their_order() -> None:
    both = made(PIPELINE, replace(CHANCE, seed=3, slow_compute={2: 1.2}, slow_link={0: 6.0}), "both")
    (pair,) = compare(side("base", PIPELINE, 0), [both]).pairs
    assert [(each.kind, each.ranks) for each in pair.changes[:2]] == [("stage", [2]), ("link", [0, 1])]
    assert pair.sentences[1].startswith("Next: transfers between ranks 0 and 1")
    closes(pair)


@pytest.mark.wide
def test_a_pause_of_a_host_is_its_hosts() -> None:
    job = replace(PIPELINE, steps_ahead=0)
    stalls = {(1, step, 5): 30_000_000 for step in range(1, job.num_steps + 1)}
    late = made(job, replace(CHANCE, seed=4, host_stall_ns=stalls), "late")
    (pair,) = compare(made(job, CHANCE, "base"), [late]).pairs
    assert (pair.changes[0].kind, pair.changes[0].ranks) == ("host", [1])


@pytest.mark.wide
def test_other_microbatches_do_not_hide_a_slow_stage() -> None:
    new = made(replace(PIPELINE, num_microbatches=4), replace(CHANCE, seed=6, slow_compute={1: 1.2}), "new")
    (pair,) = compare(side("base", PIPELINE, 0), [new]).pairs
    assert [each.kind for each in pair.changes[:2]] == ["configuration", "stage"]
    assert pair.changes[1].ranks == [1]
    assert [fact.name for fact in pair.facts] == ["num_microbatches"]
    closes(pair)


def test_larger_microbatches_are_the_configurations() -> None:
    half = replace(
        PIPELINE, num_microbatches=12, forward_ns=1_050_000, backward_ns=1_950_000, p2p_bytes=8 << 20
    )  # the same work in twice as many pieces
    (pair,) = compare(made(half, CHANCE, "base"), [side("base", PIPELINE, 0)]).pairs
    assert pair.changes[0].kind == "configuration"
    assert "2.00× as large" in pair.changes[0].title
    assert all(each.is_noise for each in pair.changes[1:])


def test_ranks_are_matched_by_their_place() -> None:
    """With one replica in place of three, rank 1 holds what rank 3 held."""
    alone = made(replace(REPLICAS, dp=1), replace(CHANCE, seed=7, slow_compute={1: 1.25}), "alone")
    (pair,) = compare(side("base", REPLICAS, 0), [alone]).pairs
    named = next(each for each in pair.changes if each.kind in ("stage", "rank"))
    assert named.ranks == [1]
    assert named.stages == [1]
    assert {fact.name for fact in pair.facts} >= {"world_size", "num_ranks"}
    closes(pair)


@pytest.mark.wide
def test_a_rank_that_was_not_captured_is_no_change() -> None:
    sampled = made(PIPELINE, replace(CHANCE, seed=8, missing_ranks=frozenset({0})), "sampled")
    (pair,) = compare(side("base", PIPELINE, 0), [sampled]).pairs
    assert pair.verdict == "noise"
    assert all(each.is_noise for each in pair.changes)
    assert pair.sentences[-1] == (
        "Rank 0 of the base has no counterpart in the new run, so only the others are compared piece by piece."
    )


def test_in_worlds_of_one_size_a_rank_is_itself() -> None:
    sampled = made(REPLICAS, replace(CHANCE, seed=8, missing_ranks=frozenset({0, 4})), "sampled")
    whole = side("base", REPLICAS, 0)
    assert matched_ranks(whole, sampled) == matched_ranks(sampled, whole) == {rank: rank for rank in (1, 2, 3, 5)}


def test_other_devices_are_refused_by_name_until_forced() -> None:
    other = made(replace(PIPELINE, device="NVIDIA A100-SXM4-80GB"), replace(CHANCE, seed=9), "other")
    with pytest.raises(UsageError, match="device: NVIDIA H100 80GB HBM3 against NVIDIA A100") as refused:
        compare(side("base", PIPELINE, 0), [other])
    assert "--force-compare device" in refused.value.hint
    (pair,) = compare(side("base", PIPELINE, 0), [other], forced=["device"]).pairs
    assert [fact.name for fact in pair.facts if fact.forced] == ["device"]


def test_reviews_alone_name_the_culprit_and_say_what_tables_would_tell() -> None:
    slow = made(PIPELINE, replace(CHANCE, seed=10, slow_compute={2: 1.2}), "slow")
    base = side("base", PIPELINE, 0)
    for sides in ((Side("a", base.review, {}), Side("b", slow.review, {})), (Side("a", base.review, {}), slow)):
        (pair,) = compare(sides[0], [sides[1]]).pairs
        assert (pair.changes[0].kind, pair.changes[0].stages) == ("stage", [2])
        assert {"cause", "owner"} <= {view.by for view in pair.waterfalls}
        assert any("does not hold tables" in item.reason for item in pair.withheld)
        closes(pair)


def test_several_runs_are_a_trend() -> None:
    slow = made(PIPELINE, replace(CHANCE, seed=2, slow_compute={2: 1.15}), "slow")
    found: Comparison = compare(side("base", PIPELINE, 0), [side("again", PIPELINE, 5), slow])
    assert [pair.verdict for pair in found.pairs] == ["noise", "slower"]
    assert "The first that differs from the base by more than noise is slow" in found.sentences[1]
