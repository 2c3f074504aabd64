"""Write a timeline into a file, whole or not at all."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from traceanalyzer import __version__
from traceanalyzer.output import write_streamed
from traceanalyzer.perfetto.formats import Writer
from traceanalyzer.perfetto.formats.chrome import ChromeWriter
from traceanalyzer.perfetto.formats.native import NativeWriter, protocol
from traceanalyzer.perfetto.source import Source
from traceanalyzer.perfetto.tracks.processes import Remarks, processes
from traceanalyzer.perfetto.window import Choice, zero_ns

Format = Literal["perfetto", "json"]


@dataclass(frozen=True, slots=True)
class Written:
    """What is in a file."""

    num_processes: int
    num_slices: int
    num_flows: int
    num_bytes: int
    notes: tuple[str, ...]
    """What is not in it, and why."""


def format_of(path: Path) -> Format:
    """Chrome's JSON by a name that ends in `.json` or `.json.gz`, else Perfetto's own."""
    return "json" if path.name.lower().removesuffix(".gz").endswith(".json") else "perfetto"


def write_timeline(
    source: Source, choice: Choice, path: Path, kind: Format | None = None, *, cpu: bool = False
) -> Written:
    """Write what was chosen of a source to `path`, compressed by a name that ends in `.gz`.

    Raises `UsageError` if nothing was chosen, `OutputError` where the file cannot be written whole.
    """
    notes_of, counts = Remarks(), [0, 0]
    kind = kind or format_of(path)
    if kind == "perfetto":
        protocol()

    def write(file: BinaryIO) -> None:
        stream = _Compressed(file) if path.name.lower().endswith(".gz") else file
        writer = _writer(kind, cast("IO[bytes]", stream), source)
        for process in processes(source, choice, notes_of, cpu=cpu):
            counts[0] += 1
            writer.process(process)
        writer.close()
        counts[1] = writer.num_slices
        if stream is not file:
            stream.close()

    write_streamed(path, write, "timeline.pftrace")
    return Written(counts[0], counts[1], notes_of.num_flows, path.stat().st_size, tuple(notes_of.notes))


def _writer(kind: Format, file: IO[bytes], source: Source) -> Writer:
    if kind == "perfetto":
        return NativeWriter(file)
    about = {"made by": f"traceanalyzer {__version__}", "of": source.review.source.path}
    return ChromeWriter(file, zero_ns(source.whole("steps")) or _first(source), about)


def _first(source: Source) -> int:
    return int(str(source.whole("ranks")["start_ns"].min() or 0))


class _Compressed(gzip.GzipFile):
    """Compressed without name and time, so that equal timelines are equal files."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0)
