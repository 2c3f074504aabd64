"""A path to tables: find the trace files, read each, tell ranks and cycles apart, and account for every event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.traces.defects import DefectLog, defect_row, defect_table
from traceanalyzer.traces.discovery import Source, documents, find, open_source
from traceanalyzer.traces.document import NotATraceError
from traceanalyzer.traces.facts import FileFacts
from traceanalyzer.traces.file import read_document
from traceanalyzer.traces.identity import identify
from traceanalyzer.traces.label import in_order, label, rank_table
from traceanalyzer.traces.limits import DEFAULT_LIMITS, Limits
from traceanalyzer.traces.tally import Counts, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Everything that was read from one path."""

    events: pl.DataFrame
    """`EVENTS`, sorted by rank, cycle, start and position."""
    ranks: pl.DataFrame
    defects: pl.DataFrame
    counts: Counts
    run_folder: Path | None
    """The folder that holds `run.json`, if there is one."""


Progress = Callable[[str, int], None]
"""Called with a source and the number of its bytes, in its own codec, that were just read."""


def read_traces(
    path: Path | str, *, rank_map: Mapping[str, int] | None = None, limits: Limits = DEFAULT_LIMITS
) -> Traces:
    """Read the traces at `path`: a file, a folder, a glob, a URL or a capture.

    `rank_map` gives ranks by file name or pattern. Raises `InputError` if nothing can be used or files contradict.
    """
    found = find(path)
    read: list[tuple[FileFacts, list[pl.DataFrame]]] = []
    defects: list[dict[str, Any]] = list(found.defects)
    failures: list[str] = []
    for source in found.sources:
        for result in read_source(source, limits=limits, new_sink=Frames):
            if isinstance(result, Unusable):
                failures.append(result.why)
                defects += result.defects
            else:
                facts, sink = result
                read.append((facts, sink.frames))
    if not read:
        raise unusable(str(path), failures)
    placed, placing = identify([facts for facts, _ in read], rank_map)
    frames = {facts.file: parts for facts, parts in read}
    events = in_order([label(frame, place) for place in placed for frame in frames[place.facts.file]])
    ranks = {place.facts.file: place.rank for place in placed}
    defects += [row | {"rank": ranks.get(facts.file)} for facts, _ in read for row in facts.defects]
    return Traces(
        events=events,
        ranks=rank_table(placed, events),
        defects=defect_table(defects + placing),
        counts=_counts(read, ranks),
        run_folder=found.run_folder,
    )


def _counts(read: list[tuple[FileFacts, list[pl.DataFrame]]], used: Mapping[str, int]) -> Counts:
    """Counts of all files; the events of a file that was left out are dropped as `file_left_out`."""
    return total(facts.counts if facts.file in used else left_out(facts.counts) for facts, _ in read)


def left_out(counts: Counts) -> Counts:
    """The same counts, nothing kept."""
    return Counts(
        events_seen=counts.events_seen,
        events_dropped={**counts.events_dropped, "file_left_out": counts.events_kept},
        bytes_seen=counts.bytes_seen,
        bytes_dropped={**counts.bytes_dropped, "file_left_out": counts.bytes_kept},
    )


class Frames:
    """Keeps frames in memory."""

    def __init__(self) -> None:
        self.frames: list[pl.DataFrame] = []

    def __call__(self, frame: pl.DataFrame) -> None:
        self.frames.append(frame)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A document of which nothing could be used."""

    why: str
    defects: tuple[dict[str, Any], ...]


def read_source(
    source: Source, *, limits: Limits, new_sink: Callable[[], Frames], progress: Progress | None = None
) -> Iterator[tuple[FileFacts, Frames] | Unusable]:
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
        num_documents = 0
        for name, plain in documents(source.path, cast("BinaryIO", counted), outer):
            num_documents += 1
            log = outer if name == source.path else DefectLog(name)
            sink = new_sink()
            try:
                facts = read_document(
                    plain, name, limits=limits, log=log, sink=sink, run_folder=source.run_folder
                )
            except NotATraceError as error:
                code = "file.not_a_trace" if error.foreign else "file.unusable"
                yield Unusable(f"{name}: {error.what}", (defect_row(code, name, detail="" if error.foreign else error.what), *log.rows()))
            else:
                yield facts, sink
        if not num_documents:
            what = next((row["message"] for row in outer.rows()), "the archive holds no trace")
            yield Unusable(f"{source.path}: {what}", (defect_row("file.unusable", source.path, detail=what),))


class Counted:
    """A binary file that tells how much of it was read."""

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


def unusable(path: str, failures: Sequence[str]) -> InputError:
    """The error for a path without any usable trace."""
    if len(failures) == 1:
        return InputError(f"{failures[0]}", _REMEDY)
    why = "; ".join(failures[:_SHOWN]) + (f" and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else "")
    return InputError(f"{path}: none of {len(failures)} files can be used ({why})", _REMEDY)


_SHOWN = 3
_REMEDY = "give a Kineto trace that has at least one complete event: what torch.profiler's export_chrome_trace wrote"
