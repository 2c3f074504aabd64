"""Folders that nodes wrote to disks of their own → one run folder: copied safely, as often as asked, and verified."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from traceanalyzer.errors import InputError, OutputError, UsageError
from traceanalyzer.job import RUN_FILE
from traceanalyzer.output import whole_file
from traceanalyzer.regular_file import open_regular, read_regular, regular_below

_PATTERNS = (
    RUN_FILE, "order.csv", "traces/*.json.gz", "steps/*.jsonl", "routing/*.jsonl", "status/*.json", "flight/*.pickle",
    "failures/*.json", "inspector/*", "inspector/*/*",
)  # fmt: skip
_NAMED = (RUN_FILE, "status/*.json", "steps/*.jsonl")
"""Files whose first line or whole text names the run."""
_CHUNK = 1 << 20


class _Named(msgspec.Struct):
    job_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What `collect` did."""

    job_id: str
    num_copied: int
    num_present: int
    """Files that were there already, alike in every byte."""
    num_bytes: int
    """Copied."""


@dataclass(frozen=True, slots=True)
class _File:
    source: Path
    digest: str


def collect(folders: Sequence[Path], out: Path) -> Collected:
    """Copy what the recorder wrote into `folders` together into `out`, which may hold a part of the same run already.

    Every copy is read back and compared. Nothing is copied before everything was checked.

    Raises:
        InputError: a folder holds no run, folders hold different runs, or two of them different files of one rank.
        UsageError: `out` holds another run, or folders lie within each other.
        OutputError: a file could not be written, or is not what it was read from.
    """
    job_id = _one_run(folders)
    there = job_id_of(out) if out.is_dir() else None
    if there not in (None, job_id):
        raise UsageError(f"{out}: holds another run ({there}, not {job_id})", "give --out a new folder")
    for folder in folders:
        _check_apart(folder, out)
    files = _gathered(folders)
    copied = [name for name in sorted(files) if not _is_there(out / name, files[name])]
    num_bytes = sum(_copied(files[name], out / name) for name in copied)
    return Collected(job_id=job_id, num_copied=len(copied), num_present=len(files) - len(copied), num_bytes=num_bytes)


def job_id_of(folder: Path) -> str | None:
    """The run that a folder says it holds; None if nothing in it says so. Raises `InputError` if it holds several."""
    found: set[str] = set()
    for pattern in _NAMED:
        for path, readable in regular_below(folder, pattern):
            named = _named(path) if readable else ""
            found |= {named} if named else set()
    if len(found) > 1:
        raise InputError(f"{folder}: holds files of {len(found)} runs ({', '.join(sorted(found)[:3])})", _APART)
    return found.pop() if found else None


_APART = "keep runs apart: give the folders of one of them"


def _named(path: Path) -> str:
    try:
        content = read_regular(path)
        text = content.partition(b"\n")[0] if path.suffix == ".jsonl" else content
        return msgspec.json.decode(text, type=_Named).job_id
    except (OSError, msgspec.MsgspecError, RecursionError):
        return ""


def _one_run(folders: Sequence[Path]) -> str:
    runs: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder", "give the folder that a node's recorder wrote")
        job_id = job_id_of(folder)
        if job_id is None:
            raise InputError(f"{folder}: holds no run of a recorder", "give the folder that a node's recorder wrote")
        runs.setdefault(job_id, folder)
    if len(runs) > 1:
        (first, one), (second, other) = list(runs.items())[:2]
        raise InputError(f"{one} holds run {first}, and {other} holds run {second}", _APART)
    return next(iter(runs))


def _check_apart(folder: Path, out: Path) -> None:
    inner, outer = folder.resolve(), out.resolve()
    if inner != outer and (inner.is_relative_to(outer) or outer.is_relative_to(inner)):
        raise UsageError(f"{out} and {folder} lie within each other", "give --out a folder beside those of the nodes")


def _gathered(folders: Sequence[Path]) -> dict[str, _File]:
    """Every file to be copied, by its name in the run folder. Raises `InputError` if two folders differ in one."""
    found: dict[str, _File] = {}
    for folder in folders:
        for path in _files(folder):
            name = path.relative_to(folder).as_posix()
            this = _File(path, _digest(path))
            other = found.setdefault(name, this)
            if other.digest != this.digest:
                raise InputError(
                    f"{other.source} and {path} differ, and both claim to be the same file of one run",
                    "remove the wrong one",
                )
    return found


def _files(folder: Path) -> Iterator[Path]:
    for pattern in _PATTERNS:
        for path, readable in regular_below(folder, pattern):
            if readable and not path.name.startswith("."):
                yield path


def _digest(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}", "check its permissions") from None


def _is_there(path: Path, file: _File) -> bool:
    return path.is_file() and _digest(path) == file.digest


def _copied(file: _File, target: Path) -> int:
    """Copy one file and return its bytes. Raises `OutputError`."""
    size = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_regular(file.source) as source, whole_file(target) as written:
            while chunk := source.read(_CHUNK):
                written.write(chunk)
                size += len(chunk)
        intact = _digest(target) == file.digest
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}", "is the disk full?") from None
    if not intact:
        target.unlink(missing_ok=True)
        raise OutputError(f"{target}: the copy of {file.source} is not what was read", "is the run over? Collect again")
    return size
