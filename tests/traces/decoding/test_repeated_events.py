"""The same event written twice counts once."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from inputs.tiny_device import TinyDevice

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.traces import summarize
from traceanalyzer.traces.capture.ingest import ingest


def trace() -> TinyDevice:
    job = TinyDevice()
    for step in (1, 2, 3):
        job.step(step, 1000 * step, 1000 * step + 990)
        for k in range(4):
            job.kernel(1000 * step + 100 + 200 * k, 1000 * step + 240 + 200 * k, launched=1000 * step + 10 + 10 * k)
    return job


@pytest.mark.sweep(1)
@pytest.mark.parametrize("captured", [False, True])
def test_events_written_twice_count_once_and_are_said_first(*, captured: bool, tmp_path: Path) -> None:
    plain, twice = trace(), trace()
    twice.events += copy.deepcopy(twice.events[9:21])  # the second step but for its range, and more
    paths = [plain.write(tmp_path / "plain"), twice.write(tmp_path / "twice")]
    if captured:
        for path in paths:
            ingest([str(path)], path.parent / "capture")
        paths = [path.parent / "capture" for path in paths]
    one, two = (analyze(read(path)) for path in paths)
    assert two.tables["accounting"].equals(one.tables["accounting"])
    assert two.tables["kernels"].height == one.tables["kernels"].height == 12
    quality = two.review.quality
    assert quality.events_dropped == {"duplicate": 12}
    assert quality.events_seen == quality.events_kept + 12
    assert any("it counts once (12 events)" in line for line in two.review.warnings)
    assert quality.verdict == "complete"
    assert one.review.warnings == [line for line in two.review.warnings if "counts once" not in line]


@pytest.mark.parametrize("shift_us", [0, 0.001])
def test_sums_of_kernel_times_count_repeated_events_once(shift_us: float, tmp_path: Path) -> None:
    plain, twice = trace(), trace()
    again = [event for event in copy.deepcopy(twice.events[9:21]) if event.get("cat") == "kernel"]
    twice.events += [{**event, "ts": event["ts"] + shift_us} for event in again]
    assert again
    one, two = (summarize(job.write(tmp_path / name)) for job, name in ((plain, "plain"), (twice, "twice")))
    assert one.kernel_times["num_kernels"].sum() == 12
    assert two.kernel_times.equals(one.kernel_times)


def test_events_that_differ_in_one_argument_are_two(tmp_path: Path) -> None:
    job = trace()
    again = copy.deepcopy(job.events[-1])
    again["args"]["grid"] = [8, 1, 1]
    job.events.append(again)
    path = job.write(tmp_path)
    assert json.loads(path.read_text())["traceEvents"][-1]["args"]["grid"] == [8, 1, 1]
    assert analyze(read(path)).review.quality.events_dropped == {}
