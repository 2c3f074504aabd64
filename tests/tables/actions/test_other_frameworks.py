"""Folders as torchtitan and Megatron-LM write them, analysed without a word about the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from inputs.planted_truth import true_dependency_share
from planted import Faults, Job, plant

from traceanalyzer.cli import main

CLOCKS = Faults(clock_offset_ns={1: 2_000_000, 2: -3_000_000})
JOBS = {
    "torchtitan, interleaved": Job(framework="torchtitan", schedule="Interleaved1F1B", num_chunks=2),
    "torchtitan, replicas": Job(framework="torchtitan", dp=2, num_microbatches=6),
    "Megatron, coalesced": Job(framework="megatron", labels=None, coalesced=True, metadata="2024"),
    "Megatron, experts": Job(
        framework="megatron", pp=2, dp=2, ep=2, labels=None, coalesced=True, metadata="2024", moe_layers=1
    ),
    "Megatron, interleaved": Job(
        framework="megatron", schedule="Interleaved1F1B", num_chunks=2, labels=None, metadata="2024"
    ),
}


def review_of(path: Path, out: Path, *options: str) -> dict[str, Any]:
    """What the command says of a folder."""
    assert main(["analyze", str(path), "--json", str(out / "review.json"), *options]) == 0
    return msgspec.json.decode((out / "review.json").read_bytes())


@pytest.mark.wide
@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", JOBS)
def test_the_job_of_a_folder_without_a_description_is_inferred(name: str, tmp_path: Path) -> None:
    job = JOBS[name]
    planted = plant(job, CLOCKS, tmp_path)
    review = review_of(planted.traces, tmp_path)
    facts = {key: fact["value"] for key, fact in review["job"].items()}
    assert facts["schedule"] == job.schedule
    assert facts["num_microbatches"] == job.num_microbatches
    assert facts["num_stages"] == job.num_stages
    assert facts["num_chunks"] == job.num_chunks
    assert facts["layout"] == {"pp": job.pp, "dp": job.dp, "tp": 1, "cp": 1, "ep": job.ep}
    assert facts["world_size"] == job.world_size
    assert review["bubble"]["measured_share"] == pytest.approx(true_dependency_share(planted.truth, job), abs=0.003)
    assert review["quality"]["verdict"] == "complete"


@pytest.mark.wide
@pytest.mark.parametrize("rank", range(4))
@pytest.mark.parametrize("name", ["torchtitan, interleaved", "Megatron, coalesced", "Megatron, interleaved"])
def test_one_rank_shows_the_job(name: str, rank: int, tmp_path: Path) -> None:
    job = JOBS[name]
    planted = plant(job, Faults(missing_ranks=frozenset(set(range(4)) - {rank})), tmp_path)
    facts = review_of(planted.traces, tmp_path)["job"]
    assert facts["world_size"]["value"] == 4
    assert facts["layout"]["value"] == {"pp": 4, "dp": 1, "tp": 1, "cp": 1, "ep": 1}
    assert facts["layout"]["source"] == "inferred"
    assert facts["layout"]["confidence"] >= 0.9
    assert facts["places"]["value"] == [{"rank": rank, "pipeline_rank": rank, "of": 4}]
    assert facts["schedule"]["value"] == job.schedule, facts["schedule"]
    assert facts["num_microbatches"]["value"] == job.num_microbatches
    assert facts["num_stages"]["value"] == job.num_stages
    assert 0 < facts["schedule"]["confidence"] < 1
