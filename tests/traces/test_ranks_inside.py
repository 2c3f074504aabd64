"""Several ranks, or several devices, in one file."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from inputs.tiny_device import TinyDevice

from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.errors import InputError


def rank_of(rank: int, busy: int, *, process: int, world_size: int = 3) -> TinyDevice:
    """Three steps of 1 ms in which one kernel runs for `busy` us; launched 40 us before."""
    trace = TinyDevice(rank=rank, world_size=world_size, process=process)
    for step in (1, 2, 3):
        trace.step(step, 1000 * step, 1000 * step + 990)
        trace.kernel(1000 * step + 60, 1000 * step + 60 + busy, launched=1000 * step + 20 + rank)
    return trace


def merged(parts: list[TinyDevice], path: Path, *, world_size: int) -> Path:
    """The files of several ranks as one: device rows get a process number of their own, as merging tools give them."""
    events = []
    for place, part in enumerate(parts):
        for event in part.events:
            own = event["pid"] if event["cat"] != "kernel" else 90_000 + place
            events.append({**event, "pid": own})
    document = parts[0].document() | {"traceEvents": events}
    document["distributedInfo"] = {"rank": 0, "world_size": world_size}
    path.write_text(json.dumps(document))
    return path


def computed(analysis: Analysis) -> dict[int, int]:
    """Computing time of every rank in the second step, us."""
    table = analysis.tables["accounting"].filter((pl.col("owner") == "compute") & (pl.col("step") == 2))
    return {rank: ns // 1000 for rank, ns in table.group_by("rank").agg(pl.col("duration_ns").sum()).iter_rows()}


def test_ranks_that_were_merged_are_separated(tmp_path: Path) -> None:
    parts = [rank_of(rank, busy, process=500 + rank) for rank, busy in enumerate((800, 300, 550))]
    analysis = analyze(read(merged(parts, tmp_path / "all.json", world_size=3)))
    assert computed(analysis) == {0: 800, 1: 300, 2: 550}
    assert any(line.startswith("One file holds the processes of several ranks") for line in analysis.review.warnings)
    assert analysis.review.quality.num_ranks_found == 3
    assert not any("profiler lost" in line for line in analysis.review.warnings)


def test_merged_ranks_that_cannot_be_numbered_are_refused_by_name(tmp_path: Path) -> None:
    parts = [rank_of(rank, 200, process=500 + rank) for rank in range(2)]
    path = merged(parts, tmp_path / "some.json", world_size=16)  # which 2 of 16?
    with pytest.raises(InputError, match=r"some\.json: 2 processes launched kernels"):
        read(path)


def test_merged_ranks_whose_devices_are_mixed_are_refused_by_name(tmp_path: Path) -> None:
    parts = [rank_of(rank, 200, process=500 + rank) for rank in range(2)]
    document = json.loads(merged(parts, tmp_path / "mixed.json", world_size=2).read_text())
    for event in document["traceEvents"]:
        event["pid"] = 0 if event["cat"] == "kernel" else event["pid"]
    (tmp_path / "mixed.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"mixed\.json: 2 processes launched kernels"):
        read(tmp_path / "mixed.json")


def pipeline(folder: Path, *, world_size: int = 1, second: int = 300) -> Analysis:
    """One process: device 0 computes 200 us, then device 3 `second` us, in each of three steps of 1 ms."""
    trace = TinyDevice(world_size=world_size)
    for step in (1, 2, 3):
        at = 1000 * step
        trace.step(step, at, at + 990)
        trace.kernel(at + 60, at + 260, launched=at + 10)
        trace.kernel(at + 300, at + 300 + second, launched=at + 20, device=3)
        trace.kernel(at + 650, at + 950, launched=at + 30)
    trace.write(folder)
    return analyze(read(folder))


def test_devices_of_one_process_have_ledgers_of_their_own(tmp_path: Path) -> None:
    analysis = pipeline(tmp_path)
    assert computed(analysis) == {0: 500, 1: 300}
    assert any("One process computes on several devices" in line for line in analysis.review.warnings)
    assert analysis.review.job.world_size is not None
    assert analysis.review.job.world_size.value == 2
    assert "device.kernels_missing" not in {row.code for row in analysis.review.quality.defects}
    assert set(analysis.tables["missing_kernels"]["rank"]) == set()


def test_a_device_that_was_only_touched_is_no_rank(tmp_path: Path) -> None:
    analysis = pipeline(tmp_path, second=8)
    assert set(computed(analysis)) == {0}
    assert not any("devices" in line for line in analysis.review.warnings)


def test_a_rank_of_several_that_uses_two_devices_says_so(tmp_path: Path) -> None:
    analysis = pipeline(tmp_path, world_size=4)
    assert set(computed(analysis)) == {0}
    assert any("more than one device" in line for line in analysis.review.warnings)
