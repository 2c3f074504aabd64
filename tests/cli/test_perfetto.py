"""`traceanalyzer perfetto`: what it writes, prints and refuses; and the commands that findings give."""

from __future__ import annotations

import gzip
import json
import shlex
import sys
from pathlib import Path

import pytest
from planted import Faults, Job, plant
from timeline_reader import read_timeline

from traceanalyzer.cli import main

Caught = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stages, the last of which computes too long."""
    job = Job(pp=3, num_microbatches=5)
    return plant(job, Faults(slow_compute={2: 1.6}), tmp_path_factory.mktemp("slow run")).traces


@pytest.mark.wide
def test_it_writes_both_formats_and_says_what(traces: Path, tmp_path: Path, capsys: Caught) -> None:
    for name in ("a.pftrace", "a.json", "a.json.gz"):
        assert main(["perfetto", str(traces), "-o", str(tmp_path / name)]) == 0
        told = capsys.readouterr()
        assert told.out.startswith(f"{tmp_path / name}: ")
        assert "5 processes" in told.out
        assert len(read_timeline(tmp_path / name).processes) == 5
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == (tmp_path / "a.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["otherData"]["of"] == str(traces)
    assert main(["perfetto", str(traces), "-o", str(tmp_path / "b.json"), "--format", "perfetto"]) == 0
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.pftrace").read_bytes()


@pytest.mark.wide
def test_the_command_of_a_finding_shows_its_moment(
    traces: Path, tmp_path: Path, capsys: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", str(traces), "--json", "review.json"]) == 0
    lines = [
        line.strip().removeprefix("see ")
        for line in capsys.readouterr().out.splitlines()
        if "see traceanalyzer" in line
    ]
    found = [
        f
        for f in json.loads(Path("review.json").read_text())["findings"]
        if not f["passed"] and f["start_ns"] is not None
    ]
    assert len(lines) == len(found) > 0
    for line, finding in zip(lines, found, strict=True):
        command = shlex.split(line)
        assert main(command[1:]) == 0
        timeline = read_timeline(Path(command[-1]))
        told = timeline.of(f"rank {finding['rank']}", "findings")
        assert (finding["title"], finding["start_ns"], finding["end_ns"]) in [
            (s.name, s.start_ns, s.end_ns) for s in told
        ]
    assert main(["report", str(traces), "-o", "report.html"]) == 0
    page = Path("report.html").read_text()
    assert all(line.split(" -o ")[1] in page for line in lines)


@pytest.mark.wide
def test_the_moment_is_the_same_where_fewer_steps_were_analysed(
    traces: Path, tmp_path: Path, capsys: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", str(traces), "--steps", "2", "--json", "review.json"]) == 0
    lines = [line.strip()[4:] for line in capsys.readouterr().out.splitlines() if "see traceanalyzer" in line]
    found = [f for f in json.loads(Path("review.json").read_text())["findings"] if not f["passed"] and f["start_ns"]]
    assert len(lines) == len(found) > 0
    for line, finding in zip(lines, found, strict=True):
        command = shlex.split(line)
        assert main(command[1:]) == 0
        owners = read_timeline(Path(command[-1])).of(f"rank {finding['rank']}", "accounting")
        assert owners
        assert all(s.start_ns <= finding["end_ns"] + 2000 and s.end_ns >= finding["start_ns"] - 2000 for s in owners)
        assert min(s.start_ns for s in owners) <= finding["start_ns"] + 2000
        assert max(s.end_ns for s in owners) >= finding["end_ns"] - 2000


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["-o", "-"], 2, "written to a file"),
        (["-o", "missing/a.pftrace"], 4, "cannot be written"),
        (["-o", "a.pftrace", "--ranks", "9"], 2, "none of the chosen ranks"),
        (["-o", "a.pftrace", "--steps", "77"], 2, "none of the chosen steps"),
        (["-o", "a.pftrace", "--from", "9", "--to", "3"], 2, "--from is not before --to"),
        (["-o", "a.pftrace", "--traces", "x"], 2, "--traces does not apply"),
        ([], 2, "Missing option"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    traces: Path,
    tmp_path: Path,
    capsys: Caught,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["perfetto", str(traces), *arguments]) == status
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_input_is_no_timeline(tmp_path: Path, capsys: Caught) -> None:
    assert main(["perfetto", str(tmp_path / "nothing"), "-o", str(tmp_path / "a.pftrace")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.wide
def test_without_the_package_the_other_format_is_named(
    traces: Path, tmp_path: Path, capsys: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == "perfetto" or name.startswith("perfetto.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "perfetto", None)
    assert main(["perfetto", str(traces), "-o", str(tmp_path / "a.pftrace")]) == 2
    told = capsys.readouterr().err
    assert "traceanalyzer-llm[perfetto]" in told
    assert "--format json" in told
    assert main(["perfetto", str(traces), "-o", str(tmp_path / "a.json")]) == 0


@pytest.mark.wide
def test_a_result_is_read_without_its_traces(traces: Path, tmp_path: Path, capsys: Caught) -> None:
    result, out = str(tmp_path / "result"), str(tmp_path / "a.pftrace")
    assert main(["analyze", str(traces), "--out", result]) == 0
    assert main(["perfetto", result, "-o", out]) == 0
    assert "--traces CAPTURE" in capsys.readouterr().err
    assert main(["perfetto", result, "-o", out, "--cpu"]) == 2
    assert main(["perfetto", result, "-o", out, "--traces", str(traces)]) == 2
    capsys.readouterr()
    (tmp_path / "result" / "tables" / "kernels.parquet").write_bytes(b"PAR1")
    assert main(["perfetto", result, "-o", str(tmp_path / "b.pftrace")]) == 3
    assert "its checksum does not hold" in capsys.readouterr().err
    assert not (tmp_path / "b.pftrace").exists()
