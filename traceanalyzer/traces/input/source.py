"""One source to documents: each read into a sink, or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import polars as pl

from traceanalyzer.errors import InputError, NoTracesError
from traceanalyzer.regular_file import shown
from traceanalyzer.traces.decoding.document import EMPTY, NotATraceError
from traceanalyzer.traces.defects import DefectLog, defect_row
from traceanalyzer.traces.formats import FORMATS
from traceanalyzer.traces.input.discovery import Source, documents, is_remote, open_source
from traceanalyzer.traces.input.foreign import first_bytes, foreign, remedy_of
from traceanalyzer.traces.input.limits import Limits
from traceanalyzer.traces.kineto.facts import FileFacts
from traceanalyzer.traces.kineto.file import read_document

Progress = Callable[[str, int], None]
"""Called with a source and the number of its bytes, in its own codec, that were just read."""

AnySink = TypeVar("AnySink", bound=Callable[[pl.DataFrame], None])


class Frames:
    """Keeps frames in memory."""

    def __init__(self) -> None:
        self.frames: list[pl.DataFrame] = []

    def __call__(self, frame: pl.DataFrame) -> None:
        """Take a frame."""
        self.frames.append(frame)

    def take(self) -> list[pl.DataFrame]:
        """The frames in order; they are no longer kept."""
        frames, self.frames = self.frames, []
        return frames


@dataclass(frozen=True, slots=True)
class Unusable:
    """A document of which nothing could be used; without `why`, only what was found about an archive."""

    why: str | None
    defects: tuple[dict[str, Any], ...]
    remedy: str | None = None
    """What gives a trace in its place, where the file is of a known kind."""


def read_source(
    source: Source, *, limits: Limits, new_sink: Callable[[], AnySink], progress: Progress | None = None
) -> Iterator[tuple[FileFacts, AnySink] | Unusable]:
    """Every document of a source: its facts and the sink that took its frames, or why it is unusable."""
    try:
        stream = open_source(source.path)
    except InputError as error:
        if source.explicit:
            raise
        yield Unusable(error.message, (defect_row("folder.unreadable", source.path, detail=error.message),))
        return
    with stream:
        outer = DefectLog(source.path)
        counted = Counted(stream, source.path, progress)
        num_documents, log = 0, outer
        folder = None if source.run_folder is None else shown(source.run_folder)
        for name, plain in documents(source.path, cast("BinaryIO", counted), outer):
            num_documents += 1
            log = outer if name == shown(source.path) else DefectLog(name)
            sink, first = new_sink(), plain.head
            try:
                facts = read_document(plain, name, limits=limits, log=log, sink=sink, run_folder=folder)
            except NotATraceError as error:
                if (named := _named(source, name, first)) is not None:
                    yield named
                    continue
                code = "file.not_a_trace" if error.foreign else "file.unusable"
                rows = log.rows()
                what = _broken(rows, outer, name) if error.what == EMPTY else error.what
                yield Unusable(
                    f"{name}: {what}",
                    (defect_row(code, name, detail="" if error.foreign else what), *rows),
                    _OP_TABLE if first.startswith(_PARQUET) else None,
                )
            else:
                yield facts, sink
        if num_documents and outer is not log and outer.rows():
            yield Unusable(None, tuple(outer.rows()))
        if not num_documents:
            if (named := _named(source, source.path, b"")) is not None:
                yield named
                return
            what = next((row["message"] for row in outer.rows()), "the archive holds no trace")
            yield Unusable(f"{source.path}: {what}", (defect_row("file.unusable", source.path, detail=what),))


def _broken(rows: list[dict[str, Any]], archive: DefectLog, name: str) -> str:
    """Why a document is empty: its stream or its place in the archive is damaged, or it has no bytes."""
    of_archive = [row for row in archive.rows() if Path(name).name in row["message"]]
    return next((str(row["message"]) for row in (*rows, *of_archive) if row["code"] in _BROKEN), EMPTY)


def _named(source: Source, name: str, head: bytes) -> Unusable | None:
    """What a document is that is not a trace, if that is known; known by its own first bytes or those of its file."""
    raw = b"" if is_remote(source.path) else first_bytes(Path(source.path))
    kind = foreign(Path(name).name, head) or foreign(Path(name).name, raw)
    if kind is None:
        return None
    code = "file.unusable" if kind.is_loss else "file.foreign"
    return Unusable(f"{name}: {kind.what}", (defect_row(code, name, detail=kind.what),), remedy_of(kind, name))


class Counted:
    """A binary file that shows how much of it was read."""

    __slots__ = ("_name", "_progress", "_stream")

    def __init__(self, stream: BinaryIO, name: str, progress: Progress | None) -> None:
        self._stream = stream
        self._name = name
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        """Bytes of the file."""
        data = self._stream.read(size)
        if self._progress is not None:
            self._progress(self._name, len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, for archives that have their index at the end."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Position in the file."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """Whether the file can be moved in."""
        return self._stream.seekable()


def unusable(path: str, failures: Sequence[str], remedy: str | None = None) -> NoTracesError:
    """The error for a path without any usable trace; `remedy` where one is known for a file of it."""
    if len(failures) == 1:
        return NoTracesError(f"{failures[0]}", remedy or _REMEDY)
    why = "; ".join(failures[:_SHOWN]) + (f" and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else "")
    return NoTracesError(f"{path}: none of {len(failures)} files can be used ({why})", remedy or _REMEDY)


_SHOWN = 3
_BROKEN = ("codec.corrupt", "codec.truncated")
_PARQUET = b"PAR1"
_OP_TABLE = "analyze, report and compare read an op table; of a capture give the folder"
_REMEDY = f"give {', or '.join(each.written_by for each in FORMATS)}"
