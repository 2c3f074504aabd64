"""Where results go: devices and links are written through, inputs are never replaced, and what cannot be written is said before work."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from catalogue.base import text, trace, write

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import COMMANDS, claims, main
from traceanalyzer.cli import traceanalyzer as group
from traceanalyzer.cli.options import budget
from traceanalyzer.cli.screen import say
from traceanalyzer.output import printable, write_result


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    write(tmp_path / "traces", text(trace()), "rank0.json")
    return tmp_path / "traces"


def leaf_commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for each, inner in command.commands.items():
            yield from leaf_commands(inner, f"{name} {each}")
    else:
        yield name, command


NO_FILES = {
    "ranks", "steps", "where", "chosen", "sort", "name", "query", "forced", "number", "words", "num_nodes", "kind",
}  # fmt: skip


def test_every_parameter_that_names_a_file_is_claimed() -> None:
    known = {*claims.FILES, *claims.FOLDERS, *claims.INPUTS, *claims.OF_RUNS}
    for command in COMMANDS:
        found = group.get_command(click.Context(group), command)
        assert found is not None
        for name, leaf in leaf_commands(found, command):
            for param in leaf.params:
                is_path = isinstance(param.type, click.Path) or "FILE" in str(getattr(param, "metavar", ""))
                assert not is_path or param.name in known, f"{name}: {param.name}"


@pytest.mark.wide
@pytest.mark.parametrize("command", ["check", "analyze", "report"])
def test_a_device_is_written_to_and_never_replaced(
    command: str, traces: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ["-o", str(tmp_path / "page.html")] if command == "report" else []
    assert main([command, str(traces), "--json", os.devnull, *more]) == 0
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert main([command, str(traces), "--json", "/dev/stdout", *more]) == 0
    assert json.loads(capfd.readouterr().out.split("\n{", 1)[-1].join(["{", ""]) or "{}") is not None


def test_standard_output_by_any_name_holds_the_record_alone(traces: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        assert main(["check", str(traces), "--json", name]) == 0
        assert json.loads(capfd.readouterr().out)["counts"]["events_seen"] > 0


def test_a_pipe_is_written_to(traces: Path, tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert main(["check", str(traces), "--json", str(pipe)]) == 0
    reader.join()
    assert json.loads(read[0])["counts"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_is_written_through(traces: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "kept" / "check.json", tmp_path / "link.json"
    target.parent.mkdir()
    link.symlink_to(target)
    for _ in range(2):  # to a file that is not there yet, and to one that is
        assert main(["check", str(traces), "--json", str(link)]) == 0
        assert link.is_symlink()
        assert json.loads(target.read_text())["counts"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("at", ["rank0.json", "run.json", "steps/rank0.jsonl"])
def test_an_input_is_never_overwritten(at: str, traces: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = traces / at
    if not path.exists():
        write(traces, '{"x": 1}\n', at)
    before = path.read_bytes()
    for given in (traces, traces / "rank0.json"):
        status = main(["check", str(given), "--json", str(path)])
        if status == 0:  # beside the file that is read there is no input
            assert given != traces
            path.write_bytes(before)
            continue
        assert status == 2
        assert "would be overwritten" in capfd.readouterr().err
        assert path.read_bytes() == before


def test_a_result_in_the_folder_of_its_traces_may_be_written_again(traces: Path) -> None:
    for _ in range(2):
        assert main(["check", str(traces), "--json", str(traces / "check.json")]) == 0


def test_an_input_by_another_name_is_not_overwritten(traces: Path, tmp_path: Path) -> None:
    (tmp_path / "alias.json").symlink_to(traces / "rank0.json")
    before = (traces / "rank0.json").read_bytes()
    assert main(["check", str(traces / "rank0.json"), "--json", str(tmp_path / "alias.json")]) == 2
    assert (traces / "rank0.json").read_bytes() == before


def test_two_results_at_one_place_are_refused(traces: Path, tmp_path: Path) -> None:
    page = str(tmp_path / "page.html")
    assert main(["report", str(traces), "-o", page, "--json", f"{tmp_path}/./page.html"]) == 2
    assert not Path(page).exists()


@pytest.mark.parametrize("target", ["/proc/x.json", "{tmp}/no/x.json", "{tmp}", "{tmp}/file/x.json", "{tmp}/loop"])
def test_what_cannot_be_written_is_said_before_anything_is_read(
    target: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for words in (
        ["check"],
        ["analyze"],
        ["report", "-o", str(tmp_path / "p.html")],
        ["ingest", "--out", str(tmp_path / "c")],
    ):
        status = main([words[0], "/nowhere", *words[1:], "--json", target.format(tmp=tmp_path)])
        assert status == 4, words
        assert len(capfd.readouterr().err.strip().splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words in (["analyze"], ["ingest"]):
        assert main([*words, "/nowhere", "--out", str(tmp_path / "file" / "x" / "y")]) == 4


CONTROLS = "\x1b[31m\x1b]0;t\x07\x9b1m\r\x00\u202e\u2066\u200b\ufeff\x85\u2028"


def test_what_a_terminal_would_obey_is_never_printed(capfd: pytest.CaptureFixture[str]) -> None:
    say(f"a{CONTROLS}b\tc\nd")
    said = capfd.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in said)
    assert said.startswith("a?[31m?]0;t?")
    assert said.endswith("b c\nd\n")
    assert printable("×·…–µ² \u00a0x") == "×·…–µ²  x"


def test_bytes_for_a_terminal_are_cleaned(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    write_result("-", f'{{"name": "{CONTROLS}"}}\n'.encode())
    assert all(c.isprintable() or c == "\n" for c in capfd.readouterr().out)


def guarded(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "traceanalyzer", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | more)


def test_time_and_memory_have_an_end(traces: Path) -> None:
    late = guarded("analyze", str(traces), "--timeout", "0.01")
    assert (late.returncode, len(late.stderr.splitlines())) == (3, 2)
    assert "stopped after 0.01 s" in late.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("analyze", "TRACES", "--out", "s3://bucket/result"),
        ("analyze", "TRACES", "--json", "gs://bucket/review.json"),
        ("ingest", "TRACES", "--out", "s3://bucket/capture"),
        ("report", "TRACES", "-o", "https://host/page.html"),
        ("gate", "init", "TRACES", "-o", "az://bucket/gate.toml"),
    ],
)
def test_a_url_is_refused_as_a_place_to_write_to(
    words: tuple[str, ...],
    traces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(traces) if word == "TRACES" else word for word in words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert f"{words[-1]}: results are written to files of this machine" in said[0]
    assert "copy it there" in said[1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["traces"]


@pytest.mark.parametrize("command", ["analyze", "report"])
def test_a_cluster_is_for_reading(command: str, traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(traces), "--cluster", "tcp://host:8786"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[1] == (
        f"  traceanalyzer ingest PATH --out CAPTURE --cluster tcp://host:8786, then traceanalyzer {command} CAPTURE"
    )


def test_events_beyond_the_memory_wait_on_disk(traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_FEWEST_EVENTS", 1)
    monkeypatch.setattr(budget, "_PER_EVENT", 1 << 30)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with budget.events_kept(1000) as (store, at_once):
        assert store is not None
        bounded = read(traces, store=store, events_at_once=at_once)
        review = analyze(bounded).review
        assert list(store.rglob("*.parquet"))
    assert not store.exists()
    assert review.headline == analyze(read(traces)).review.headline
    with budget.events_kept(None) as nothing:
        assert nothing == (None, None)


@pytest.mark.parametrize("more", [(), ("--timeout", "900"), ("--memory", "9000"), ("--steps", "no steps")])
def test_a_command_that_has_ended_is_watched_no_more(traces: Path, more: tuple[str, ...]) -> None:
    """Who calls `main` in a process of their own keeps the process, and none of its threads stays."""
    before = threading.enumerate()
    main(["analyze", str(traces), *more])
    assert all(_ends(thread) for thread in threading.enumerate() if thread not in before)


def _ends(thread: threading.Thread) -> bool:
    thread.join(timeout=10)
    return not thread.is_alive()


@pytest.mark.wide
def test_more_memory_than_allowed_ends_with_status_3(tmp_path: Path) -> None:
    """Some 250 MB of arguments, which reading keeps, in a file of less than a megabyte."""
    event = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "dur": 1}
    events = (json.dumps(event | {"ts": n, "args": {"note": f"{n}" + "x" * 60_000}}) for n in range(4000))
    with gzip.open(tmp_path / "rank0.json.gz", "wt", compresslevel=1) as file:
        file.write('{"traceEvents": [' + ",".join(events) + "]}")
    stopped = guarded("analyze", str(tmp_path / "rank0.json.gz"), "--max-memory", "200")
    assert stopped.returncode == 3
    assert "it took more than 200 MB of memory" in stopped.stderr
    assert "raise --max-memory" in stopped.stderr


ABORTS = """
import os, sys
sys.argv = ["traceanalyzer", "check", "x"]
import traceanalyzer.cli.process as process
def run():
    os.write(2, {said!r})
    os.kill(os.getpid(), {signal})
process.run = run
sys.exit(process.main())
"""


@pytest.mark.parametrize(
    ("said", "signal", "status", "told"),
    [
        (b"memory allocation of 34359738368 bytes failed\nstack", 6, 3, "not enough memory"),
        (b"", 9, 3, "not enough memory"),
        (b"thread 'polars-1' panicked at x:1", 6, 70, "internal error"),
        (b"", 11, 70, "internal error"),
        (b"", 15, 143, ""),
    ],
)
def test_a_process_that_is_ended_is_told_in_one_error(said: bytes, signal: int, status: int, told: str) -> None:
    code = ABORTS.format(said=said, signal=signal)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == status
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == (2 if told else 0)
    assert "panicked" not in result.stderr
