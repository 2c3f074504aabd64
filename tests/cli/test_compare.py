"""`compare` and `gate` as commands: what they read, write, refuse and return."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from planted import Faults, Job, plant

from traceanalyzer.cli import main
from traceanalyzer.comparison.record import json_schema

Caught = pytest.CaptureFixture[str]
JOB = Job(pp=2, num_microbatches=3, num_steps=5)
CHANCE = Faults(varying_compute=0.01)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces of a base, a slow stage and another device; results of the first two; the base's review alone."""
    folder = tmp_path_factory.mktemp("runs")
    slow = replace(CHANCE, seed=1, slow_compute={1: 1.3})
    for name, job, faults in (
        ("base", JOB, CHANCE),
        ("slow", JOB, slow),
        ("other", replace(JOB, device="NVIDIA A100-SXM4-80GB"), CHANCE),
    ):
        (folder / name).mkdir()
        plant(job, faults, folder / name)
    for name, result in (("base", "result"), ("slow", "slow result")):
        assert main(["analyze", str(folder / name), "--out", str(folder / result)]) == 0
    (folder / "review.json").write_bytes((folder / "result" / "review.json").read_bytes())
    return folder


@pytest.mark.parametrize("base", ["base", "result", "review.json"])
def test_traces_results_and_reviews_are_compared_with_each_other(base: str, runs: Path, capsys: Caught) -> None:
    assert main(["compare", str(runs / base), str(runs / "slow")]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "slower" in first
    assert "because stage 1 (rank 1) computes" in first


def test_the_json_is_what_the_schema_says_and_holds_the_same_sentences(
    runs: Path, tmp_path: Path, capsys: Caught
) -> None:
    assert main(["compare", str(runs / "result"), str(runs / "slow result"), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, json_schema())
    assert found["pairs"][0]["verdict"] == "slower"
    assert {view["by"] for view in found["pairs"][0]["waterfalls"]} == {
        "cause", "owner", "ranks", "kernel_class", "kernel", "collective",
    }  # fmt: skip
    file = tmp_path / "comparison.json"
    assert main(["compare", str(runs / "result"), str(runs / "slow result"), "--json", str(file)]) == 0
    assert found["sentences"][0] in capsys.readouterr().out
    assert json.loads(file.read_text())["sentences"] == found["sentences"]


def test_markdown_for_a_pull_request(runs: Path, capsys: Caught) -> None:
    assert main(["compare", str(runs / "result"), str(runs / "slow result"), "--format", "md"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("### Comparison of runs\n\n**The step is ")
    assert told.count("<details>") == told.count("</details>") > 0
    assert len(told) < 65_536


def test_what_cannot_be_compared_is_wrong_usage_with_the_way_out(runs: Path, capsys: Caught) -> None:
    assert main(["compare", str(runs / "result"), str(runs / "other")]) == 2
    *_, message, hint = capsys.readouterr().err.splitlines()  # after progress, where reading takes over a second
    assert "device: NVIDIA H100 80GB HBM3 against NVIDIA A100-SXM4-80GB" in message
    assert main(["compare", str(runs / "result"), str(runs / "other"), *hint.split(": ", 1)[1].split()]) == 0
    assert "! The runs differ in device" in capsys.readouterr().out


def test_a_floor_is_set_or_seen(runs: Path, capsys: Caught) -> None:
    assert main(["compare", str(runs / "result"), str(runs / "slow result"), "--floor", "60"]) == 0
    assert "did not change by more than noise" in capsys.readouterr().out
    options = ["--base-too", str(runs / "base")]
    assert main(["compare", str(runs / "result"), str(runs / "slow result"), *options]) == 0
    assert "2 base runs differ by 0%" in capsys.readouterr().out


def test_a_gate_on_a_comparison_takes_the_base_as_its_baseline(runs: Path, tmp_path: Path, capsys: Caught) -> None:
    gate = tmp_path / "gate.toml"
    gate.write_text('[[limit]]\npath = "step.duration_ms.median"\nmax_increase = "5%"\n')
    compared = ["compare", str(runs / "result"), str(runs / "slow result"), "--gate", str(gate)]
    assert main(compared) == 1
    caught = capsys.readouterr()
    assert "gate broken: step.duration_ms.median" in caught.out
    assert "1 of 1 limits is broken" in caught.err
    assert main(["compare", str(runs / "result"), str(runs / "base"), "--gate", str(gate)]) == 0
    capsys.readouterr()
    assert main(["analyze", str(runs / "slow"), "--gate", str(gate)]) == 2  # nothing to be relative to
    caught = capsys.readouterr()
    assert caught.out == ""  # refused before anything was measured
    assert f"{gate}: limit step.duration_ms.median: is against a baseline" in caught.err
    assert main([*compared, "--format", "github", "--junit", str(tmp_path / "gate.xml")]) == 1
    assert "::error title=gate%3A step.duration_ms.median::" in capsys.readouterr().out
    assert "<failure" in (tmp_path / "gate.xml").read_text()


@pytest.mark.wide
def test_gate_init_replaces_nothing_and_is_kept_beside_its_baseline(runs: Path, tmp_path: Path, capsys: Caught) -> None:
    gate = tmp_path / "gate.toml"
    assert main(["gate", "init", str(runs / "result"), "-o", str(gate)]) == 0
    assert main(["gate", "init", str(runs / "result"), "-o", str(gate)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(["gate", "init", str(runs / "base"), "-o", str(gate), "--force"]) == 0
    assert main(["analyze", str(runs / "base"), "--gate", str(gate)]) == 0
    assert main(["analyze", str(runs / "slow"), "--gate", str(gate), "--json", "-"]) == 1
    caught = capsys.readouterr()
    assert "gate broken: step.duration_ms.median" in caught.err
    json.loads(caught.out[caught.out.index("{\n") :])


def test_junit_without_a_gate_is_wrong_usage(runs: Path, tmp_path: Path, capsys: Caught) -> None:
    assert main(["analyze", str(runs / "result"), "--junit", str(tmp_path / "j.xml")]) == 2
    assert "--junit" in capsys.readouterr().err


def test_a_colon_divides_runs_of_several_files(runs: Path, capsys: Caught) -> None:
    base, slow = (sorted(map(str, (runs / name).rglob("*.json*"))) for name in ("base", "slow"))
    traces = [[file for file in files if "rank" in Path(file).name] for files in (base, slow)]
    assert [len(files) for files in traces] == [2, 2]
    assert main(["compare", *traces[0], ":", *traces[1]]) == 0
    assert "because stage 1 (rank 1) computes" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("places", [[":", "result"], ["result", ":"], ["result", ":", ":", "slow result", ":"]])
def test_an_empty_side_is_refused(places: list[str], runs: Path, capsys: Caught) -> None:
    assert main(["compare", *(place if place == ":" else str(runs / place) for place in places)]) == 2
    assert "a colon divides runs, and one side of it is empty" in capsys.readouterr().err


def test_ranks_of_one_folder_are_not_taken_as_runs(runs: Path, capsys: Caught) -> None:
    ranks = [str(file) for file in sorted((runs / "base").rglob("*rank*.json*"))]
    assert main(["compare", *ranks, str(runs / "slow result")]) == 2
    refused = capsys.readouterr().err
    assert "are rank 0 and rank 1 in one folder, taken as two runs" in refused
    assert "put a colon between the runs" in refused
