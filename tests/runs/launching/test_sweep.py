"""Sweeps: the grammar, every point once, finished points kept, failed ones told with their reason, one table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import run_job, small  # noqa: E402

from instrumented_runs.settings import PipelineSettings, RunSettings  # noqa: E402
from instrumented_runs.sweep import parse_sweep, point_name, points  # noqa: E402
from traceanalyzer.cli import main  # noqa: E402
from traceanalyzer.errors import JobError, UsageError  # noqa: E402


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("schedule=GPipe", {"schedule": ["GPipe"]}),
        (
            "schedule=GPipe,1F1B,microbatches=4,8,16",
            {"schedule": ["GPipe", "1F1B"], "microbatches": ["4", "8", "16"]},
        ),
        ("--forward_ms=1.5, 2 ,seed=-1", {"forward-ms": ["1.5", "2"], "seed": ["-1"]}),
    ],
)
def test_a_piece_with_an_equals_sign_begins_the_next_option(text: str, axes: dict[str, list[str]]) -> None:
    assert parse_sweep(text) == axes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("GPipe,1F1B", "begins with a value"),
        ("", "begins with a value"),
        ("schedule=", "a value of 'schedule' is empty"),
        ("schedule=GPipe,GPipe", "occurs twice"),
        ("schedule=GPipe,schedule=1F1B", "named twice"),
        ("=4", "has no name"),
    ],
)
def test_a_sweep_that_cannot_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_sweep(text)


def test_points_are_all_combinations_and_too_many_are_refused() -> None:
    combined = points({"a": ["1", "2"], "b": ["x", "y/z"]})
    assert [point_name(p) for p in combined] == ["a=1,b=x", "a=1,b=y%2Fz", "a=2,b=x", "a=2,b=y%2Fz"]
    with pytest.raises(UsageError, match="1001 points"):
        points({"a": [str(n) for n in range(1001)]})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sweep", "colour=red"], "cannot vary 'colour'"),
        (["--sweep", "out=a,b"], "cannot vary 'out'"),
        (["--sweep", "microbatches=4,many"], "many"),
        (["--sweep", "microbatches=4", "--microbatches", "8"], "given and swept"),
    ],
)
def test_a_sweep_of_what_is_no_option_is_refused_before_anything_starts(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments, "--out", str(tmp_path / "sweep")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["run", "--sweep", "microbatches=4,8", "--out", str(tmp_path)]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


Launch = Callable[[str, RunSettings, Callable[[str], None], Mapping[str, str]], Path]


@pytest.mark.wide
@pytest.mark.runs
def test_finished_points_are_kept_failed_ones_tried_again_and_all_stand_in_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paced = {"compute_mode": "paced", "forward_ms": 4.0, "backward_ms": 4.0}
    run_job("pipeline", small(tmp_path / "real", **paced))
    launched: list[int] = []
    failing = {4}

    def launch(_: str, settings: RunSettings, tell: Callable[[str], None], __: Mapping[str, str]) -> Path:
        tell("launched")
        assert isinstance(settings, PipelineSettings)
        launched.append(settings.num_microbatches)
        if settings.num_microbatches in failing:
            raise JobError("rank 1 failed in step 2: killed by signal 9 (SIGKILL)", "see the log")
        return Path(shutil.copytree(tmp_path / "real", settings.folder, dirs_exist_ok=True))

    monkeypatch.setattr("traceanalyzer.cli.running.sweep.launch", launch)
    folder = tmp_path / "sweep"
    sweep = "schedule=1F1B,Interleaved1F1B,microbatches=2,4,5"
    command = ["run", "--ranks", "2", "--compute", "paced", "--out", str(folder), "--sweep", sweep]

    assert main(command) == 5
    first = pl.read_parquet(folder / "sweep.parquet")
    assert launched == [2, 4, 5, 2, 4]
    assert first["status"].to_list() == ["done", "failed", "done", "done", "failed", "refused"]
    assert first["schedule"].to_list() == ["1F1B"] * 3 + ["Interleaved1F1B"] * 3
    assert "SIGKILL" in first["reason"][1]
    assert "5 microbatches" in first["reason"][5]
    measured = first.filter(pl.col("status") == "done")
    assert measured["closed_form_share"].to_list() == [pytest.approx(1 / 5)] * 3  # of the run behind every point
    assert measured["peak_in_flight"].to_list() == [2] * 3
    assert (
        measured["bubble_share"] - measured["simulated_share"] - measured["bubble_minus_simulated"]
    ).abs().max() == 0
    told = capsys.readouterr()
    assert "3 of 6 points are not done; points/schedule=1F1B,microbatches=4: rank 1 failed" in told.err
    assert [line.split()[:3] for line in told.out.splitlines()[2:4]] == [["1F1B", "2", "done"], ["1F1B", "4", "failed"]]

    failing.clear()
    launched.clear()
    assert main(command) == 5  # one point cannot exist
    assert launched == [4, 4]
    again = pl.read_csv(folder / "sweep.csv")
    assert again["status"].to_list() == ["done"] * 5 + ["refused"]
    assert again["step_ms"][0] == first["step_ms"][0]

    launched.clear()
    assert main([*command[:-1], "schedule=1F1B,microbatches=4", "--steps", "9"]) == 0
    assert launched == [4]  # asked differently, so run again
    assert [row["status"] for row in json.loads((folder / "sweep.json").read_text())] == ["done"]

    launched.clear()
    shutil.rmtree(folder / "points" / "schedule=1F1B,microbatches=4")
    assert main([*command[:-1], "schedule=1F1B,microbatches=4", "--steps", "9"]) == 0
    assert launched == [4]  # on record as done, but its run has gone
