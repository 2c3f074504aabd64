"""Many captures as one: a manifest that lists the parts of all, where they lie. No event is read, written or moved.

Ranks of a job that keep their own traces as captures leave them in `captures/` of the run folder, one folder each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from traceanalyzer.errors import InputError
from traceanalyzer.job import CAPTURES, RUN_FILE
from traceanalyzer.regular_file import read_regular, regular_below
from traceanalyzer.traces.capture.manifest import (
    MANIFEST,
    DocumentEntry,
    Manifest,
    SourceEntry,
    is_capture,
    load_manifest,
    save_manifest,
    sha256_of,
)
from traceanalyzer.traces.run_folder import SIDE_FILES
from traceanalyzer.version import __version__


def own_captures(folder: Path) -> list[Path]:
    """The captures that ranks left in a run folder, by name; empty if the folder is a capture itself."""
    if is_capture(folder):
        return []
    return sorted(found.parent for found in (folder / CAPTURES).glob(f"*/{MANIFEST}") if is_capture(found.parent))


def merged(folder: Path, captures: Sequence[Path]) -> Manifest:
    """The manifest of `folder` that lists what `captures` below it hold. Raises `InputError`."""
    manifests = [(path.relative_to(folder).as_posix(), load_manifest(path)) for path in captures]
    sources = [source for home, manifest in manifests for source in _moved(home, manifest)]
    return Manifest(
        tool_version=__version__,
        complete=all(manifest.complete for _, manifest in manifests),
        sources=tuple(sorted(sources, key=lambda source: source.path)),
        side_files={
            name: sha256_of(read_regular(path))
            for pattern in (RUN_FILE, *SIDE_FILES)
            for path, readable in regular_below(folder, pattern)
            if readable and (name := path.relative_to(folder).as_posix())
        },
        rank_map={name: rank for _, manifest in manifests for name, rank in manifest.rank_map.items()},
        defects=tuple(row for _, manifest in manifests for row in manifest.defects),
    )


def merge(folder: Path) -> Manifest:
    """Write the manifest that makes a run folder the capture of all its ranks' captures. Raises `InputError`."""
    captures = own_captures(folder)
    if not captures:
        raise InputError(
            f"{folder}: holds no captures of ranks", f"give a run folder with {CAPTURES}/*/{MANIFEST} in it"
        )
    manifest = merged(folder, captures)
    save_manifest(folder, manifest)
    return manifest


def _moved(home: str, manifest: Manifest) -> Iterator[SourceEntry]:
    """Sources whose parts are named from the folder above."""
    for source in manifest.sources:
        yield msgspec.structs.replace(source, documents=tuple(_at(home, document) for document in source.documents))


def _at(home: str, document: DocumentEntry) -> DocumentEntry:
    parts = tuple(msgspec.structs.replace(part, path=f"{home}/{part.path}") for part in document.parts)
    return msgspec.structs.replace(document, parts=parts)
