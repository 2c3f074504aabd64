"""Planted faults do what they say, and only the file outside the run says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import (  # noqa: E402
    losses,
    ranges,
    read_steps,
    read_trace,
    run_job,
    small,
)

from instrumented_runs.pacing.faults import Faults, check_faults, parse_fault, write_truth  # noqa: E402
from instrumented_runs.settings import PipelineSettings  # noqa: E402
from traceanalyzer.errors import UsageError  # noqa: E402
from traceanalyzer.job import TRACE_FILE  # noqa: E402


def paced(folder: Path, *faults: str) -> PipelineSettings:
    return small(folder, compute_mode="paced", forward_ms=10.0, backward_ms=10.0, num_microbatches=2, faults=faults)


def spans(folder: Path, rank: int) -> dict[str, tuple[float, float]]:
    """Action to (start, end) in milliseconds since the epoch."""
    base_ms = read_trace(folder, rank)["baseTimeNanoseconds"] / 1e6
    return {name: (base_ms + start / 1e3, base_ms + end / 1e3) for name, start, end in ranges(folder, rank, "compute:")}


@pytest.mark.runs
def test_a_slow_stage_takes_longer_and_trains_the_same(tmp_path: Path) -> None:
    run_job("pipeline", paced(tmp_path / "even"))
    run_job("pipeline", paced(tmp_path / "slow", "slow_stage:stage=1,factor=3"))
    shortest = [min(end - start for start, end in spans(tmp_path / "slow", rank).values()) for rank in (0, 1)]
    assert shortest[0] < 25 < shortest[1]
    assert losses(tmp_path / "even", 2) == losses(tmp_path / "slow", 2)


@pytest.mark.wide
@pytest.mark.runs
def test_a_delayed_link_delays_what_is_received_and_nothing_that_is_sent(tmp_path: Path) -> None:
    run_job("pipeline", paced(tmp_path, "delay_link:source=0,target=1,ms=12"))
    first, second = spans(tmp_path, 0), spans(tmp_path, 1)
    for microbatch in range(2):
        assert second[f"1F{microbatch}"][0] - first[f"0F{microbatch}"][1] >= 12
    assert second["1B0"][0] >= second["1F0"][1]
    sends = [e for e in read_trace(tmp_path, 0)["traceEvents"] if e["name"] == "c10d::send"]
    theirs = [e for e in read_trace(tmp_path, 1)["traceEvents"] if e["name"] == "c10d::send"]
    assert len(sends) == len(theirs) == 2
    # the same destination and tag stand where torch's own event has them
    assert sends[0]["args"]["Concrete Inputs"][2:4] == ["1", "0"]
    assert theirs[0]["args"]["Concrete Inputs"][2:4] == ["0", "0"]
    assert sends[0]["args"]["Input Dims"] == theirs[0]["args"]["Input Dims"]


@pytest.mark.wide
@pytest.mark.runs
def test_a_stalled_host_leaves_a_gap_before_one_computation(tmp_path: Path) -> None:
    run_job("pipeline", paced(tmp_path, "stall:rank=0,ms=40,position=2"))
    mine = spans(tmp_path, 0)
    assert mine["0F1"][0] - mine["0F0"][1] >= 40


@pytest.mark.runs
def test_a_wrong_clock_is_wrong_everywhere_and_measured_and_a_missing_rank_left_no_trace(tmp_path: Path) -> None:
    job = run_job("pipeline", paced(tmp_path, "clock:rank=1,ms=-5000", "missing:rank=0"))
    offset = job.ranks[1].clock_start
    assert offset is not None
    assert abs(offset.offset_ns + 5_000_000_000) <= offset.uncertainty_ns
    assert not (tmp_path / TRACE_FILE.format(rank=0)).exists()
    mine, theirs = read_steps(tmp_path, 0), read_steps(tmp_path, 1)
    assert 4.5e9 < mine[2].start_ns - theirs[2].start_ns < 5.5e9
    start_ms, end_ms = spans(tmp_path, 1)["1F0"]
    assert theirs[2].start_ns / 1e6 < start_ms < end_ms < theirs[2].end_ns / 1e6


def test_jitter_is_random_of_the_stated_size_and_the_same_again_for_the_same_seed() -> None:
    drawn = [Faults(["jitter:share=0.1"], rank=1, seed=3) for _ in range(2)]
    factors = [[faults.stretch() for _ in range(4000)] for faults in drawn]
    assert factors[0] == factors[1]
    spread = torch.tensor(factors[0])
    assert spread.mean().item() == pytest.approx(1.0, abs=0.01)
    assert spread.std().item() == pytest.approx(0.1, rel=0.05)


def test_slow_stages_and_ranks_stretch_only_themselves() -> None:
    texts = ["slow_stage:stage=2,factor=1.5", "slow_rank:rank=1,factor=2"]
    assert [Faults(texts, rank).stretch(stage) for rank, stage in [(0, 0), (0, 2), (1, 0), (1, 2)]] == [1, 1.5, 2, 3]


def test_the_truth_is_recorded_outside_the_run_and_nowhere_in_it(tmp_path: Path) -> None:
    write_truth(tmp_path / "truth.json", tmp_path / "run", ["slow_rank:rank=1,factor=2"])
    told = json.loads((tmp_path / "truth.json").read_text())
    assert told == {"run": "run", "faults": [{"kind": "slow_rank", "rank": 1, "factor": 2}]}
    with pytest.raises(UsageError, match="lies inside the run"):
        write_truth(tmp_path / "run" / "truth.json", tmp_path / "run", [])


@pytest.mark.parametrize(
    ("fault", "kind", "mode", "says"),
    [
        ("slow_rank:rank=1,factor=2", "dense", "real", "computes for real"),
        ("delay_link:source=0,target=1,ms=5", "dense", "real", "does not apply to a job of kind 'dense'"),
        ("clock:rank=4,ms=5", "pipeline", "paced", "names rank 4 of 4"),
        ("jitter:share=-1", "pipeline", "paced", "negative"),
    ],
)
def test_faults_that_a_job_cannot_have_are_refused(fault: str, kind: str, mode: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_faults([fault], kind, mode, 4)


def test_every_fault_of_the_help_text_can_be_read() -> None:
    import instrumented_runs.pacing.faults as module  # noqa: PLC0415 - its docstring is the help text

    examples = [line.split()[0] for line in (module.__doc__ or "").splitlines() if line.startswith("    ")]
    assert {parse_fault(example).kind for example in examples} == set(module.KEYS)
