"""Traces into a capture: every file once, whole or not at all, by one writer at a time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from traceanalyzer.errors import OutputError, TraceAnalyzerError
from traceanalyzer.job import RUN_FILE
from traceanalyzer.output import sync_folder, write_atomically
from traceanalyzer.regular_file import read_regular, regular_below, shown
from traceanalyzer.traces.capture.lock import LOCK, locked
from traceanalyzer.traces.capture.manifest import (
    EVENTS,
    MANIFEST,
    DocumentEntry,
    Manifest,
    SourceEntry,
    is_capture,
    load_manifest,
    save_manifest,
    sha256_of,
)
from traceanalyzer.traces.capture.many.cluster import each_on_cluster
from traceanalyzer.traces.capture.names.redaction import Redaction, same_redaction
from traceanalyzer.traces.capture.sources import entry_of, read_entry, stamp, unchanged
from traceanalyzer.traces.capture.workers import each, number_of_workers
from traceanalyzer.traces.defects import defect_row
from traceanalyzer.traces.input.discovery import Found, Source, find, is_remote
from traceanalyzer.traces.input.limits import DEFAULT_LIMITS, Limits
from traceanalyzer.traces.input.source import unusable
from traceanalyzer.traces.kineto.ranks.identity import identify
from traceanalyzer.traces.run_folder import SIDE_FILES
from traceanalyzer.traces.run_status import STATUS_FILES
from traceanalyzer.version import __version__

_WORK = ".work"
_SAVE_SHARE = 20
"""Times the last writing of the manifest, which lists every source so far, until the next one."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest did."""

    manifest: Manifest
    num_read: int
    num_unchanged: int


