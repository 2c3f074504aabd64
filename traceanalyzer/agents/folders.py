"""The folders that an agent may look into: nothing outside them is read, whatever path it names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from traceanalyzer.errors import UsageError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_MOST_ENTRIES = 200_000
_MOST_LISTED = 200


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders, resolved once at the start."""

    roots: tuple[Path, ...]

    def inside(self, path: str) -> Path:
        """The real path of something inside the folders; relative ones are looked for in each folder.

        Raises `UsageError` for URLs, `..`, what is not there, and whatever lies or leads outside, also by a link
        anywhere below `path`.
        """
        if not path or "\0" in path or _URL.match(path):
            raise UsageError(f"{path!r}: is not the path of a file or folder", self._hint())
        if ".." in Path(path).parts:
            raise UsageError(f"{path}: a path may not contain '..'", self._hint())
        found = next((place for place in self._candidates(path) if place.exists()), None)
        if found is None:
            raise UsageError(f"{path}: is not in the folders that were given", self._hint())
        real = found.resolve()
        self._check(real, path)
        for link in _links(real):
            self._check(link.resolve(), str(link))
        return real

    def listing(self) -> dict[str, list[str]]:
        """What lies directly in every folder, by name; folders end with a slash, links are left out."""
        return {str(root): list(_names(root)) for root in self.roots}

    def _candidates(self, path: str) -> list[Path]:
        """Where a path may be meant: as it is if absolute, else in each folder."""
        place = Path(path)
        if not place.is_absolute():
            return [root / place for root in self.roots]
        return [place] if any(place.resolve().is_relative_to(root) for root in self.roots) else []

    def _check(self, real: Path, shown: str) -> None:
        if not any(real.is_relative_to(root) for root in self.roots):
            raise UsageError(f"{shown}: leads outside the folders that were given", self._hint())

    def _hint(self) -> str:
        return f"name a file or folder inside {', '.join(map(str, self.roots))}"


def open_folders(paths: Sequence[str]) -> Folders:
    """The folders at `paths`. Raises `UsageError` if one is none."""
    for path in paths:
        if not Path(path).is_dir():
            raise UsageError(f"{path}: is not a folder", "give folders that hold runs, captures or results")
    return Folders(tuple(dict.fromkeys(Path(path).resolve() for path in paths)))


def fingerprint(path: Path) -> tuple[int, int, int]:
    """Number, bytes and newest change of the files below `path`: tells whether anything changed since."""
    found = [entry.stat() for entry in _files(path)]
    return len(found), sum(each.st_size for each in found), max((each.st_mtime_ns for each in found), default=0)


def _links(path: Path) -> Iterator[Path]:
    """Links below a folder. They are not followed."""
    if not path.is_dir():
        return
    num_seen = 0
    for folder, folders, files in os.walk(path, followlinks=False):
        num_seen += len(folders) + len(files)
        if num_seen > _MOST_ENTRIES:
            raise UsageError(f"{path}: holds more than {_MOST_ENTRIES:,} files", "name a folder of one run")
        yield from (place for name in (*folders, *files) if (place := Path(folder) / name).is_symlink())


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, _, files in os.walk(path, followlinks=False):
        yield from (place for name in sorted(files) if (place := Path(folder) / name).is_file())


def _names(root: Path) -> Iterator[str]:
    entries = sorted(entry for entry in root.iterdir() if not entry.is_symlink() and not entry.name.startswith("."))
    yield from (f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries[:_MOST_LISTED])
    if len(entries) > _MOST_LISTED:
        yield f"… {len(entries) - _MOST_LISTED} more"
