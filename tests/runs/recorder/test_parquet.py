"""A recorder that leaves captures: the same result as the trace gives, ranks merged by a manifest, bad traces kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from launched.recorded_loop import loop
from planted import Faults, Job, plant

from instrumented_runs.recorder.capture import Window
from instrumented_runs.recorder.parquet import InBackground
from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli.captures.ingest import command
from traceanalyzer.job import CAPTURES
from traceanalyzer.review import to_json
from traceanalyzer.traces.capture.manifest import is_capture


def figures(path: Path) -> dict[str, Any]:
    """The review without what names its files."""
    review = json.loads(to_json(analyze(read(path)).review))
    for name in ("source", "provenance", "files", "created"):
        review.pop(name, None)
    for defect in review["quality"]["defects"]:
        defect.pop("file", None)
    return review


@pytest.mark.wide
def test_ranks_that_leave_captures_give_the_result_of_their_traces(tmp_path: Path) -> None:
    job = Job(pp=2, dp=1, num_microbatches=3, num_steps=2, kernels_per_action=2)
    run = plant(job, Faults(slow_compute={1: 1.5}), tmp_path / "run")
    traces = sorted(run.traces.rglob("rank*.json.gz"))
    expected = figures(run.traces)
    left = tmp_path / "left"
    shutil.copytree(run.traces, left)
    background = InBackground(left, wanted=True)
    for trace in traces:
        background.begin(left / trace.relative_to(run.traces))
    background.finish()
    assert not list(left.rglob("*.json.gz"))
    assert len(list((left / CAPTURES).iterdir())) == len(traces)
    assert figures(left) == expected
    events = {path: path.stat().st_ino for path in left.rglob("*.parquet")}
    told = CliRunner().invoke(command, [str(left), "--out", str(left)])
    assert (told.exit_code, "are one" in told.output) == (0, True)
    assert is_capture(left)
    assert figures(left) == expected
    assert {path: path.stat().st_ino for path in left.rglob("*.parquet")} == events


def test_a_trace_that_cannot_be_used_stays_and_is_told(tmp_path: Path) -> None:
    trace = tmp_path / "traces/rank00000.json.gz"
    trace.parent.mkdir()
    trace.write_bytes(b"no trace")
    background = InBackground(tmp_path, wanted=True)
    background.begin(trace)
    with pytest.warns(UserWarning, match="was not made a capture and stays"):
        background.finish()
    assert trace.exists()


@pytest.mark.runs
def test_a_recorded_loop_leaves_a_capture_in_place_of_its_trace(tmp_path: Path) -> None:
    loop(tmp_path, 4, Window(wait=0, warmup=1, active=2), parquet=True)
    assert not (tmp_path / "traces/rank00000.json.gz").exists()
    assert read(tmp_path).traces.ranks["rank"].to_list() == [0]
    assert read(tmp_path).job is not None
