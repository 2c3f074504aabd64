"""A result on disk: `review.json` and every table as Parquet, written whole or not at all, read without a trace.

    RESULT/review.json
    RESULT/tables/NAME.parquet     every table of the registry that an analysis gives, empty ones too
    RESULT/tables/sha256.json      checksums of the tables and the review: damaged ones could be read as other numbers

A `review.json` alone is a result without tables. Results and traces are distinguished by what is in them.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from traceanalyzer.errors import InputError, OutputError, UsageError
from traceanalyzer.output import sync_folder, write_atomically
from traceanalyzer.regular_file import open_regular, read_regular
from traceanalyzer.review import REVIEW_FILE, Review, read_review, to_json
from traceanalyzer.schema import TABLES, result_tables

TABLES_FOLDER = "tables"
CHECKSUMS = "sha256.json"
_HEAD_BYTES = 1 << 16
_MOST_TABLE_BYTES = 1 << 34
_MOST_BYTES = 1 << 26
"""A file that does not begin as we write it is decoded to tell what it is only up to this size."""
_FIRST_KEY = re.compile(rb'\{\s*"schema_version"\s*:\s*-?\d+\s*,\s*"tool"\s*:')
_KEYS = {"schema_version", "tool", "headline", "quality"}
_AGAIN = "make the result again: traceanalyzer analyze TRACES --out RESULT"


@dataclass(frozen=True, slots=True)
class Kept:
    """A result that was read back; `tables` lacks those that are not there."""

    review: Review
    tables: dict[str, pl.DataFrame]


def is_result(path: Path | str) -> bool:
    """Whether a path is a result: its folder, or a `review.json`. A run folder with a review beside its traces is none."""
    place = Path(path)
    with suppress(OSError, ValueError):
        return _is_review(place) if place.is_file() else _is_result_folder(place)
    return False


def keep_result(review: Review, tables: Mapping[str, pl.DataFrame], path: Path | str) -> None:
    """Keep a result in the folder `path`, replacing a result that is there.

    Raises `UsageError` if something else is there, `OutputError` if it cannot be written; then nothing is left behind.
    """
    folder = Path(path)
    temporary: Path | None = None
    try:
        if folder.is_symlink() or (folder.exists() and not _may_be_replaced(folder)):
            raise UsageError(f"{folder}: already exists and is not a result", "name a new folder with --out")
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:64]}.", suffix=".tmp", dir=folder.parent))
        _fill(temporary, review, tables)
        _move(temporary, folder)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise OutputError(
            f"{folder}: cannot be written: {reason}", "choose another place; nothing was left behind"
        ) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def read_result(path: Path | str) -> Kept:
    """The result at `path`, with the tables that are there. Raises `InputError` if something is damaged."""
    folder = result_folder(path)
    if folder is None:
        return Kept(read_review(path), {})
    found = {name: read_table(folder, name) for name in result_tables() if table_file(folder, name).exists()}
    review = read_review(folder / REVIEW_FILE)
    _check_review(folder)
    return Kept(review, found)


def _check_review(folder: Path) -> None:
    """Raise `InputError` if `review.json` was changed after it was kept. Results of earlier versions have no sum of it."""
    file, kept = folder / REVIEW_FILE, _checksums(folder).get(REVIEW_FILE)
    if kept is not None and hashlib.sha256(read_regular(file)).hexdigest() != kept:
        raise InputError(f"{file}: damaged: its checksum does not hold", _AGAIN)


def read_table(folder: Path, name: str) -> pl.DataFrame:
    """One table of the result in `folder`. Raises `UsageError` if it is not kept there, `InputError` if it is damaged."""
    file = table_file(folder, name)
    if name not in result_tables() or not file.is_file():
        raise UsageError(
            f"{folder}: this result does not hold the table {name}", "give the traces instead of the result"
        )
    try:
        content = read_regular(file, _MOST_TABLE_BYTES)
        if hashlib.sha256(content).hexdigest() != _checksums(folder).get(name):
            raise InputError(f"{file}: damaged: its checksum does not hold", _AGAIN)
        frame = pl.read_parquet(content)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file}: cannot be read: {reason}", _AGAIN) from None
    _check_columns(file, name, frame.schema)
    return frame


def scan_table(folder: Path, name: str) -> pl.LazyFrame:
    """The same table, not held in memory: its checksum is compared now, its rows are read when they are collected."""
    file = table_file(folder, name)
    if name not in result_tables() or not file.is_file():
        raise UsageError(
            f"{folder}: this result does not hold the table {name}", "give the traces instead of the result"
        )
    try:
        with open_regular(file) as stream:
            sound = hashlib.file_digest(stream, "sha256").hexdigest() == _checksums(folder).get(name)
        if not sound:
            raise InputError(f"{file}: damaged: its checksum does not hold", _AGAIN)
        _check_columns(file, name, pl.read_parquet_schema(file))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}", _AGAIN) from None
    return pl.scan_parquet(file)


def _check_columns(file: Path, name: str, columns: Mapping[str, pl.DataType]) -> None:
    if dict(columns) != dict(TABLES[name].schema):
        raise InputError(f"{file}: its columns are not those of the table {name} in this version", _AGAIN)


def result_folder(path: Path | str) -> Path | None:
    """The folder of a result, also where its `review.json` is named; None of a `review.json` alone."""
    place = Path(path)
    folder = place.parent if place.name == REVIEW_FILE and place.is_file() else place
    return folder if _is_result_folder(folder) and (folder / TABLES_FOLDER).is_dir() else None


def _fill(folder: Path, review: Review, tables: Mapping[str, pl.DataFrame]) -> None:
    (folder / TABLES_FOLDER).mkdir(mode=0o700)
    content = to_json(review)
    sums = {REVIEW_FILE: hashlib.sha256(content).hexdigest()}
    write_atomically(folder / REVIEW_FILE, content)
    for name in result_tables():
        buffer = io.BytesIO()
        tables[name].write_parquet(buffer)
        content = buffer.getvalue()
        sums[name] = hashlib.sha256(content).hexdigest()
        write_atomically(table_file(folder, name), content)
    write_atomically(
        folder / TABLES_FOLDER / CHECKSUMS, msgspec.json.format(msgspec.json.encode(sums), indent=1) + b"\n"
    )


def _move(temporary: Path, folder: Path) -> None:
    """Put the new result in its place; what was there stands aside until that is done."""
    aside: Path | None = None
    if folder.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name[:64]}.", suffix=".old", dir=folder.parent))
        folder.rename(aside)
    try:
        temporary.rename(folder)
    except OSError:
        if aside is not None:
            aside.rename(folder)
        raise
    sync_folder(folder.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def _checksums(folder: Path) -> dict[str, str]:
    """Of every table. Raises `InputError`."""
    file = folder / TABLES_FOLDER / CHECKSUMS
    try:
        return msgspec.json.decode(read_regular(file, _MOST_BYTES), type=dict[str, str])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}", _AGAIN) from None


def table_file(folder: Path, name: str) -> Path:
    """Where a table of the result in `folder` lies, if it is there."""
    return folder / TABLES_FOLDER / f"{name}.parquet"


def _may_be_replaced(folder: Path) -> bool:
    """An empty folder, or a result and nothing else."""
    if not folder.is_dir():
        return False
    names = {entry.name for entry in folder.iterdir()}
    kept = folder / TABLES_FOLDER
    own = {CHECKSUMS, *(f"{name}.parquet" for name in TABLES)}
    only_own = names <= {REVIEW_FILE, TABLES_FOLDER} and (not kept.is_dir() or {e.name for e in kept.iterdir()} <= own)
    return not names or (only_own and _is_result_folder(folder))


def _is_result_folder(folder: Path) -> bool:
    if not (folder / REVIEW_FILE).is_file():
        return False
    if (folder / TABLES_FOLDER).is_dir():
        return any(table_file(folder, name).is_file() for name in TABLES)
    return [entry.name for entry in folder.iterdir()] == [REVIEW_FILE] and _is_review(folder / REVIEW_FILE)


def _is_review(file: Path) -> bool:
    """Whether a file begins as a review does; a damaged `review.json` counts as one, a trace of that name does not."""
    with open_regular(file) as stream:
        head = stream.read(_HEAD_BYTES).lstrip()
    if not head.startswith(b"{") or b'"traceEvents"' in head:
        return False
    if _FIRST_KEY.match(head) or file.name == REVIEW_FILE:
        return True
    if file.stat().st_size > _MOST_BYTES:
        return False
    try:
        return set(msgspec.json.decode(read_regular(file, _MOST_BYTES), type=dict[str, msgspec.Raw])) >= _KEYS
    except (msgspec.MsgspecError, RecursionError):
        return False
