"""A path to the trace files behind it: a file, a folder, a glob or a URL; an archive holds several."""

from __future__ import annotations

import glob
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from traceanalyzer.errors import InputError, NoTracesError
from traceanalyzer.job import RUN_FILE
from traceanalyzer.regular_file import lies_within, open_regular, shown
from traceanalyzer.spelling import did_you_mean
from traceanalyzer.traces.defects import DefectLog, defect_row
from traceanalyzer.traces.formats import FORMATS
from traceanalyzer.traces.input.codecs import Peeked, Reader, archive_of, open_plain
from traceanalyzer.traces.input.foreign import foreign_files, remedy_of

_MOST_NAMES = 2000
"""Names of a folder that are looked through for one that is spelt like a missing path."""
_ENDINGS = "|".join(re.escape(ending) for each in FORMATS for ending in each.endings)
_CANDIDATE = re.compile(
    rf"(?i)\.({_ENDINGS})(\.(gz|zst|zstd|xz|bz2))?$|\.(zip|tar|tgz|tar\.(gz|zst|xz|bz2))$|trace\.(gz|zst)$"
)
_SIDE_FILE = re.compile(r"(^|/)(status|failures)/rank\d{5,}\.json$")
"""What a recorder writes of ranks beside their traces."""
_LEFTOVER = re.compile(r"(?i)\.json(\.gz)?\.tmp")
_OURS = {RUN_FILE, "review.json", "manifest.json"}
_FEW = 3
_MAX_DEPTH = 12
_MAX_ENTRIES = 200_000
_MAX_MEMBERS = 100_000
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


@dataclass(frozen=True, slots=True)
class Source:
    """One file that may hold traces."""

    path: str
    """Local path or URL."""
    run_folder: str | None
    explicit: bool
    """Named by the user, not found in a folder."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to."""

    sources: tuple[Source, ...]
    run_folder: Path | None
    """The folder with `run.json` at the path, above a file, or the only one below it."""
    defects: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Paths:
    """Several paths that hold one run together, as a shell writes them out."""

    paths: tuple[str, ...]

    def __str__(self) -> str:
        more = f" … ({len(self.paths)} paths)" if len(self.paths) > _FEW else ""
        return " ".join(self.paths[:_FEW]) + more


Where: TypeAlias = Path | str | Paths


def each_of(where: Where) -> tuple[str, ...]:
    """The single paths of `where`."""
    return where.paths if isinstance(where, Paths) else (str(where),)


def is_remote(path: str) -> bool:
    """Whether a path is a URL that fsspec opens; `::` alone may be a host's address in a name."""
    return "://" in path and not os.path.lexists(path)


def find(path: Where) -> Found:
    """The files behind `path`, sorted by path. Raises `InputError` if it does not exist or nothing can be a trace."""
    if isinstance(path, Paths):
        return _find_several(path)
    text = str(path)
    if is_remote(text):
        return _find_remote(text)
    root = Path(path)
    if not os.path.lexists(root):
        if any(c in text for c in "*?["):
            return _find_glob(text)
        raise InputError(
            f"{text}: no such file or folder", _near(root) or "give a trace file, a folder of traces or a capture"
        )
    if root.is_dir():
        return _find_folder(root)
    if not root.is_file():
        raise InputError(f"{text}: neither a file nor a folder", "pipes and devices are not opened; give a file")
    folder = run_folder_above(root, levels=2)
    return Found((Source(text, _text(folder), explicit=True),), folder, ())


def _find_several(where: Paths) -> Found:
    """The files behind all paths, each once; paths without a trace are left out as long as one has some."""
    found: list[Found] = []
    nothing: NoTracesError | None = None
    for path in where.paths:
        if Path(path).is_file() and not may_be_trace(path):
            continue
        try:
            found.append(find(path))
        except NoTracesError as error:
            nothing = error
    sources = {os.path.realpath(s.path): s for each in found for s in each.sources}
    if not sources:
        raise nothing or NoTracesError(f"{where}: no trace files here", _nothing_hint([]))
    folders = {each.run_folder for each in found}
    if all(Path(path).is_dir() for path in where.paths):  # of nodes: one of them holds the description
        folders.discard(None)
    only = folders.pop() if len(folders) == 1 else None
    ordered = tuple(sorted((replace(s, explicit=False) for s in sources.values()), key=lambda s: s.path))
    return Found(ordered, only, tuple(row for each in found for row in each.defects))


