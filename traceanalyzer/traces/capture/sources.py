"""One source read into the parts of a capture, and whether a capture holds it already."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from traceanalyzer.regular_file import shown
from traceanalyzer.traces.capture.manifest import DocumentEntry, SourceEntry
from traceanalyzer.traces.capture.parts import PartWriter
from traceanalyzer.traces.capture.workers import WorkerDiedError
from traceanalyzer.traces.defects import defect_row
from traceanalyzer.traces.input.discovery import Source, is_remote, open_source
from traceanalyzer.traces.input.limits import Limits
from traceanalyzer.traces.input.source import Progress, Unusable, read_source


def stamp(source: Source) -> tuple[int | None, int | None]:
    """Size and modification time of a local source."""
    if is_remote(source.path):
        return None, None
    try:
        status = os.stat(source.path)  # noqa: PTH116 - the path may be of any form that was given
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns


def is_unchanged(source: Source, entry: SourceEntry | None) -> bool:
    """Whether the capture holds this very file: same size and time, or else the same content."""
    if entry is None or not entry.sha256:
        return False
    if is_remote(source.path):
        return entry.sha256 == _hash_source(source)
    size, modified = stamp(source)
    if size is None or size != entry.num_bytes:
        return False
    return modified == entry.modified_ns or _hash_source(source) == entry.sha256


def _hash_source(source: Source) -> str:
    """SHA-256; of a remote file the version that its store tells: it is read once only."""
    if is_remote(source.path):
        from traceanalyzer.traces.input.remote import version_of  # noqa: PLC0415 - fsspec is slow to import

        return version_of(source.path)
    digest = hashlib.sha256()
    with open_source(source.path) as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def read_into_parts(work: str, limits: Limits, source: Source, progress: Progress | None = None) -> SourceEntry:
    """Read one source and write its parts into folders of its own below `work`."""
    size, modified = stamp(source)
    documents: list[DocumentEntry] = []
    failures: list[str] = []
    defects: list[dict[str, Any]] = []

    def new_sink() -> PartWriter:
        return PartWriter(Path(tempfile.mkdtemp(dir=work)))

    for result in read_source(source, limits=limits, new_sink=new_sink, progress=progress):
        if isinstance(result, Unusable):
            failures += [result.why] if result.why else []
            defects += result.defects
            continue
        facts, sink = result
        parts = tuple(msgspec.structs.replace(part, path=str(path)) for path, part in sink.finish(facts))
        documents.append(DocumentEntry(facts=facts, parts=parts))
    return SourceEntry(
        path=shown(source.path),
        num_bytes=size,
        modified_ns=modified,
        sha256=_hash_source(source),
        documents=tuple(documents),
        failures=tuple(failures),
        defects=tuple(defects),
    )


def entry_of(source: Source, result: object) -> SourceEntry:
    """What a worker answered; a worker that died costs its source, other errors end the ingest."""
    if isinstance(result, SourceEntry):
        return result
    if not isinstance(result, WorkerDiedError):
        raise result if isinstance(result, Exception) else TypeError(result)
    failure = shown(f"{source.path}: {result}")
    defect = defect_row("file.unusable", source.path, detail=str(result))
    return SourceEntry(
        path=shown(source.path),
        num_bytes=None,
        modified_ns=None,
        sha256="",
        documents=(),
        failures=(failure,),
        defects=(defect,),
    )
