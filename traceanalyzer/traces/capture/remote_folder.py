"""A capture on an object store, read where it lies: the manifest and side files at once, each part when it is asked for."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from traceanalyzer.traces.capture.manifest import FORMAT, MANIFEST, Manifest, Part, decode_manifest
from traceanalyzer.traces.capture.parts import rows_of


@dataclass(frozen=True, slots=True)
class RemoteCapture:
    """A capture behind a URL."""

    url: str
    manifest: Manifest
    side_files: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    @property
    def folder(self) -> Path:
        """Where copies of the side files are, until the process ends."""
        return Path(self.side_files.name)

    def part(self, part: Part) -> pl.DataFrame:
        """The rows of a part. Raises `InputError` if it cannot be read or is not what was written."""
        from traceanalyzer.traces.input.remote import place, read_bytes  # noqa: PLC0415 - fsspec is slow to import

        at = place(self.url).below(part.path)
        return rows_of(read_bytes(at), at.url, part)


def remote_capture(url: str) -> RemoteCapture | None:
    """The capture at a URL; None if there is none. Raises `InputError` if it is damaged or the store fails."""
    from traceanalyzer.traces.input.remote import exists, place, read_bytes  # noqa: PLC0415 - fsspec is slow to import

    root = place(url)
    at = root.below(MANIFEST)
    if not exists(at):
        return None
    data = read_bytes(at)
    if FORMAT.encode() not in data[:4096]:
        return None
    found = RemoteCapture(url, decode_manifest(data, at.url))
    _kept.append(found)
    for name in found.manifest.side_files:
        copy = found.folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(read_bytes(root.below(name)))
    return found


_kept: list[RemoteCapture] = []
"""Their side files are read after the events."""
