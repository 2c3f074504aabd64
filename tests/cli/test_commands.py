"""The command line: exit statuses, error lines, help that costs nothing."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from inputs.tiny_trace import run_of

from traceanalyzer.cli import COMMANDS, main

Caught = pytest.CaptureFixture[str]
HEAVY = ("polars", "torch", "holoviews", "bokeh", "numpy", "pandas")
GPIPE = ["0F0@0-10 0B0@30-50", "1F0@10-20 1B0@20-30"]


def cli(*arguments: str, cwd: Path | None = None, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "traceanalyzer"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=cwd, check=False, timeout=120)


@pytest.mark.parametrize("arguments", [["--help"], *[[name, "--help"] for name in COMMANDS]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from traceanalyzer.cli import main; status = main(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules], status)"
    )
    result = cli(*arguments, code=code)
    assert result.stdout.splitlines()[-1] == "[] 0"
    assert "Usage:" in result.stdout


def test_versions_of_what_matters() -> None:
    first, second = cli("--version").stdout.splitlines()
    assert first.startswith("traceanalyzer ")
    for package in ("Python", "polars", "numba", "bokeh", "torch"):
        assert f"{package} " in second


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"hello, this is no trace", "trace.json"),
        (gzip.compress(b'{"traceEvents": [{"ph": "X", "na')[:30], "r.json.gz"),
    ],
    ids=["not JSON", "gzip cut before its first event"],
)
def test_input_that_cannot_be_used(tmp_path: Path, content: bytes, name: str, capsys: Caught) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for target in (path, tmp_path):
        assert main(["analyze", str(target)]) == 3
        told = capsys.readouterr()
        reason, remedy = told.err.splitlines()
        assert name in reason
        assert reason.startswith("traceanalyzer: ")
        assert remedy.startswith("  ")
        assert told.out == ""


def test_the_status_of_a_refusal_is_that_of_the_process(tmp_path: Path) -> None:
    refused = cli("analyze", str(tmp_path))
    assert (refused.returncode, refused.stdout) == (3, "")
    assert len(refused.stderr.splitlines()) == 2


@pytest.mark.parametrize("target", ["", "missing"])
def test_a_folder_without_traces(tmp_path: Path, target: str, capsys: Caught) -> None:
    assert main(["analyze", str(tmp_path / target)]) == 3
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 2
    assert str(tmp_path) in told


def test_wrong_usage(capsys: Caught) -> None:
    for arguments in (["nonsense"], ["analyze", "x", "--no-such-option"], ["run", "nonsense"], ["table", "x", "step"]):
        assert main(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(("arguments", "missing"), [([], None), (["analyze"], "PATH"), (["predict"], "--stages")])
def test_a_command_that_lacks_something_shows_its_help(
    arguments: list[str], missing: str | None, capsys: Caught
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("Usage: traceanalyzer")
    if missing is not None:
        assert missing in told.splitlines()[-2]


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["analyse"], "analyze"),
        (["plan", "jobs"], "job"),
        (["table", "x", "acounting"], "accounting"),
        (["predict", "-s", "1f1bb", "-p", "2", "-m", "2"], "1F1B"),
        (["predict", "-s", "1F1B", "-p", "2", "-m", "2", "--model", "llama-3-8b", "--device", "H100"], "H100 SXM"),
        (
            [
                "plan",
                "job",
                "--model",
                "lama-3-70b",
                "--gpus",
                "8",
                "--hardware",
                "DGX H100",
                "--seq",
                "8",
                "--batch",
                "8",
            ],
            "llama-3-70b",
        ),
        (
            [
                "plan",
                "job",
                "--model",
                "llama-3-70b",
                "--gpus",
                "8",
                "--hardware",
                "H100",
                "--seq",
                "8",
                "--batch",
                "8",
            ],
            "DGX H100",
        ),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else value,
)
def test_names_that_are_nearly_right(arguments: list[str], near: str, capsys: Caught) -> None:
    assert main(arguments) == 2
    assert f"did you mean {near}" in capsys.readouterr().err


def test_one_screen_is_the_default(tmp_path: Path, capsys: Caught) -> None:
    run_of(tmp_path, GPIPE)
    assert main(["analyze", str(tmp_path)]) == 0
    short = capsys.readouterr().out
    assert main(["analyze", str(tmp_path), "--full"]) == 0
    full = capsys.readouterr().out
    assert len(short.splitlines()) <= 40
    assert "--full shows also: " in short
    assert "Bubble by stage" in full
    assert "Bubble by stage" not in short


@pytest.mark.parametrize(
    ("options", "environment", "colored"),
    [((), {}, False), (("--color", "always"), {}, True), (("--color", "always"), {"NO_COLOR": "1"}, True)],
)
def test_colour(
    tmp_path: Path,
    options: tuple[str, ...],
    environment: dict[str, str],
    colored: bool,  # noqa: FBT001
    capsys: Caught,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run_of(tmp_path, GPIPE)
    assert main([*options, "analyze", str(tmp_path)]) == 0
    assert ("\x1b[1m50.0%\x1b[0m" in capsys.readouterr().out) is colored


def test_what_the_doctor_finds(capsys: Caught) -> None:
    assert main(["doctor", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_cores"] >= 1
    assert found["packages"]["polars"]
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "GPU profiler" in text
    for private in (os.environ.get("USER", "\0"), os.uname().nodename, str(Path.home())):
        assert private not in text.split()


def test_json_goes_to_standard_output_alone(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    result = cli("analyze", str(tmp_path), "--json", "-")
    assert json.loads(result.stdout)["bubble"]["measured_share"] == pytest.approx(0.5)
    assert result.returncode == 0


def test_text_shows_measured_beside_theory(tmp_path: Path, capsys: Caught) -> None:
    assert main(["analyze", str(run_of(tmp_path, GPIPE))]) == 0
    text = capsys.readouterr().out
    assert "Pipeline bubble" in text
    assert "50.0%" in text
    assert "withheld: MFU" in text


def test_text_needs_no_drawing_library(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    drawing = ("bokeh", "holoviews", "panel", "pandas", "jinja2")
    code = (
        "import sys; from traceanalyzer.cli import main; status = main(sys.argv[1:]);"
        f"print([name for name in {drawing} if name in sys.modules], status)"
    )
    for arguments in (["analyze", str(tmp_path)], ["predict", "-s", "1f1b", "-p", "2", "-m", "4"]):
        assert cli(*arguments, code=code).stdout.splitlines()[-1] == "[] 0"


def test_output_that_cannot_be_written_leaves_nothing(tmp_path: Path, capsys: Caught) -> None:
    run_of(tmp_path / "run", GPIPE)
    target = tmp_path / "no" / "such" / "folder.json"
    assert main(["analyze", str(tmp_path / "run"), "--json", str(target)]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not target.parent.exists()


def test_names_from_traces_reach_no_terminal_unescaped(tmp_path: Path, capsys: Caught) -> None:
    hostile = tmp_path / "evil\x1b]52;c;aGk=\x07"
    assert main(["analyze", str(hostile)]) == 3
    assert "\x1b" not in capsys.readouterr().err


def test_analysis_runs_without_torch(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['instrumented_runs'] = None;"
        "from traceanalyzer.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for arguments in (["analyze", str(tmp_path)], ["report", str(tmp_path), "-o", str(tmp_path / "r.html")]):
        result = cli(*arguments, code=code)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "r.html").stat().st_size > 100_000


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "traceanalyzer", "analyze", str(tmp_path), "--json", "-"]
    result = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(write_end)
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr


def test_every_command_is_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for name in COMMANDS:
        assert f"traceanalyzer {name}" in readme, name
