"""One source of a capture: what the manifest says of it, whether it changed, and how it is read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from traceanalyzer.regular_file import shown
from traceanalyzer.traces.capture.manifest import DocumentEntry, SourceEntry
from traceanalyzer.traces.capture.names.pseudonyms import keyed_hash
from traceanalyzer.traces.capture.names.redaction import Redaction
from traceanalyzer.traces.capture.parts import PartWriter
from traceanalyzer.traces.capture.workers import WorkerDiedError
from traceanalyzer.traces.defects import defect_row
from traceanalyzer.traces.input.discovery import Source, is_remote, open_source
from traceanalyzer.traces.input.limits import Limits
from traceanalyzer.traces.input.source import Progress, Unusable, read_source
from traceanalyzer.traces.kineto.ranks.identity import mapped_rank


def entry_of(source: Source, result: object, redaction: Redaction | None) -> SourceEntry:
    """What a worker answered; a worker that died costs its source, other errors end the ingest."""
    if isinstance(result, SourceEntry):
        return result
    if not isinstance(result, WorkerDiedError):
        raise result if isinstance(result, Exception) else TypeError(result)
    failure = shown(f"{source.path}: {result}")
    defect = defect_row("file.unusable", source.path, detail=str(result))
    entry = SourceEntry(
        path=shown(source.path),
        num_bytes=None,
        modified_ns=None,
        sha256="",
        documents=(),
        failures=(failure,),
        defects=(defect,),
    )
    return entry if redaction is None else _redacted(entry, redaction)


def _redacted(entry: SourceEntry, redaction: Redaction) -> SourceEntry:
    """An entry without names; its documents' facts have none any more."""
    return msgspec.structs.replace(
        entry,
        path=redaction.source(entry.path),
        sha256=entry.sha256 and keyed_hash(entry.sha256, 32),
        failures=tuple(redaction.failure(text, entry.path) for text in entry.failures),
        defects=tuple(redaction.defect(row) for row in entry.defects),
    )


def stamp(source: Source) -> tuple[int | None, int | None]:
    """Size and modification time of a local source."""
    if is_remote(source.path):
        return None, None
    try:
        status = os.stat(source.path)  # noqa: PTH116 - the path may be of any form that was given
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns


def unchanged(source: Source, entry: SourceEntry | None, redaction: Redaction | None) -> bool:
    """Whether the capture holds this very file: same size and time, or else the same content."""
    if entry is None or not entry.sha256:
        return False
    if is_remote(source.path):
        return entry.sha256 == _hash_source(source)
    size, modified = stamp(source)
    if size is None or size != entry.num_bytes:
        return False
    if modified == entry.modified_ns:
        return True
    digest = _hash_source(source)
    return (digest if redaction is None else keyed_hash(digest, 32)) == entry.sha256


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


def read_entry(
    work: str,
    limits: Limits,
    redaction: Redaction | None,
    rank_map: Mapping[str, int],
    source: Source,
    progress: Progress | None = None,
) -> SourceEntry:
    """Read one source and write its parts into folders of its own below `work`."""
    size, modified = stamp(source)
    documents: list[DocumentEntry] = []
    failures: list[str] = []
    defects: list[dict[str, Any]] = []

    def new_sink() -> PartWriter:
        return PartWriter(Path(tempfile.mkdtemp(dir=work)), redaction)

    for result in read_source(source, limits=limits, new_sink=new_sink, progress=progress):
        if isinstance(result, Unusable):
            failures += [result.why] if result.why else []
            defects += result.defects
            continue
        facts, sink = result
        parts = tuple(msgspec.structs.replace(part, path=str(path)) for path, part in sink.finish(facts))
        facts = facts if redaction is None else redaction.facts(facts, mapped_rank(facts.file, rank_map))
        documents.append(DocumentEntry(facts=facts, parts=parts))
    entry = SourceEntry(
        path=shown(source.path),
        num_bytes=size,
        modified_ns=modified,
        sha256=_hash_source(source),
        documents=tuple(documents),
        failures=tuple(failures),
        defects=tuple(defects),
    )
    return entry if redaction is None else _redacted(entry, redaction)
