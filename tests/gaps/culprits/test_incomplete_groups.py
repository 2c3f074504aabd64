"""Groups of which members are missing: who computes longer is told without a price, and silence accuses and clears nobody."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import Review

REPLICAS = Job(pp=1, dp=4, num_microbatches=2, num_steps=3)
EXPERTS = Job(pp=1, dp=4, ep=4, moe_layers=2, num_microbatches=2, num_steps=3)
UNKNOWN = "Not all members of the groups of these ranks were captured, so who holds up whom is unknown."


def review_of(job: Job, faults: Faults, folder: Path, ranks: list[int]) -> Review:
    plant(job, faults, folder)
    return analyze(read(folder, ranks=ranks)).review


def median_ms(review: Review) -> float:
    assert review.step.duration_ms.median is not None
    return review.step.duration_ms.median


@pytest.mark.parametrize("job", [REPLICAS, EXPERTS], ids=["replicas", "experts"])
def test_a_slow_member_is_named_without_a_price(job: Job, tmp_path: Path) -> None:
    slow = review_of(job, Faults(slow_compute={1: 1.6}), tmp_path / "slow", [0, 1, 3])
    clean = review_of(job, Faults(), tmp_path / "clean", [0, 1, 3])
    (fault,) = slow.culprits
    assert (fault.rank, fault.cause, fault.ms) == (1, "computation", None)
    assert fault.high <= 1.01 * (median_ms(slow) - median_ms(clean))  # experts' own computation is left out
    assert slow.headline.sentences[0].startswith("Rank 1 (stage 0) needs ")
    assert slow.headline.sentences[0].endswith("it computes 1.60× as long as ranks 0, 3.")
    assert clean.culprits == []
    assert "holds up the others" not in " ".join(clean.headline.sentences)


@pytest.mark.parametrize("faults", [Faults(), Faults(slow_compute={2: 1.6})], ids=["clean", "the slow one is missing"])
def test_captured_members_are_neither_accused_nor_cleared(faults: Faults, tmp_path: Path) -> None:
    found = review_of(REPLICAS, faults, tmp_path, [0, 1, 3])
    assert found.culprits == []
    assert found.headline.sentences[0] == UNKNOWN


def test_more_rows_of_experts_are_no_slow_rank(tmp_path: Path) -> None:
    hot = Job(pp=1, dp=4, ep=4, moe_layers=2, moe_hot_share=0.5, num_microbatches=2, num_steps=2)
    assert review_of(hot, Faults(), tmp_path, [0, 1, 2]).culprits == []


def test_a_rank_without_kernels_is_not_counted_among_those_measured(tmp_path: Path) -> None:
    traces = plant(Job(pp=2, num_microbatches=2, num_steps=2), Faults(), tmp_path).traces
    (file,) = traces.rglob("*00000*.json.gz")
    document = json.loads(gzip.decompress(file.read_bytes()))
    host = [each for each in document["traceEvents"] if each.get("cat") not in ("kernel", "gpu_memcpy", "gpu_memset")]
    file.write_bytes(gzip.compress(json.dumps(document | {"traceEvents": host}).encode(), 1))
    first = analyze(read(traces)).review.headline.sentences[0]
    assert first.startswith("Rank 1 (stage 1 of 2; 1 of 2 ranks) computes for")
