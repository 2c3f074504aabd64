"""Captures that are damaged after they were written, and ingests that fail at any of their writes: nothing goes unnoticed."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from catalogue.base import text, trace, write
from damage import STEP, flips_that_pass, full_disks_that_harm, kills_that_harm, run_folder

from traceanalyzer.errors import InputError, OutputError
from traceanalyzer.traces import read_traces
from traceanalyzer.traces.capture.ingest import ingest

NUM_POINTS = 40
"""More than an ingest of two small ranks has writes; the test checks that the last of them was passed."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for rank in range(2):
        write(tmp_path / "run" / "traces", text(trace(rank, 2)), f"rank{rank:05d}.json")
    return tmp_path / "run"


@pytest.mark.parametrize("number", [60, pytest.param(1000, marks=pytest.mark.soak)])
def test_every_flip_of_a_capture_and_its_manifest_is_noticed(number: int, folder: Path, tmp_path: Path) -> None:
    write(folder, "{}", "run.json")
    write(folder / "steps", STEP, "rank00000.jsonl")
    ingest([folder], tmp_path / "c")
    assert flips_that_pass(tmp_path / "c", number) == []
    assert read_traces(tmp_path / "c").ranks["rank"].to_list() == [0, 1]


@pytest.mark.parametrize("number", [4, pytest.param(50, marks=pytest.mark.soak)])
def test_a_disk_that_is_full_at_any_write_leaves_what_was_there(number: int, tmp_path: Path) -> None:
    assert full_disks_that_harm(run_folder(tmp_path / "run"), tmp_path, number)[0] == []


@pytest.mark.soak
def test_kills_at_random_moments_leave_what_was_there(tmp_path: Path) -> None:
    assert kills_that_harm(run_folder(tmp_path / "run"), tmp_path, 200)[0] == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data.replace(b'"num_rows": ', b'"num_rows":  ', 1),
        lambda data: data.replace(b'"complete": true', b'"complete": false'),
        lambda data: data.replace(b'"world_size": 2', b'"world_size": 4'),
        lambda data: data + b"\n",
        lambda data: data.replace(b"{", b'{"more": 1,', 1),
    ],
    ids=["space", "complete", "world", "end", "field"],
)
def test_a_manifest_that_was_edited_is_refused(edit: Callable[[bytes], bytes], folder: Path, tmp_path: Path) -> None:
    ingest([folder], tmp_path / "c")
    manifest = tmp_path / "c" / "manifest.json"
    changed = edit(manifest.read_bytes())
    assert changed != manifest.read_bytes()
    manifest.write_bytes(changed)
    with pytest.raises(InputError, match=r"manifest\.json: damaged manifest"):
        read_traces(tmp_path / "c")


def test_a_capture_is_readable_by_its_owner_only(folder: Path, tmp_path: Path) -> None:
    write(folder / "steps", STEP, "rank00000.jsonl")
    write(folder, "{}", "run.json")
    before = os.umask(0o022)
    try:
        ingest([folder], tmp_path / "c")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "c", *(tmp_path / "c").rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


class _Countdown:
    """Fails the n-th call of any of the functions that make bytes durable."""

    def __init__(self, number: int) -> None:
        self.left = number

    def wrap(self, work: Callable[..., object]) -> Callable[..., object]:
        def counted(*values: object, **named: object) -> object:
            self.left -= 1
            if self.left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return work(*values, **named)

        return counted


def test_an_error_at_any_write_leaves_what_was_there_and_resumes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the n-th fsync or rename, for every n: the capture of one rank stays readable, and the next ingest completes it."""
    whole = read_traces(folder).events
    failed = 0
    for number in range(1, NUM_POINTS):
        capture = tmp_path / f"c{number}"
        ingest([folder / "traces" / "rank00000.json"], capture)
        countdown = _Countdown(number)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", countdown.wrap(os.fsync))
            patched.setattr(Path, "replace", countdown.wrap(Path.replace))
            try:
                ingest([folder], capture)
            except OutputError:
                failed += 1
        assert 0 in read_traces(capture).ranks["rank"].to_list(), number
        ingest([folder], capture)
        assert read_traces(capture).events.equals(whole), number
        assert not list(capture.glob(".*.tmp")), number
        if countdown.left > 0:
            break
    assert countdown.left > 0, "an ingest has more writes than were tried"
    assert failed > 5


KILLED = """
import os, sys
from pathlib import Path
left = int(sys.argv[1])
def wrap(work):
    def counted(*values, **named):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return work(*values, **named)
    return counted
os.fsync, Path.replace = wrap(os.fsync), wrap(Path.replace)
from traceanalyzer.traces.capture.ingest import ingest
ingest([sys.argv[2]], sys.argv[3])
"""


def test_an_ingest_that_was_killed_while_it_wrote_its_first_manifest_resumes(folder: Path, tmp_path: Path) -> None:
    """Found by the 183rd kill at random: it was refused as no capture."""
    capture = tmp_path / "c"
    (capture / "events").mkdir(parents=True)
    (capture / ".manifest.json.x7_k.tmp").write_text('{"sources": [')
    ingest([folder], capture)
    assert read_traces(capture).events.equals(read_traces(folder).events)
    assert not list(capture.glob(".*.tmp"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".notes.tmp").write_text("mine")
    with pytest.raises(OutputError, match="not a capture"):
        ingest([folder], tmp_path / "other")


@pytest.mark.wide
@pytest.mark.parametrize("begun", [True, False])
def test_a_kill_at_any_write_leaves_what_was_there_and_resumes(begun: bool, folder: Path, tmp_path: Path) -> None:  # noqa: FBT001
    whole = read_traces(folder).events
    for number in range(1, NUM_POINTS):
        capture = tmp_path / f"c{number}"
        if begun:
            ingest([folder / "traces" / "rank00000.json"], capture)
        command = [sys.executable, "-c", KILLED, str(number), str(folder), str(capture)]
        killed = subprocess.run(command, check=False).returncode
        assert not begun or 0 in read_traces(capture).ranks["rank"].to_list(), number
        ingest([folder], capture)
        assert read_traces(capture).events.equals(whole), number
        assert not list(capture.glob(".*.tmp")), number
        if killed == 0:
            return
    pytest.fail("an ingest has more writes than were tried")
