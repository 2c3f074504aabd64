"""Failed findings name the moment that shows them best."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from inputs.tiny_trace import BASE_NS, run_of
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.review import Finding

US = 1000


def finding(analysis: Analysis, name: str) -> Finding:
    return next(each for each in analysis.review.findings if each.id == name)


def test_a_late_start_is_shown_where_it_was_longest(tmp_path: Path) -> None:
    lines = ["0F0@0-10 0F1@10-20 0B0@42-52 0B1@75-85", "1F0@10-20 1B0@20-30 1F1@33-43 1B1@43-53"]
    found = finding(analyze(read(run_of(tmp_path, lines))), "pipeline.starts_on_time")
    assert not found.passed
    assert found.rank == 0
    assert (found.start_ns, found.end_ns) == (BASE_NS + 53 * US, BASE_NS + 75 * US)  # 0B1 could have run from 53


@pytest.mark.wide
def test_a_slow_rank_is_shown_by_its_longest_action_and_jitter_by_the_odd_one(tmp_path: Path) -> None:
    job = Job(pp=4)
    slow = analyze(read(plant(job, Faults(slow_compute={2: 1.3}), tmp_path / "slow").traces))
    found = finding(slow, "pipeline.stage")
    actions = slow.tables["actions"].filter(pl.col("rank") == 2)
    assert found.rank == 2
    assert found.start_ns is not None
    assert found.end_ns is not None
    assert found.end_ns - found.start_ns == (actions["end_ns"] - actions["start_ns"]).max()

    planted = plant(job, Faults(slow_action_ns={(1, 2, 4): 9_000_000}), tmp_path / "odd")
    odd = finding(analyze(read(planted.traces)), "pipeline.jitter")
    assert odd.rank == 1
    longest = max(
        (op for op in planted.truth.device_ops if op["rank"] == 1 and op["step"] == 2 and op["kind"] == "gemm"),
        key=lambda op: op["end_ns"] - op["start_ns"],
    )
    assert odd.start_ns == pytest.approx(longest["start_ns"], abs=20_000_000)
    assert odd.start_ns is not None
    assert odd.end_ns is not None
    assert odd.start_ns - 1000 <= longest["start_ns"] < odd.end_ns


def test_a_slow_link_is_shown_by_the_longest_transfer_of_its_rank(tmp_path: Path) -> None:
    job = Job(pp=4, p2p_bytes=64 << 20)
    analysis = analyze(read(plant(job, Faults(slow_link={1: 20.0}), tmp_path).traces))
    found = finding(analysis, "ranks.link")
    assert found.rank == 1
    sends = analysis.tables["p2p"].filter(pl.col("rank") == 1)
    longest = sends.filter(pl.col("transfer_ns") == sends["transfer_ns"].max())
    assert (found.start_ns, found.end_ns) in longest.select("start_ns", "end_ns").rows()


def test_what_passed_names_no_moment(tmp_path: Path) -> None:
    review = analyze(read(plant(Job(pp=2), Faults(), tmp_path).traces)).review
    assert [each.id for each in review.findings if each.passed and each.start_ns is not None] == []
