"""Captures that are damaged, ingests that are killed and disks that are full: many of each, with what came of them.

PYTHONPATH=tests/support:. python -m damage --flips 1000 --kills 200 --full-disks 50
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from catalogue.base import text, trace, write

from traceanalyzer.errors import InputError, OutputError, TraceAnalyzerError
from traceanalyzer.traces import read_traces
from traceanalyzer.traces.capture.ingest import ingest

STEP = '{"step": 1, "rank": 0, "start_ns": 1, "end_ns": 2, "profiled": true}\n'
_INGEST = "import sys; from traceanalyzer.traces.capture.ingest import ingest; ingest([sys.argv[1]], sys.argv[2])"


def run_folder(folder: Path, num_ranks: int = 2) -> Path:
    """A small run with side files, to be ingested."""
    for rank in range(num_ranks):
        write(folder / "traces", text(trace(rank, num_ranks)), f"rank{rank:05d}.json")
    write(folder, "{}", "run.json")
    write(folder / "steps", STEP, "rank00000.jsonl")
    return folder


def flips_that_pass(capture: Path, number: int, seed: int = 5) -> list[tuple[str, int]]:
    """Flip single bits all over a capture, manifest included; those that reading did not notice."""
    rng = random.Random(seed)  # noqa: S311 - places to damage, no secret
    files = [
        file for file in sorted(capture.rglob("*")) if file.is_file() and file.stat().st_size and file.name[0] != "."
    ]
    sizes = [file.stat().st_size for file in files]
    passed = []
    for turn in range(number):
        file = files[turn % len(files)] if turn % 2 else rng.choices(files, sizes)[0]
        sound = file.read_bytes()
        at = rng.randrange(len(sound))
        damaged = bytearray(sound)
        damaged[at] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        try:
            read_traces(capture)
        except InputError:
            pass
        else:
            passed.append((file.name, at))
        file.write_bytes(sound)
    return passed


def kills_that_harm(run: Path, scratch: Path, number: int) -> tuple[list[str], int]:
    """Kill -9 ingests at random moments: what was wrong afterwards, and how many had not ended by themselves."""
    rng = random.Random(11)  # noqa: S311 - moments, no secret
    whole, wrong, killed = read_traces(run).events, [], 0
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", _INGEST, str(run), str(scratch / "timed")], check=True)
    took = time.monotonic() - start
    for turn in range(number):
        capture = scratch / f"k{turn}"
        if turn % 2:  # half of them extend a capture
            ingest([run / "traces" / "rank00000.json"], capture)
        process = subprocess.Popen([sys.executable, "-c", _INGEST, str(run), str(capture)], stderr=subprocess.DEVNULL)
        try:
            process.wait(took * rng.uniform(0.3, 1.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        wrong += _wrong_after(capture, run, whole, before=bool(turn % 2), turn=f"kill {turn}")
    return wrong, killed


def full_disks_that_harm(run: Path, scratch: Path, number: int) -> tuple[list[str], int]:
    """Let the disk be full at a random write, part of which still fits: what was wrong, and at how many different writes."""
    rng = random.Random(13)  # noqa: S311 - which write, no secret
    whole, wrong, tried = read_traces(run).events, [], set[int]()
    with _full_at(0) as count:
        ingest([run], scratch / "counted")
    for turn in range(number):
        capture, at = scratch / f"f{turn}", rng.randint(1, count())
        tried.add(at)
        if turn % 2:
            ingest([run / "traces" / "rank00000.json"], capture)
        try:
            with _full_at(at) as count_now:
                ingest([run], capture)
        except OutputError as error:
            if "space" not in error.message:
                wrong.append(f"full disk {turn}: says {error.message}")
        else:
            wrong += [f"full disk {turn}: nothing was said"] if count_now() >= at else []
        wrong += _wrong_after(capture, run, whole, before=bool(turn % 2), turn=f"full disk {turn}")
    return wrong, len(tried)


def _wrong_after(capture: Path, run: Path, whole: Any, *, before: bool, turn: str) -> list[str]:
    """What is wrong with a capture whose ingest was ended, and with the ingest that follows."""
    found: list[str] = []
    try:
        if (before or (capture / "manifest.json").exists()) and not read_traces(capture).events.height:
            found.append(f"{turn}: what was there is gone")
    except TraceAnalyzerError as error:
        found += [f"{turn}: {error.message}"] if before or "holds no traces yet" not in error.message else []
    ingest([run], capture)
    if not read_traces(capture).events.equals(whole):
        found.append(f"{turn}: the next ingest gives other events")
    if left := [file.name for file in capture.rglob("*") if file.name.endswith(".tmp") or file.name == ".work"]:
        found.append(f"{turn}: left {left}")
    return found


class _Counting:
    """A file whose `number`-th write of all fails half way."""

    def __init__(self, file: Any, take: Callable[[], bool]) -> None:
        self._file, self._take = file, take

    def write(self, data: bytes) -> int:
        if self._take():
            self._file.write(bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _full_at(number: int) -> Iterator[Callable[[], int]]:
    """The `number`-th write through a descriptor fails; gives how many there were."""
    count, opened = 0, os.fdopen

    def take() -> bool:
        nonlocal count
        count += 1
        return count == number

    def fdopen(handle: int, mode: str = "r", *more: Any, **named: Any) -> Any:
        file = opened(handle, mode, *more, **named)
        return _Counting(file, take) if "w" in mode and "b" in mode else file

    os.fdopen = fdopen  # type: ignore[assignment]
    try:
        yield lambda: count
    finally:
        os.fdopen = opened


def main() -> int:
    parser = argparse.ArgumentParser(prog="damage")
    for name in ("flips", "kills", "full-disks"):
        parser.add_argument(f"--{name}", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        run = run_folder(scratch / "run")
        ingest([run], scratch / "c")
        passed = flips_that_pass(scratch / "c", asked.flips)
        _say(f"{asked.flips} flips over capture and manifest: {asked.flips - len(passed)} noticed", passed)
        wrong, num_writes = full_disks_that_harm(run, scratch, asked.full_disks) if asked.full_disks else ([], 0)
        _say(f"{asked.full_disks} full disks at {num_writes} different writes: {len(wrong)} wrong", wrong)
        harmed, killed = kills_that_harm(run, scratch, asked.kills) if asked.kills else ([], 0)
        _say(f"{asked.kills} kills, {killed} before the end: {len(harmed)} wrong", harmed)
    return 1 if passed or wrong or harmed else 0


def _say(figures: str, found: list[Any]) -> None:
    print(figures, *found, sep="\n  ", flush=True)  # noqa: T201 - figures are what it is for


if __name__ == "__main__":
    sys.exit(main())
