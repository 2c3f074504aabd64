"""One fault on jobs of every mesh: named, with its cause and call, and priced like the same job without it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from planted import Faults, Job, plant, simulate

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import Review

PAUSE = 11_000_000
LOADER = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"


def review_of(job: Job, faults: Faults, folder: Path) -> Review:
    plant(job, faults, folder)
    return analyze(read(folder)).review


def median_ms(review: Review) -> float:
    assert review.step.duration_ms.median is not None
    return review.step.duration_ms.median


def stalls(rank: int, position: int, num_steps: int) -> dict[tuple[int, int, int], int]:
    return {(rank, step, position): PAUSE for step in range(num_steps + 1)}


SMALL = {"pp": 1, "num_microbatches": 2, "num_steps": 2, "steps_ahead": 0}
EXPERTS = Job(**SMALL, dp=5, ep=5, moe_layers=2)
FAULTS = {
    "slow expert rank": (EXPERTS, Faults(slow_compute={1: 1.3}), 1, "computation", None),
    "slow expert rank in a pipeline": (
        Job(pp=2, dp=3, ep=3, moe_layers=1, num_microbatches=3, num_steps=1), Faults(slow_compute={4: 1.6}), 4, "computation", None,
    ),
    "slow rank beside a hot one": (
        Job(**SMALL, dp=3, ep=3, moe_layers=1, moe_hot_share=0.2), Faults(slow_compute={2: 1.9}), 2, "computation", None,
    ),
    "slow rank beside hot ones of every stage": (
        Job(pp=2, dp=6, ep=3, moe_layers=1, moe_hot_share=0.25, num_microbatches=2, num_steps=2), Faults(slow_compute={10: 2.1}), 10,
        "computation", None,
    ),
    "more kernels in a tensor group": (Job(**SMALL, dp=2, tensor=2), Faults(more_kernels={0: 2}), 0, "computation", None),
    "slow device in a ring": (Job(**SMALL, dp=3, context=3), Faults(slow_compute={0: 1.35}), 0, "computation", None),
    "slow device at a contiguous ring": (
        Job(**SMALL, dp=3, context=3, context_layout="contiguous"), Faults(slow_compute={1: 2.0}), 1, "computation", None,
    ),
    "slow last member of a contiguous ring": (
        Job(**SMALL, dp=4, context=4, context_layout="contiguous"), Faults(slow_compute={3: 1.5}), 3, "computation", None,
    ),
    "slow last member of a short contiguous ring": (
        Job(**SMALL, dp=2, context=2, context_layout="contiguous"), Faults(slow_compute={1: 1.4}), 1, "computation", None,
    ),
    "late launches inside labelled actions name the operator": (Job(**SMALL, dp=3), Faults(slow_launch_ns={2: 600_000}), 2, "host", "aten::attention"),
    "late launches beside tables": (Job(**SMALL, dp=3, tables_bytes=2 << 20), Faults(slow_launch_ns={1: 900_000}), 1, "host", None),
    "data loading of a sharded job": (Job(**SMALL, dp=3, sharded=True), Faults(loading_ns={0: PAUSE}), 0, "host", LOADER),
    "slow member of a tensor group in a pipeline": (
        Job(pp=3, dp=2, tensor=2, num_microbatches=4, num_steps=2), Faults(slow_compute={3: 1.45}), 3, "computation", None,
    ),
    "slow member of a tensor group, weight gradients apart": (
        Job(pp=3, dp=2, tensor=2, num_microbatches=6, num_steps=2, schedule="ZeroBubble"), Faults(slow_compute={0: 1.3}), 0,
        "computation", None,
    ),
    "slow member of the last stage, reduced gradients end last": (
        Job(pp=2, dp=4, tensor=4, num_microbatches=3, num_steps=3, steps_ahead=0, schedule="ZeroBubble"),
        Faults(slow_compute={6: 1.4}), 6, "computation", None,
    ),
    "experts of tensor groups": (Job(**SMALL, dp=4, tensor=2, ep=4, moe_layers=1), Faults(slow_compute={1: 1.5}), 1, "computation", None),
    "replicas of a ring": (Job(**SMALL, dp=6, context=3), Faults(slow_compute={4: 1.3}), 4, "computation", None),
    "a call before every step": (
        Job(**SMALL, dp=2), Faults(host_stall_ns=stalls(1, 0, 2), stall_call="empty_cache"), 1, "host", "empty_cache",
    ),
}  # fmt: skip


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_any_mesh_is_named_and_priced(name: str, tmp_path: Path) -> None:
    job, faults, rank, cause, call = FAULTS[name]
    clean = review_of(job, Faults(), tmp_path / "clean")
    found = review_of(job, faults, tmp_path / "fault")
    assert clean.culprits == []
    (fault,) = found.culprits
    assert (fault.rank, fault.cause, fault.call) == (rank, cause, call if cause == "host" else None)
    assert fault.ms == pytest.approx(median_ms(found) - median_ms(clean), rel=0.05)


def test_beside_a_late_host_the_price_of_another_fault_is_the_most_that_its_repair_saves(tmp_path: Path) -> None:
    job = Job(pp=2, dp=2, ep=2, moe_layers=1, num_microbatches=3, num_steps=2, steps_ahead=0)
    late = {(2, step, 2): 20_000_000 for step in range(3)}
    both = review_of(job, Faults(slow_compute={1: 1.6}, host_stall_ns=late), tmp_path / "both")
    alone = review_of(job, Faults(host_stall_ns=late), tmp_path / "alone")
    slow = next(each for each in both.culprits if each.rank == 1)
    assert slow.ms is not None
    assert slow.low == 0
    assert slow.ms >= median_ms(both) - median_ms(alone)
    assert "rank 2 launches late, too" in slow.evidence
    assert "this costs up to " in both.headline.sentences[0]


def test_a_late_host_that_a_slow_rank_hides_makes_the_price_a_bound(tmp_path: Path) -> None:
    """The host of rank 2 pauses while its device waits for rank 1: it costs nothing, until rank 1 is repaired."""
    job = Job(pp=2, dp=2, ep=2, moe_layers=2, num_microbatches=4, num_steps=2, steps_ahead=0)
    late = Faults(host_stall_ns={(2, step, 2): 20_000_000 for step in range(3)})
    both = review_of(job, Faults(slow_compute={1: 1.6}, host_stall_ns=late.host_stall_ns), tmp_path / "both")
    saved = median_ms(both) - median_ms(review_of(job, late, tmp_path / "late"))
    (slow,) = both.culprits
    assert slow.ms is not None
    assert (slow.rank, slow.low) == (1, 0)
    assert slow.ms > 1.05 * saved
    assert "launches of hosts may hold up the step instead" in slow.evidence
    assert "this costs up to " in both.headline.sentences[0]


def test_pipelines_of_tensor_groups_are_planted_to_their_end() -> None:
    for schedule, num_chunks in (("1F1B", 1), ("GPipe", 1), ("ZeroBubble", 1), ("Interleaved1F1B", 2)):
        for coalesced in (False, True) if num_chunks == 1 else (False,):
            job = Job(
                pp=3, dp=4, tensor=2, num_microbatches=3, num_steps=1, schedule=schedule, num_chunks=num_chunks, coalesced=coalesced,
            )  # fmt: skip
            ended = {
                op["rank"]
                for op in simulate(job, Faults(slow_compute={5: 1.4})).device_ops
                if op["kind"] == "optimizer"
            }
            assert ended == set(range(12)), job


def test_the_start_of_one_captured_step_is_not_priced(tmp_path: Path) -> None:
    job = Job(pp=1, dp=3, num_microbatches=2, num_steps=1, steps_ahead=0)
    assert review_of(job, Faults(host_stall_ns=stalls(2, 0, 1)), tmp_path).culprits == []


HIDDEN = {
    "replicas": (Job(**SMALL, dp=5), {1: 1.3, 4: 1.3}),
    "tensor groups of two pipelines": (
        Job(pp=2, dp=4, tensor=2, num_microbatches=5, num_steps=2, steps_ahead=0), {1: 1.3, 6: 1.25},
    ),
}  # fmt: skip


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", HIDDEN)
def test_slow_ranks_that_hide_each_other_are_priced_together(name: str, tmp_path: Path) -> None:
    job, slow = HIDDEN[name]
    both = review_of(job, Faults(slow_compute=slow), tmp_path / "both")
    clean = review_of(job, Faults(), tmp_path / "clean")
    first, second = slow
    assert {(each.rank, each.ms, each.basis, *each.beside) for each in both.culprits} == {
        (first, None, "together", second),
        (second, None, "together", first),
    }
    for fault in both.culprits:
        assert fault.high == pytest.approx(median_ms(both) - median_ms(clean), rel=0.05)
    assert "repairing them together saves" in both.headline.sentences[0]


LINKS = {
    "experts": (Job(**SMALL, dp=5, ep=5, moe_layers=3, gradient_bytes=1 << 16), {3: 4.0}, (3, None)),
    "even exchanges": (
        Job(**SMALL, dp=5, ep=5, moe_layers=2, gradient_bytes=1 << 16, even_exchange=True, moe_tokens=8000), {0: 5.0}, (0, None),
    ),
    "one group of three, another over two hosts": (
        Job(pp=3, dp=3, ep=3, moe_layers=1, num_microbatches=4, num_steps=2, steps_ahead=0), {4: 4.0}, (4, None),
    ),
    "a stage": (Job(pp=5, num_microbatches=5, num_steps=2, p2p_bytes=96 << 20, global_norm=False), {2: 3.0}, (2, None)),
    "one pair": (Job(pp=3, num_microbatches=5, num_steps=2, p2p_bytes=96 << 20, global_norm=False), {2: 3.0}, (1, 2)),
}  # fmt: skip


@pytest.mark.wide
@pytest.mark.parametrize("name", LINKS)
def test_a_slow_link_is_named_and_priced(name: str, tmp_path: Path) -> None:
    job, slow, (rank, peer) = LINKS[name]
    clean = review_of(job, Faults(), tmp_path / "clean")
    found = review_of(job, Faults(slow_link=slow), tmp_path / "slow")
    assert clean.culprits == []
    (fault,) = found.culprits
    assert fault.cause == "link"
    assert {fault.rank, fault.peer} == {rank, peer}
    assert fault.ms == pytest.approx(median_ms(found) - median_ms(clean), rel=0.05)
    assert [each.cause for each in found.stragglers] == ["link"]
    failed = [each.id for each in found.findings if not each.passed and each.remedy == "fault"]
    assert failed == ["ranks.link"]


RINGS = {
    2: Job(**SMALL, dp=2, context=2, attention_share=0.3),
    5: Job(**SMALL, dp=5, context=5),
    4: Job(pp=2, dp=4, context=4, num_microbatches=3, num_steps=1),
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("size", RINGS)
def test_contiguous_parts_are_told_and_priced_as_zigzag(size: int, tmp_path: Path) -> None:
    job = RINGS[size]
    even = review_of(job, Faults(), tmp_path / "zigzag")
    uneven = review_of(Job(**{**vars(job), "context_layout": "contiguous"}), Faults(), tmp_path / "contiguous")
    assert even.sequence_balance == []
    assert uneven.culprits == []
    found = uneven.sequence_balance[0]
    assert found.ranks == list(range(size))
    assert found.max_over_mean == pytest.approx(2 - 1 / size, rel=0.01)
    assert found.ms == pytest.approx(median_ms(uneven) - median_ms(even), rel=0.05)
    (finding,) = [each for each in uneven.findings if each.id == "sequence.balanced"]
    assert (finding.passed, finding.remedy, finding.worth_ms) == (False, "change", found.ms)


def test_the_bubbles_sentence_names_the_rank_that_the_first_one_names(tmp_path: Path) -> None:
    job = Job(pp=3, num_microbatches=5, num_steps=2)
    slow = review_of(job, Faults(slow_compute={1: 1.5}), tmp_path / "slow").headline.sentences
    assert slow[0].startswith("Rank 1 ")
    assert any(sentence.endswith("mostly because the others wait for rank 1.") for sentence in slow), slow
    clean = review_of(job, Faults(), tmp_path / "clean").headline.sentences
    assert not any("wait for rank" in sentence for sentence in clean)


def test_waiting_inside_chunks_is_blamed_on_the_member_that_comes_last(tmp_path: Path) -> None:
    job = Job(pp=2, dp=2, tensor=2, num_microbatches=3, num_steps=2)
    plant(job, Faults(slow_compute={1: 1.4}), tmp_path)
    found = analyze(read(tmp_path))
    bubble = found.review.bubble
    assert bubble is not None
    assert bubble.attribution_ms is not None
    inside = [each for each in bubble.culprits if each.cause == "chunk_comm"]
    assert inside[0].culprit == 1
    assert inside[0].ms > 0.9 * bubble.attribution_ms.chunk_comm
    assert sum(each.ms for each in inside) == pytest.approx(bubble.attribution_ms.chunk_comm)
    blamed = {row.culprit: row.ms for row in bubble.blame if row.cause == "chunk_comm"}
    assert max(blamed, key=lambda rank: blamed[rank]) == 1
    table = found.tables["attribution"].filter(cause="chunk_comm").group_by("culprit").agg(pl.col("duration_ns").sum())
    assert table.sort("duration_ns")["culprit"].to_list()[-1] == 1
