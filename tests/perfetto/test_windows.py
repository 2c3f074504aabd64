"""Ranks, steps and a stretch of time choose what is written; what touches the window is written whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import Faults, Job, plant
from timeline_reader import Timeline, read_timeline

from traceanalyzer.analysis.assemble import read
from traceanalyzer.errors import UsageError
from traceanalyzer.perfetto.export import write_timeline
from traceanalyzer.perfetto.source import Source, measured_source
from traceanalyzer.perfetto.window import Choice


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    job = Job(pp=3, num_microbatches=4, num_steps=4)
    folder = tmp_path_factory.mktemp("run")
    return measured_source(read(plant(job, Faults(slow_compute={2: 1.5}), folder).traces), folder / "result")


def shown(source: Source, folder: Path, choice: Choice) -> Timeline:
    write_timeline(source, choice, folder / "a.pftrace", cpu=True)
    return read_timeline(folder / "a.pftrace")


def test_ranks_choose_processes_and_no_flow_hangs(source: Source, tmp_path: Path) -> None:
    timeline = shown(source, tmp_path, Choice(ranks=frozenset({0, 2})))
    assert [each.split(",")[0] for each in timeline.processes] == ["job", "ideal schedule", "rank 0", "rank 2"]
    assert timeline.dangling == 0
    assert len(timeline.of("rank 2", "actions")) == source.of_rank("actions", 2).height


def test_steps_choose_what_touches_their_windows(source: Source, tmp_path: Path) -> None:
    steps = source.whole("steps")
    step = sorted(set(steps["step"]))[1]
    timeline = shown(source, tmp_path, Choice(steps=frozenset({step})))
    assert timeline.dangling == 0
    for rank, start, end in steps.filter(steps["step"] == step).select("rank", "start_ns", "end_ns").rows():
        assert [s.args["step"] for s in timeline.of(f"rank {rank}", "steps")] == [step]
        kernels = source.of_rank("kernels", rank)
        touching = kernels.filter((kernels["start_ns"] < end) & (kernels["end_ns"] > start))
        drawn = [
            s
            for track in timeline.tracks(f"rank {rank}")
            if track.startswith("stream")
            for s in timeline.of(f"rank {rank}", track)
        ]
        assert len(drawn) == touching.height < kernels.height


def test_a_stretch_of_time_counts_from_the_first_step(source: Source, tmp_path: Path) -> None:
    zero = int(source.whole("steps")["start_ns"].min())  # type: ignore[arg-type]
    timeline = shown(source, tmp_path, Choice(from_ms=3.0, to_ms=9.5))
    assert timeline.slices
    assert timeline.dangling == 0
    for each in [each for each in timeline.slices if each.depth == 0]:
        assert each.start_ns < zero + 9_500_000
        assert max(each.end_ns, each.start_ns + 1) > zero + 3_000_000


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (Choice(ranks=frozenset({7})), "none of the chosen ranks was captured"),
        (Choice(steps=frozenset({99})), "none of the chosen steps was captured"),
        (Choice(from_ms=5, to_ms=5), "--from is not before --to"),
    ],
)
def test_an_empty_choice_is_refused_and_leaves_no_file(
    source: Source, tmp_path: Path, choice: Choice, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        shown(source, tmp_path, choice)
    assert not list(tmp_path.iterdir())
