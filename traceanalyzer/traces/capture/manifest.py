"""The manifest of a capture: what it was made from, which parts it has, and the hashes that prove both."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from traceanalyzer.errors import InputError
from traceanalyzer.output import write_atomically
from traceanalyzer.regular_file import open_regular, read_regular
from traceanalyzer.traces.capture.names.redaction import Redaction
from traceanalyzer.traces.kineto.facts import FileFacts

MANIFEST = "manifest.json"
EVENTS = "events"
"""Folder of the parts."""
FORMAT = "traceanalyzer capture"
VERSION = 3
"""Of the fields below and of `FileFacts`: a capture with other fields is of another version."""
_REMEDY = "make the capture again from its traces: traceanalyzer ingest TRACES --out CAPTURE"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file of the capture."""

    path: str
    """Relative to the capture."""
    sha256: str
    num_rows: int
    num_bytes: int


class DocumentEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One trace document: its facts and where its events are."""

    facts: FileFacts
    parts: tuple[Part, ...]


class SourceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was read, with every document in it."""

    path: str
    num_bytes: int | None
    modified_ns: int | None
    sha256: str
    documents: tuple[DocumentEntry, ...]
    failures: tuple[str, ...] = ()
    defects: tuple[dict[str, Any], ...] = ()
    """Of documents of which nothing could be used."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a capture but the events."""

    format: str = FORMAT
    version: int = VERSION
    tool_version: str
    complete: bool
    """False while an ingest runs, and after one that was stopped."""
    sources: tuple[SourceEntry, ...] = ()
    side_files: dict[str, str] = {}
    """Copied files of the run folder and their SHA-256."""
    rank_map: dict[str, int] = {}
    defects: tuple[dict[str, Any], ...] = ()
    redaction: Redaction | msgspec.UnsetType = msgspec.UNSET
    """What was replaced before anything was written; absent where nothing was."""
    sha256: str = ""
    """Of the manifest as it is written with this field empty."""


def is_capture(folder: Path) -> bool:
    """Whether a folder is a capture: it has a manifest that says so, sound or not."""
    try:
        with open_regular(folder / MANIFEST) as file:
            return FORMAT.encode() in file.read(4096) or (folder / EVENTS).is_dir()
    except OSError:
        return False


def load_manifest(folder: Path) -> Manifest:
    """Read a capture's manifest. Raises `InputError` if it is damaged or of another version."""
    path = folder / MANIFEST
    try:
        data = read_regular(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged manifest: {error}", _REMEDY) from None
    return decode_manifest(data, str(path))


def decode_manifest(data: bytes, path: str) -> Manifest:
    """A manifest from its bytes; `path` names it in errors. Raises `InputError` as `load_manifest` does."""
    try:
        version = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("version", msgspec.Raw(b"null"))
        number = msgspec.json.decode(version)
        if number != VERSION:
            raise InputError(f"{path}: capture version {number}, this program reads version {VERSION}", _REMEDY)
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: damaged manifest: {error}", _REMEDY) from None
    if manifest.format != FORMAT or data != _written(manifest) or manifest.sha256 != _own_sha256(manifest):
        raise InputError(f"{path}: damaged manifest: it was changed after it was written", _REMEDY)
    for name in [p.path for s in manifest.sources for d in s.documents for p in d.parts] + list(manifest.side_files):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InputError(
                f"{path}: a part lies outside the capture", "this capture was tampered with; do not use it"
            )
    return manifest


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step that also survives a power cut. Raises `OSError`."""
    write_atomically(folder / MANIFEST, _written(msgspec.structs.replace(manifest, sha256=_own_sha256(manifest))))


def _written(manifest: Manifest) -> bytes:
    """The one way in which a manifest is written: any other byte was changed."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def _own_sha256(manifest: Manifest) -> str:
    return sha256_of(_written(msgspec.structs.replace(manifest, sha256="")))


def sha256_of(data: bytes) -> str:
    """SHA-256 of bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