def ingest(  # noqa: PLR0913 - each is one thing that a user may choose
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    rank_map: Mapping[str, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    num_workers: int | None = None,
    cluster: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    redact: frozenset[str] = frozenset(),
    with_side_files: bool = True,
) -> Ingested:
    """Read all traces at `paths` into the capture `out`, making or extending it.

    Sources that the capture already holds unchanged are not read again, so an ingest that was stopped resumes.
    `with_side_files` copies what stands beside the traces of a reference run. `cluster` is the address of a Dask scheduler
    whose workers read instead of processes here. `redact` are classes of names (`traceanalyzer.traces.capture.names.pseudonyms.CLASSES`) that are
    replaced before they are written. `progress` is called with the bytes read so far and in all. Raises `InputError` (and
    leaves an existing capture as it was) if nothing can be used or files contradict, `OutputError` if the capture cannot be
    written.
    """
    found = [find(path) for path in (paths if cluster is None else [_everywhere(path) for path in paths])]
    folder = Path(out) if cluster is None else Path(out).absolute()
    existed = folder.is_dir() and any(folder.iterdir())
    try:
        if existed and not is_capture(folder) and not _is_remainder(folder):
            raise OutputError(f"{folder}: exists and is not a capture", "choose another --out, or an empty folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder):
            reading = _Ingest(folder, found, rank_map, limits, Redaction.of(redact))
            return reading.run(num_workers, cluster, progress, with_side_files=with_side_files)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{folder}: the capture cannot be written: {reason}",
            "free space or choose another --out; what was finished before is kept",
        ) from None


def _everywhere(path: str | Path) -> str | Path:
    """A path that means the same on every machine."""
    return path if is_remote(str(path)) else Path(path).absolute()


def _is_remainder(folder: Path) -> bool:
    """Whether a folder holds nothing but what an ingest left that was killed before its first source was done."""
    names = {entry.name for entry in folder.iterdir()} - {LOCK, _WORK, EVENTS}
    return all(
        name.startswith(f".{MANIFEST}.") and name.endswith(".tmp") for name in names
    )  # its first manifest, not whole


class _Ingest:
    def __init__(
        self,
        folder: Path,
        found: Sequence[Found],
        rank_map: Mapping[str, int] | None,
        limits: Limits,
        redaction: Redaction | None,
    ) -> None:
        self._folder = folder
        self._found = found
        self._limits = limits
        self._before = load_manifest(folder) if is_capture(folder) else None
        self._redaction = same_redaction(folder, self._before and self._before.redaction, redaction)
        self._rank_map = {**(self._before.rank_map if self._before else {}), **(rank_map or {})}
        self._save_after = 0.0
        self._given_map = self._rank_map
        if redaction is not None:  # it speaks of files by their names: each file gets its rank when it is read
            self._rank_map = {}
        self._left_out: list[dict[str, Any]] = []
        self._entries = {entry.path: entry for entry in (self._before.sources if self._before else ())}

    def run(
        self,
        num_workers: int | None,
        cluster: str | None,
        progress: Callable[[int, int], None] | None,
        *,
        with_side_files: bool,
    ) -> Ingested:
        self._clean(self._before)
        sources = {s.path: s for found in self._found for s in found.sources}
        todo = [s for s in sources.values() if not unchanged(s, self._entries.get(self._name(s)), self._redaction)]
        failures: list[str] = []
        try:
            for source, entry in self._read(todo, num_workers, cluster, progress):
                failures += entry.failures
                self._entries[self._name(source)] = entry
                self._save_now_and_then()
            self._check(failures, [str(f.sources[0].path) for f in self._found])
        except TraceAnalyzerError:
            self._restore()
            raise
        except (KeyboardInterrupt, SystemExit):
            self._save(complete=False)
            raise
        finally:
            shutil.rmtree(self._folder / _WORK, ignore_errors=True)
        side_files = self._copy_side_files() if with_side_files else {}
        manifest = self._save(complete=True, side_files=side_files)
        self._clean(manifest)
        return Ingested(manifest, len(todo), len(sources) - len(todo))

    def _name(self, source: Source) -> str:
        """A source as the manifest calls it."""
        path = shown(source.path)
        return path if self._redaction is None else self._redaction.source(path)

    # reading ---------------------------------------------------------------------------------------------------------

    def _read(
        self,
        todo: Sequence[Source],
        num_workers: int | None,
        cluster: str | None,
        progress: Callable[[int, int], None] | None,
    ) -> Iterator[tuple[Source, SourceEntry]]:
        work = self._folder / _WORK
        work.mkdir(mode=0o700, exist_ok=True)
        sizes = [size for s in todo if (size := stamp(s)[0]) is not None]
        count = _Progress(sum(sizes), progress)
        task = partial(read_entry, str(work), self._limits, self._redaction, self._given_map)
        if cluster is not None:
            for source, result in each_on_cluster(cluster, work, task, todo):
                count.add(stamp(source)[0] or 0)
                yield source, self._place(entry_of(source, result, self._redaction))
            return
        workers = number_of_workers(len(todo), num_workers) if sum(sizes) > _WORTH_WORKERS else 1
        if workers == 1:
            for source in todo:
                yield source, self._place(task(source, count.add_named))
            return
        for source, result in each(task, todo, num_workers=workers, on_bytes=count.add):
            yield source, self._place(entry_of(source, result, self._redaction))

    def _place(self, entry: SourceEntry) -> SourceEntry:
        """Move the parts of a source from the work folder to their final names."""
        documents: list[DocumentEntry] = []
        for document in entry.documents:
            facts = document.facts
            rank = facts.recorded_rank if facts.recorded_rank is not None else facts.name_rank
            home = f"{EVENTS}/rank={'unknown' if rank is None else f'{rank:05d}'}"
            for part in (EVENTS, home):
                (self._folder / part).mkdir(mode=0o700, exist_ok=True)
            key = f"{facts.digest[:12]}-{sha256_of(facts.file.encode())[:8]}"
            parts = tuple(
                msgspec.structs.replace(part, path=f"{home}/{key}-{i:04d}.parquet")
                for i, part in enumerate(document.parts)
            )
            for old, new in zip(document.parts, parts, strict=True):
                Path(old.path).replace(self._folder / new.path)
            sync_folder(self._folder / home)
            documents.append(DocumentEntry(facts=facts, parts=parts))
        return msgspec.structs.replace(entry, documents=tuple(documents))

    # writing ---------------------------------------------------------------------------------------------------------

    def _save_now_and_then(self) -> None:
        """Keep what is finished, often enough to resume and seldom enough that thousands of sources cost no more each."""
        begun = time.monotonic()
        if begun < self._save_after:
            return
        self._save(complete=False)
        ended = time.monotonic()
        self._save_after = ended + _SAVE_SHARE * (ended - begun)

    def _save(self, *, complete: bool, side_files: dict[str, str] | None = None) -> Manifest:
        before = self._before.side_files if self._before else {}
        manifest = Manifest(
            tool_version=__version__,
            complete=complete,
            sources=tuple(self._entries[path] for path in sorted(self._entries)),
            side_files={**before, **(side_files or {})},
            rank_map=self._rank_map,
            defects=tuple(self._named(row) for row in (*_defects_of(self._found), *self._left_out)),
            redaction=msgspec.UNSET if self._redaction is None else self._redaction,
        )
        save_manifest(self._folder, manifest)
        return manifest

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        return row if self._redaction is None else self._redaction.defect(row)

    def _check(self, failures: list[str], paths: Sequence[str]) -> None:
        """Refuse what reading the capture would refuse."""
        facts = [d.facts for entry in self._entries.values() for d in entry.documents]
        if not facts:
            raise unusable(paths[0], failures or [f"{paths[0]}: nothing was read"])
        identify(facts, self._rank_map)

    def _restore(self) -> None:
        """Leave the capture as it was before; nothing of a new one."""
        if self._before is not None:
            save_manifest(self._folder, self._before)
            self._clean(self._before)
            return
        (self._folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._folder / EVENTS, ignore_errors=True)

    def _clean(self, manifest: Manifest | None) -> None:
        """Remove what no manifest speaks of: remains of a writer that was killed."""
        shutil.rmtree(self._folder / _WORK, ignore_errors=True)
        known = {p.path for s in manifest.sources for d in s.documents for p in d.parts} if manifest else set[str]()
        for path in (self._folder / EVENTS).glob("rank=*/*.parquet"):
            if path.relative_to(self._folder).as_posix() not in known:
                path.unlink(missing_ok=True)
        for path in (*self._folder.glob(".*.tmp"), *self._folder.glob("*/.*.tmp")):  # also of side files
            path.unlink(missing_ok=True)

    def _copy_side_files(self) -> dict[str, str]:
        """Copy what stands beside the traces of a reference run, so that the capture is whole without it."""
        folders = {found.run_folder for found in self._found if found.run_folder is not None}
        copied: dict[str, str] = {}
        for run_folder in folders if len(folders) == 1 else ():
            for pattern in (RUN_FILE, *SIDE_FILES, STATUS_FILES):
                for path, readable in regular_below(run_folder, pattern):
                    if not readable:  # a capture holds nothing from elsewhere
                        self._left_out.append(defect_row("folder.not_regular", str(path)))
                        continue
                    data, name = read_regular(path), path.relative_to(run_folder).as_posix()
                    if self._redaction is not None and name == RUN_FILE:
                        data = self._redaction.job(data)
                    (self._folder / name).parent.mkdir(mode=0o700, exist_ok=True)
                    write_atomically(self._folder / name, data)
                    copied[name] = sha256_of(data)
        return copied


def _defects_of(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    for each_place in found:
        yield from each_place.defects


_WORTH_WORKERS = 4 << 20  # below this, starting processes takes longer than reading


class _Progress:
    def __init__(self, total: int, tell: Callable[[int, int], None] | None) -> None:
        self._done = 0
        self._total = total
        self._tell = tell

    def add(self, count: int) -> None:
        self._done += count
        if self._tell is not None:
            self._tell(self._done, self._total)

    def add_named(self, _name: str, count: int) -> None:
        self.add(count)