def may_be_trace(path: str) -> bool:
    """Whether a file's name is that of a trace, as it is asked of files in a folder."""
    name = Path(path).name
    return bool(_CANDIDATE.search(name)) and name not in _OURS and not _SIDE_FILE.search(Path(path).as_posix())


def run_folder_above(file: Path, *, levels: int) -> Path | None:
    """The nearest folder above `file`, at most `levels` up, that holds a `run.json`."""
    for folder in list(file.absolute().parents)[:levels]:
        if (folder / RUN_FILE).is_file():
            return folder
    return None


def _near(path: Path) -> str:
    """Names beside a path that does not exist which are spelt like it; empty if there are none."""
    try:
        beside = sorted(entry.name for entry in os.scandir(path.parent))
    except OSError:
        return ""
    return did_you_mean(path.name, beside[:_MOST_NAMES]).strip()


def _text(folder: Path | None) -> str | None:
    return None if folder is None else str(folder)


def _find_glob(pattern: str) -> Found:
    files = sorted(
        f
        for f in glob.glob(pattern, recursive=True)  # noqa: PTH207 - the pattern may be absolute
        if Path(f).is_file()
    )
    if not files:
        raise InputError(f"{pattern}: nothing matches", "check the pattern; quote it so that the shell leaves it alone")
    sources = tuple(Source(f, _text(run_folder_above(Path(f), levels=2)), explicit=True) for f in files)
    folders = {s.run_folder for s in sources}
    only = folders.pop() if len(folders) == 1 else None
    return Found(sources, Path(only) if only else None, ())


def _find_folder(root: Path) -> Found:
    defects: list[dict[str, Any]] = []
    real_root = root.resolve()
    sources: list[Source] = []
    run_folders: set[str] = set()
    deep: list[str] = []
    for entry, run_folder in _walk(root, None, 0, [0], deep):
        if run_folder:
            run_folders.add(run_folder)
        name = entry.name
        if name.startswith(".") or name in _OURS:
            continue
        if _LEFTOVER.search(name):
            defects.append(defect_row("folder.leftover", entry.path))
            continue
        if not _CANDIDATE.search(name) or _SIDE_FILE.search(Path(entry.path).as_posix()):
            continue
        problem = _problem(entry, real_root)
        if problem:
            defects.append(defect_row(problem, entry.path))
        else:
            sources.append(Source(entry.path, run_folder, explicit=False))
    defects += [defect_row("folder.too_deep", path) for path in deep[:_FEW]]
    if not sources:
        named = next(iter(foreign_files(root)), None)
        if named is not None:
            raise NoTracesError(
                f"{root}: holds no trace files; {named[0]}: {named[1].what}", remedy_of(named[1], str(named[0]))
            )
        raise NoTracesError(f"{root}: holds no trace files", _nothing_hint(defects, deep))
    only = run_folders.pop() if len(run_folders) == 1 else None
    return Found(tuple(sorted(sources, key=lambda s: s.path)), Path(only) if only else None, tuple(defects))


def _nothing_hint(defects: list[dict[str, Any]], deep: Sequence[str] = ()) -> str:
    if deep:
        return f"folders more than {_MAX_DEPTH} below it are not searched: give the folder of the traces itself"
    left = f"; {len(defects)} unfinished or unreadable files were passed over" if defects else ""
    examples = ", ".join(example for each in FORMATS for example in each.examples)
    return f"traces are files like {examples} or an archive of them{left}"


