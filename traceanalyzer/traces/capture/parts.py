"""Events of one document as Parquet parts: written in bounded memory, checked against their hash when read."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from traceanalyzer.errors import InputError, OutputError
from traceanalyzer.output import write_private
from traceanalyzer.regular_file import read_regular
from traceanalyzer.traces.capture.manifest import Part, sha256_of
from traceanalyzer.traces.capture.names.redaction import Redaction
from traceanalyzer.traces.decoding.settle import ROW_SCHEMA
from traceanalyzer.traces.input.source import Frames
from traceanalyzer.traces.kineto.facts import FileFacts
from traceanalyzer.traces.kineto.file import credible

_PART_BYTES = 16 << 20  # of a frame in memory


class PartWriter:
    """Takes frames of one document and writes them as parts into a folder of its own."""

    def __init__(self, folder: Path, redaction: Redaction | None = None) -> None:
        self._folder = folder
        self._redaction = redaction
        self._waiting: list[pl.DataFrame] = []
        self._size = 0
        self.files: list[Path] = []

    def __call__(self, frame: pl.DataFrame) -> None:
        """Take a frame of `ROW_SCHEMA`."""
        if frame.height:
            frame = frame if self._redaction is None else self._redaction.frame(frame)
            self._waiting.append(frame)
            self._size += int(frame.estimated_size())
        if self._size >= _PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Raises `OSError`."""
        if not self._waiting:
            return
        path = self._folder / f"{len(self.files):04d}.parquet"
        _write(pl.concat(self._waiting), path)
        self.files.append(path)
        self._waiting.clear()
        self._size = 0

    def finish(self, facts: FileFacts) -> list[tuple[Path, Part]]:
        """Write the rest, drop rows whose time turned out to be wrong or that are there twice, and describe the parts (paths not final)."""
        self.flush()
        redaction = self._redaction
        if facts.time_from_ns is not None or facts.repeated or (redaction is not None and facts.host):
            for path in self.files:
                rows = credible(pl.read_parquet(read_regular(path)), facts)
                _write(rows if redaction is None else redaction.without_host(rows, facts.host), path)
        return [(path, _describe(path)) for path in self.files]


class StoredFrames(Frames):
    """Keeps the frames of one document in a folder, from where they are fetched any number of times."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._writer = PartWriter(folder)

    def __call__(self, frame: pl.DataFrame) -> None:
        """Take a frame of `ROW_SCHEMA`. Raises `OutputError` if it cannot be written."""
        with _refusing():
            self._writer(frame)

    def flush(self) -> None:
        """Write what waits: the document has ended. Raises `OutputError` if it cannot be written."""
        with _refusing():
            self._writer.flush()

    def take(self) -> list[pl.DataFrame]:
        """The frames in order."""
        self.flush()
        return [pl.read_parquet(read_regular(file)) for file in self._writer.files]


@contextmanager
def _refusing() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or 'the temporary folder'}: events cannot be kept there: {error.strerror or error}",
            "free space, or name another place for temporary files in TMPDIR",
        ) from None


def stored_frames(folder: Path) -> Callable[[], StoredFrames]:
    """Makes a sink for each document, one after the other, all of them in `folder`."""
    made: list[StoredFrames] = []

    def new_sink() -> StoredFrames:
        if made:
            made[-1].flush()
        place = folder / f"{len(made):06d}"
        place.mkdir()
        made.append(StoredFrames(place))
        return made[-1]

    return new_sink


def _write(frame: pl.DataFrame, path: Path) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1)
    write_private(path, buffer.getbuffer())


def _describe(path: Path) -> Part:
    data = read_regular(path)
    return Part(
        path=path.name,
        sha256=sha256_of(data),
        num_rows=pl.scan_parquet(data).select(pl.len()).collect().item(),
        num_bytes=len(data),
    )


def read_part(folder: Path, part: Part) -> pl.DataFrame:
    """The rows of a part. Raises `InputError` if it is missing or not what was written."""
    path = folder / part.path
    try:
        data = read_regular(path, max(0, part.num_bytes))
    except OSError as error:
        raise InputError(f"{path}: a part of the capture cannot be read: {error.strerror}", _REMEDY) from None
    return rows_of(data, str(path), part)


_REMEDY = "make the capture again; Parquet alone does not notice a changed byte, its recorded hash does"


def rows_of(data: bytes, path: str, part: Part) -> pl.DataFrame:
    """The rows in the bytes of a part; `path` names it in errors. Raises `InputError` as `read_part` does."""
    if sha256_of(data) != part.sha256:
        raise InputError(f"{path}: the part was changed or damaged after it was written", _REMEDY)
    try:
        frame = pl.read_parquet(data)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file: {str(error)[:120]}", _REMEDY) from None
    if dict(frame.schema) != dict(ROW_SCHEMA):
        raise InputError(f"{path}: its columns are not those of a capture", _REMEDY)
    return frame
