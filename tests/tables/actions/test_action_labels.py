"""Names of ranges that label actions: torch's runtime, torch's GPipe, ours, and a pattern from the job's file."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from inputs.tiny_trace import TinyRank
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import Analysis, analyze, read, with_declaration
from traceanalyzer.cli import main
from traceanalyzer.errors import UsageError
from traceanalyzer.gaps.efficiency.declaration import Declaration
from traceanalyzer.tables.actions.labels import check_pattern

RANGES = {  # stage, phase, microbatch: start, end
    (0, "F", 0): (0, 10),
    (0, "F", 1): (10, 20),
    (1, "F", 0): (10, 20),
    (1, "F", 1): (20, 30),
    (1, "B", 0): (30, 50),
    (1, "B", 1): (50, 70),
    (0, "B", 0): (50, 70),
    (0, "B", 1): (70, 90),
}
PATTERN = r"^(?P<phase>fwd|bwd)_s(?P<stage>\d+)_m(?P<microbatch>\d+)$"


def run(folder: Path, name: str) -> Path:
    """Two ranks whose actions are named by `name`, in which {word}, {stage}, {phase}, {microbatch} may stand."""
    for rank in (0, 1):
        trace = TinyRank(rank, 2)
        for (stage, phase, microbatch), (start, end) in RANGES.items():
            if stage == rank:
                long = {"F": "Forward", "B": "Backward"}[phase]
                trace.annotate(
                    name.format(
                        stage=stage, phase=phase, microbatch=microbatch, word=long, short=long[0].lower() + "wd"
                    ),
                    start,
                    end,
                )
        trace.step(1, 0, 100)
        trace.write(folder)
    return folder


def labels(analysis: Analysis) -> dict[tuple[int, str, int], tuple[int, int]]:
    table = analysis.tables["actions"]
    first = int(table["start_ns"].min() or 0)
    columns = ("stage", "microbatch", "start_ns", "end_ns")
    rows = table.select(pl.col("phase").cast(pl.String), *columns).iter_rows()
    return {(s, p, m): ((start - first) // 1000, (end - first) // 1000) for p, s, m, start, end in rows}


@pytest.mark.parametrize("name", ["compute:{stage}{phase}{microbatch}", "PP:{stage}{phase}{microbatch}"])
def test_known_labels_are_read(name: str, tmp_path: Path) -> None:
    assert labels(analyze(read(run(tmp_path, name)))) == RANGES


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("{short}_s{stage}_m{microbatch}", PATTERN),
        ("layer {phase} of {stage}", r"^layer (?P<phase>\w) of (?P<stage>\d+)$"),  # microbatches are counted
    ],
)
def test_the_jobs_own_pattern_labels_actions(name: str, pattern: str, tmp_path: Path) -> None:
    source = read(run(tmp_path, name))
    assert analyze(source).tables["actions"].is_empty()
    assert labels(analyze(with_declaration(source, Declaration(action_pattern=pattern)))) == RANGES


def gpipe(folder: Path, labels: str | None) -> Analysis:
    job = Job(schedule="GPipe", pp=2, num_microbatches=3, labels=labels)
    return analyze(read(plant(job, Faults(), folder).traces))


def test_torchs_gpipe_names_no_stage_but_messages_show_the_place(tmp_path: Path) -> None:
    named, runtime = gpipe(tmp_path / "a", "gpipe"), gpipe(tmp_path / "b", "own")
    assert labels(named) == labels(runtime)
    assert named.review.bubble is not None
    assert runtime.review.bubble is not None
    assert named.review.bubble.measured_share == runtime.review.bubble.measured_share
    assert named.review.job.schedule.value == "GPipe"
    assert named.review.job.num_microbatches.source == "recorded"


def test_forward_and_backward_of_a_rank_without_pipeline_are_no_actions(tmp_path: Path) -> None:
    TinyRank(0, 1).annotate("Forward 0", 0, 10).annotate("Backward 0", 10, 20).step(1, 0, 30).write(tmp_path)
    analysis = analyze(read(tmp_path))
    assert analysis.tables["actions"].is_empty()
    assert analysis.review.bubble is None


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?P<phase>F", "not a regular expression"),
        (r"F(\d+)", "no group called phase"),
        ("(?<=x)(?P<phase>F)", "look-around"),
    ],
)
def test_a_bad_pattern_is_one_clear_line(pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check_pattern(pattern)
    assert "\n" not in caught.value.message
    assert "named groups" in str(caught.value.hint)


def test_the_pattern_stands_in_the_job_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path / "run", "{short}_s{stage}_m{microbatch}")
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"action_pattern": PATTERN}))
    assert main(["analyze", str(folder), "--job", str(job)]) == 0
    assert "GPipe closed form" in capsys.readouterr().out
    job.write_text(json.dumps({"action_pattern": "(?P<phase>F"}))
    assert main(["analyze", str(folder), "--job", str(job)]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 2
    assert "Traceback" not in error
    job.write_text(json.dumps({"action_pattern": 7}))
    assert main(["analyze", str(folder), "--job", str(job)]) == 2