def _walk(
    folder: Path, run_folder: str | None, depth: int, count: list[int], deep: list[str]
) -> Iterator[tuple[os.DirEntry[str], str | None]]:
    """Everything that is not a folder below `folder`, with the nearest run folder; links to folders are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        return
    if any(e.name == RUN_FILE for e in entries):
        run_folder = str(folder)
    for entry in entries:
        count[0] += 1
        if count[0] > _MAX_ENTRIES:
            raise InputError(
                f"{folder}: more than {_MAX_ENTRIES} entries below the given folder", "give the folder of the traces"
            )
        if entry.is_dir(follow_symlinks=False):
            if depth < _MAX_DEPTH:
                yield from _walk(Path(entry.path), run_folder, depth + 1, count, deep)
            else:
                deep.append(entry.path)
        else:
            yield entry, run_folder


def _problem(entry: os.DirEntry[str], real_root: Path) -> str | None:
    """The defect that keeps a candidate from being opened."""
    try:
        if entry.is_symlink() and not lies_within(Path(entry.path), real_root):
            return "folder.not_regular"
        if not stat.S_ISREG(entry.stat().st_mode):
            return "folder.not_regular"
    except (OSError, ValueError):
        return "folder.not_regular"
    return None if os.access(entry.path, os.R_OK) else "folder.unreadable"


def _find_remote(url: str) -> Found:
    from traceanalyzer.traces.input.remote import files_at  # noqa: PLC0415 - fsspec is slow to import

    paths = files_at(url)
    single = len(paths) == 1
    names = [p for p in paths if single or (_CANDIDATE.search(p) and p.rsplit("/", 1)[-1] not in _OURS)]
    if not names:
        raise InputError(f"{url}: holds no trace files", "give the URL of a trace file or of a folder of them")
    return Found(tuple(Source(p, None, explicit=single) for p in names), None, ())


def open_source(path: str) -> BinaryIO:
    """Open a source for reading; a local one without following a pipe. Raises `InputError`."""
    if is_remote(path):
        from traceanalyzer.traces.input.remote import open_remote  # noqa: PLC0415 - fsspec is slow to import

        return open_remote(path)
    try:
        return open_regular(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "check the path and its permissions") from None


def documents(path: str, stream: BinaryIO, log: DefectLog) -> Iterator[tuple[str, Peeked]]:
    """The documents in an open file: itself, or the plain members of the archive that it is, one after the other.

    Members are read from the archive and never written anywhere, so their names cannot leave it.
    """
    plain = open_plain(stream, log, reopen=lambda: open_source(path))
    kind = archive_of(plain.head)
    if kind is None:
        yield shown(path), plain
    elif kind == "zip":
        yield from _zip_members(shown(path), stream, log)
    else:
        yield from _tar_members(shown(path), plain, log)


def _is_safe(name: str) -> bool:
    return not name.startswith(("/", "\\")) and ".." not in re.split(r"[/\\]", name) and ":" not in name[:2]


def _zip_members(path: str, stream: BinaryIO, log: DefectLog) -> Iterator[tuple[str, Peeked]]:
    try:
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist()[:_MAX_MEMBERS]:
                link = stat.S_ISLNK(info.external_attr >> 16)
                if info.is_dir() or not _CANDIDATE.search(info.filename):
                    continue
                if link or not _is_safe(info.filename) or info.flag_bits & 1:
                    log.add("codec.unsafe_member", events=0, detail=info.filename[:80])
                    continue
                with archive.open(info) as member:
                    yield (
                        f"{path}/{info.filename}",
                        open_plain(_Forgiving(cast("Reader", member), info.filename, log), log),
                    )
    except (*_DAMAGED, NotImplementedError, RuntimeError) as error:
        log.add("codec.corrupt", events=0, detail=f"zip: {error}")


def _tar_members(path: str, plain: Reader, log: DefectLog) -> Iterator[tuple[str, Peeked]]:
    try:
        with tarfile.open(fileobj=cast("Any", plain), mode="r|") as archive:
            for count, info in enumerate(archive):
                if count >= _MAX_MEMBERS:
                    break
                if not info.isfile() or not _is_safe(info.name):
                    if not info.isdir():
                        log.add("codec.unsafe_member", events=0, detail=info.name[:80])
                    continue
                member = archive.extractfile(info) if _CANDIDATE.search(info.name) else None
                if member is not None:
                    yield f"{path}/{info.name}", open_plain(_Forgiving(cast("Reader", member), info.name, log), log)
    except _DAMAGED as error:
        log.add("codec.corrupt", events=0, detail=f"tar: {error}")


class _Forgiving:
    """Ends a stream where reading it fails."""

    __slots__ = ("_inner", "_log", "_name")

    def __init__(self, inner: Reader, name: str, log: DefectLog) -> None:
        self._inner = inner
        self._name = name[:80]
        self._log = log

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        try:
            return self._inner.read(size)
        except _DAMAGED as error:
            self._log.add("codec.corrupt", events=0, detail=f"member {self._name} is damaged: {error}")
            return b""
