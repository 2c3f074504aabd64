"""Gradient reduction and parameter gathering beside a pipeline, planted: no chunk's span, idle's fourth part, overlap_dp."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import pytest
from planted import Faults, Job, Truth, plant

from traceanalyzer.analysis.assemble import Analysis, analyze, read

Span = tuple[int, int]
_COMPUTES = ("gemm", "attention", "elementwise")
JOBS = {
    "DDP, DP 3, PP 2, 4 buckets": Job(pp=2, dp=3, num_microbatches=3, overlapped="last", gradient_buckets=4),
    "DDP, DP 2, PP 4, 1 bucket, no labels": Job(
        pp=4, dp=2, num_microbatches=6, overlapped="last", labels=None, coalesced=True
    ),
    "DDP, 6 buckets, groups without descriptions": Job(
        pp=2, dp=2, num_microbatches=4, overlapped="last", gradient_buckets=6, described=False, kernels_per_action=6
    ),
    "DDP, 6 buckets, no labels, no descriptions": Job(
        pp=2, dp=2, num_microbatches=4, overlapped="last", gradient_buckets=6, described=False, labels=None,
        kernels_per_action=6,
    ),
    "ZeRO-2, DP 2, PP 3": Job(pp=3, dp=2, num_microbatches=5, overlapped="each", gradient_buckets=2, labels="own"),
    "FSDP2, DP 2, PP 2": Job(pp=2, dp=2, num_microbatches=4, sharded=True, gather_bytes=96 << 20),
    "FSDP2, DP 3, PP 3, no labels": Job(pp=3, dp=3, num_microbatches=4, sharded=True, gather_bytes=96 << 20, labels=None, coalesced=True),
}  # fmt: skip


def analysed(job: Job, folder: Path, faults: Faults | None = None) -> tuple[Analysis, Truth]:
    planted = plant(job, faults or Faults(), folder)
    return analyze(read(planted.traces)), planted.truth


def true_parts(truth: Truth, job: Job, *, tail: str | None = None) -> dict[str, float]:
    """Shares of the phase, pooled over pipelines, median over steps, by the definitions in words and interval by interval.

    `tail` is a kind of communication that belongs to chunks.
    """
    steps = sorted({op["step"] for op in truth.device_ops if op["step"] > 0})
    found = [_parts_of_step([op for op in truth.device_ops if op["step"] == step], job, tail) for step in steps]
    return {name: median(each[name] for each in found) for name in found[0]}


def _parts_of_step(ops: list[dict[str, Any]], job: Job, tail: str | None) -> dict[str, float]:
    spans: dict[tuple[int, str, int, int], Span] = {}
    for op in ops:
        name = re.fullmatch(r"(\d+)([FBIW])(\d+)", op["action"] or "")
        if name and (op["kind"] in _COMPUTES or op["kind"] == tail):
            key = (op["rank"], name[2], int(name[1]), int(name[3]))
            start, end = spans.get(key, (op["start_ns"], op["end_ns"]))
            spans[key] = (min(start, op["start_ns"]), max(end, op["end_ns"]))
    total = dict.fromkeys(("dependency", "dp", "phase"), 0)
    for replica in range(job.dp):
        own = {key: span for key, span in spans.items() if key[0] % job.dp == replica}
        first, last = min(s for s, _ in own.values()), max(e for _, e in own.values())
        ends = {key[1:]: end for key, (_, end) in own.items()}
        for rank in job.pipeline(replica):
            at, chain = first, sorted((span, key[1:]) for key, span in own.items() if key[0] == rank)
            pipeline = [(op["start_ns"] + op["wait_ns"], op["end_ns"]) for op in ops if _is(op, rank, "pp")]
            replicas = [(op["start_ns"], op["end_ns"]) for op in ops if _is(op, rank, "dp", "world")]
            for (start, end), (phase, stage, microbatch) in chain:
                before = ("F", stage - 1, microbatch) if phase == "F" else ("B", stage + 1, microbatch)
                ready = min(start, max(at, ends.get(before, at)))
                total["dependency"] += ready - at
                total["dp"] += _covered(ready, start, pipeline + replicas) - _covered(ready, start, pipeline)
                at = end
            total["dependency"] += last - at
            total["phase"] += last - first
    return {name: total[name] / total["phase"] for name in ("dependency", "dp")}


def _is(op: dict[str, Any], rank: int, *roles: str) -> bool:
    return op["rank"] == rank and op.get("role") in roles


def _covered(start: int, end: int, intervals: list[Span]) -> int:
    """How much of a span the intervals cover together."""
    covered, at = 0, start
    for first, last in sorted(intervals):
        low, high = max(first, at), min(last, end)
        if high > low:
            covered, at = covered + high - low, high
    return covered


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", JOBS)
def test_bubble_and_exposed_exchanges_are_the_truth(name: str, tmp_path: Path) -> None:
    job = JOBS[name]
    analysis, truth = analysed(job, tmp_path)
    bubble, true = analysis.review.bubble, true_parts(truth, job)
    assert bubble is not None, analysis.review.quality.withheld
    assert bubble.measured_share == pytest.approx(true["dependency"], abs=1e-4)
    assert bubble.exposed_dp_share == pytest.approx(true["dp"], abs=1e-4)
    assert (bubble.exposed_dp_share > 0.02) == job.sharded  # DDP and ZeRO-2 hide theirs, gathers before actions do not
    assert bubble.num_pipelines == bubble.num_pipelines_expected == job.dp


def test_idle_is_its_four_parts_exactly(tmp_path: Path) -> None:
    analysis, _ = analysed(JOBS["FSDP2, DP 2, PP 2"], tmp_path)
    table = analysis.tables["bubble"]
    parts = ["warmup_ns", "steady_ns", "drain_ns", "transfer_ns", "dp_wait_ns", "dp_transfer_ns", "overhead_ns"]
    idle = table["phase_ns"] - table["chunk_ns"]
    assert (table.select(pl.sum_horizontal(parts)).to_series() == idle).all()
    assert (table["dp_transfer_ns"] > 0).all()


def test_a_chunk_that_ends_in_an_exchange_of_its_own_ranks_keeps_it(tmp_path: Path) -> None:
    job = Job(pp=3, dp=2, ep=2, num_microbatches=4, tail_exchange_bytes=24 << 20, labels=None, coalesced=True)
    analysis, truth = analysed(job, tmp_path)
    bubble = analysis.review.bubble
    assert bubble is not None, analysis.review.quality.withheld
    assert bubble.measured_share == pytest.approx(true_parts(truth, job, tail="all_to_all")["dependency"], abs=1e-4)
    assert bubble.overhead_share == pytest.approx(0, abs=1e-3)


@pytest.mark.wide
def test_what_actions_beside_a_reduction_take_longer_is_overlap_dp(tmp_path: Path) -> None:
    job = Job(pp=2, dp=2, num_microbatches=6, overlapped="last", gradient_buckets=2, overlap_slowdown=1.5)
    analysis, _ = analysed(job, tmp_path / "slowed")
    attribution = analysis.review.bubble.attribution_ms  # type: ignore[union-attr]
    assert attribution is not None
    # Half of the last backward of 4 ms takes half as long again, on both stages one after the other.
    assert attribution.overlap_dp == pytest.approx(2 * 1.0, rel=0.02)
    assert attribution.jitter == pytest.approx(0, abs=0.01)
    assert any(each.cause == "overlap_dp" for each in analysis.review.bubble.worth)  # type: ignore[union-attr]
    clean, _ = analysed(Job(pp=2, dp=2, num_microbatches=6), tmp_path / "clean")
    assert clean.review.bubble.attribution_ms.overlap_dp == 0  # type: ignore[union-attr]


@pytest.mark.wide
def test_pipelines_are_pooled_and_the_slowest_is_named(tmp_path: Path) -> None:
    job = Job(pp=3, dp=3, num_microbatches=6)
    analysis, truth = analysed(job, tmp_path, Faults(slow_compute={5: 1.4}))
    bubble = analysis.review.bubble
    assert bubble is not None
    assert bubble.measured_share == pytest.approx(true_parts(truth, job)["dependency"], abs=1e-4)
    assert [each.is_slowest for each in bubble.pipelines] == [False, False, True]
    assert bubble.pipelines[2].ranks == [2, 5, 8]
    late = bubble.pipelines[2].phase_ms - bubble.pipelines[0].phase_ms
    waits = [each.replica_wait_ms for each in bubble.pipelines]
    assert waits == pytest.approx([late, late, 0], rel=0.05, abs=0.01)
    assert bubble.theory is not None
    assert bubble.theory.closed_form_share == pytest.approx(bubble.theory.simulated_share)
    assert bubble.attribution_ms is not None
    assert bubble.theory.simulated_phase_ms == pytest.approx(bubble.attribution_ms.ideal)
    assert bubble.attribution_ms.schedule == pytest.approx(
        bubble.theory.simulated_share * bubble.theory.simulated_phase_ms  # type: ignore[operator]
    )
    assert bubble.largest_fault is not None
    assert (bubble.largest_fault.rank, bubble.largest_fault.cause) == (5, "straggler")
    assert not any("the schedule itself explains it" in each for each in analysis.review.headline.sentences)


@pytest.mark.wide
def test_a_straggler_outside_the_whole_pipelines_forbids_that_the_schedule_explains(tmp_path: Path) -> None:
    job = Job(pp=2, dp=4, num_microbatches=5, p2p_bytes=1 << 20)
    kept = {0, 4, 5, 6, 7}  # the pipeline of 0 and 4, and all replicas of stage 1
    for rank, says in ((6, False), (None, True)):
        slow = {} if rank is None else {rank: 1.4}
        faults = Faults(slow_compute=slow, missing_ranks=frozenset(set(range(8)) - kept))
        review = analysed(job, tmp_path / str(rank), faults)[0].review
        assert review.bubble is not None
        assert (review.bubble.num_pipelines, review.bubble.num_pipelines_expected) == (1, 4)
        text = " ".join(review.headline.sentences)
        assert ("the schedule itself explains it" in text) == says
        assert ("Rank 6 computes" in text) != says
