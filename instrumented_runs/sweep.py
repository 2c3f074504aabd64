"""A sweep: one kind of job over all combinations of some options, each point in a folder of its own.

    SWEEP/points/schedule=GPipe,microbatches=4/       the run folder of a point
    SWEEP/points/schedule=GPipe,microbatches=4.json   what became of it (`PointRecord`), written when it ended

A point that is done is not run again when the sweep is started again; one that failed, or was asked differently, is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.parse import quote

import msgspec

from instrumented_runs.settings import RunSettings, encode
from traceanalyzer.errors import OutputError, UsageError
from traceanalyzer.output import write_atomically

POINTS = "points"
"""In the sweep's folder: the folders and records of its points."""
MAX_POINTS = 1000
DONE, FAILED, REFUSED = "done", "failed", "refused"
"""A point ran to its end and was measured; its job or its analysis failed; it cannot exist and was not launched."""


@dataclass(frozen=True, slots=True)
class PointRecord:
    """What became of one point."""

    values: dict[str, str]
    """Swept option to the value at this point, as written."""
    status: str
    reason: str | None
    asked: str
    """Everything the run depends on, to know later whether it is the same point."""


def parse_sweep(text: str) -> dict[str, list[str]]:
    """Options and their values from `key=value,value,key=value`: a piece with `=` begins the next option.

    Raises `UsageError` naming what is wrong.
    """
    hint = "write --sweep schedule=GPipe,1F1B,microbatches=4,8,16"
    axes: dict[str, list[str]] = {}
    key = ""
    for piece in text.split(","):
        name, given, value = (part.strip() for part in piece.rpartition("="))
        if given:
            key = name.removeprefix("--").replace("_", "-")
            if not key or key in axes:
                raise UsageError(f"--sweep '{text}': option '{key}' is named twice or has no name", hint)
            axes[key] = []
        if not key:
            raise UsageError(f"--sweep '{text}' begins with a value, not with an option", hint)
        if not value or value in axes[key]:
            raise UsageError(f"--sweep '{text}': a value of '{key}' is empty or occurs twice", hint)
        axes[key].append(value)
    return axes


def points(axes: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """All combinations, the last option changing fastest. Raises `UsageError` if there are too many."""
    combined = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    if len(combined) > MAX_POINTS:
        raise UsageError(f"--sweep has {len(combined)} points, more than {MAX_POINTS}", "sweep fewer values")
    return combined


def point_name(values: Mapping[str, str]) -> str:
    """The folder name of a point: `key=value,key=value`, anything unusual percent-encoded."""
    return ",".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in values.items())


def asked(settings: RunSettings, files: Mapping[str, str]) -> str:
    """What the run of a point depends on, wherever its folder is."""
    plain = dataclasses.replace(settings, folder="", launcher_pid=0)
    return f"{encode(plain)} {msgspec.json.encode(dict(files)).decode()}"


def make_sweep_folder(folder: Path) -> None:
    """Make the folder of a sweep, or take up an earlier sweep there. Raises `UsageError` if it holds something else.

    Raises `OutputError` if it cannot be made.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / POINTS).is_dir():
        raise UsageError(f"{folder} is not empty and holds no earlier sweep", "give --out a new folder")
    try:
        (folder / POINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{folder}: cannot hold a sweep: {reason}", "give another --out") from None


def is_done(folder: Path, values: Mapping[str, str], asked_now: str) -> bool:
    """Whether an earlier sweep finished this very point."""
    record = read_record(folder, values)
    return record is not None and record.status == DONE and record.asked == asked_now


def read_record(folder: Path, values: Mapping[str, str]) -> PointRecord | None:
    """What became of a point; None if it never ended."""
    try:
        return msgspec.json.decode(_record_path(folder, values).read_bytes(), type=PointRecord)
    except (OSError, msgspec.DecodeError):
        return None


def forget(folder: Path, values: Mapping[str, str]) -> None:
    """Take what became of a point off the record: it is about to be run again."""
    _record_path(folder, values).unlink(missing_ok=True)


def write_record(folder: Path, record: PointRecord) -> None:
    """Keep what became of a point; a reader sees the old record or the new one. Raises `OutputError`."""
    path = _record_path(folder, record.values)
    try:
        write_atomically(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}", "is the disk full?") from None


def _record_path(folder: Path, values: Mapping[str, str]) -> Path:
    return folder / POINTS / f"{point_name(values)}.json"
