"""A path to tables: find the trace files, read each, separate ranks and cycles, and account for every event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.job import RUN_FILE
from traceanalyzer.regular_file import lies_within, read_regular
from traceanalyzer.traces.capture.manifest import Manifest, Part, is_capture, load_manifest, sha256_of
from traceanalyzer.traces.capture.many.merge import merged, own_captures
from traceanalyzer.traces.capture.parts import read_part, stored_frames
from traceanalyzer.traces.capture.remote_folder import remote_capture
from traceanalyzer.traces.defects import defect_row, defect_table
from traceanalyzer.traces.input.discovery import Paths, Where, find, is_remote
from traceanalyzer.traces.input.limits import DEFAULT_LIMITS, KEEPING_LIMITS, Limits
from traceanalyzer.traces.input.source import Frames, Source, Unusable, read_source, unusable
from traceanalyzer.traces.kineto.facts import FileFacts
from traceanalyzer.traces.kineto.kernel_times import KernelTally
from traceanalyzer.traces.kineto.label import label, rank_table
from traceanalyzer.traces.kineto.ranks.identity import Placed, identify
from traceanalyzer.traces.nccl.other_runs import TracedRun
from traceanalyzer.traces.recorded import Group, Recorded, batched, in_memory, in_order, sharing
from traceanalyzer.traces.run_folder import damaged_lines, read_step_records
from traceanalyzer.traces.run_writers import several_writers
from traceanalyzer.traces.tally import Counts, total

ReadPart = Callable[[Part], pl.DataFrame]
NewSink = Callable[[], Frames]
Rows = Callable[[], Iterable[pl.DataFrame]]
"""Fetches the frames (`ROW_SCHEMA`) of one document."""
MOST_IN_MEMORY = 1_000_000
"""Events that are read at once where they need not be: some 200 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is at a path and what is wrong with it, without the events."""

    ranks: pl.DataFrame
    """`RANKS`, one row per rank and cycle."""
    defects: pl.DataFrame
    """`DEFECTS`, worst first."""
    counts: Counts
    run_folder: Path | None
    """The folder that holds `run.json`, if there is one."""
    node_folders: tuple[Path, ...] = ()
    """Further folders of the same run, of nodes that wrote to a disk of their own."""
    job_ids: frozenset[str] = frozenset()
    """Ids that our recorder wrote into the traces."""

    @property
    def traced(self) -> TracedRun:
        """What tells records of other runs from those of this one."""
        sizes = self.ranks["world_size"].drop_nulls().unique().to_list()
        return TracedRun(job_ids=self.job_ids, world_size=sizes[0] if len(sizes) == 1 else None)

    @property
    def record_folders(self) -> tuple[Path, ...]:
        """All folders that hold what the run recorded beside its traces."""
        return (*((self.run_folder,) if self.run_folder is not None else ()), *self.node_folders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents(Summary):
    """A summary that was made by looking at every event once."""

    kernel_times: pl.DataFrame
    """`KERNEL_TIMES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces(Summary):
    """Everything that was read from one path."""

    recorded: Recorded

    @property
    def events(self) -> pl.DataFrame:
        """`EVENTS` of all ranks, sorted by rank, cycle, start and position; of a large capture read anew each time."""
        return self.recorded.together()

    @property
    def num_events(self) -> int:
        """Of all ranks."""
        return self.recorded.num_events


def read_traces(
    path: Where,
    *,
    rank_map: Mapping[str, int] | None = None,
    ranks: Collection[int] | None = None,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
    store: Path | None = None,
    events_at_once: int | None = None,
) -> Traces:
    """Read the traces at `path`: a file, a folder, a glob, a URL, a capture, or several of these but captures.

    `rank_map` gives ranks by file name or pattern; of the ranks found only `ranks` are kept. `progress` is
    called with the bytes read so far and in all. Where there are more than `events_at_once` (`MOST_IN_MEMORY`) events, those of a capture stay
    there, others in the empty folder `store` if one is given, and are read by groups of ranks. Raises `InputError` if nothing can be used or files contradict,
    `UsageError` if none of `ranks` is here.
    """
    given = limits or (KEEPING_LIMITS if store is None else DEFAULT_LIMITS)
    opened = _open(path, given, Frames if store is None else stored_frames(store), progress)
    opened = replace(opened, rereadable=opened.rereadable or store is not None)
    found, placing = identify([facts for facts, _ in opened.read], {**opened.rank_map, **(rank_map or {})})
    placed = found if ranks is None else _chosen(found, ranks, str(path))
    recorded = _recorded(opened, placed, MOST_IN_MEMORY if events_at_once is None else events_at_once)
    return Traces(
        recorded=recorded,
        ranks=_rank_table(recorded, placed),
        defects=_of_chosen(_defects(opened, found, placing), ranks),
        counts=_counts(opened, found, ranks),
        run_folder=opened.run_folder,
        node_folders=_node_folders(opened),
        job_ids=_job_ids(opened),
    )


def _recorded(opened: _Opened, placed: Sequence[Placed], events_at_once: int) -> Recorded:
    rows_of = {facts.file: rows for facts, rows in opened.read}

    def read(group: Group) -> pl.DataFrame:
        own = [place for place in placed if not group.isdisjoint(place.ranks)]
        return in_order(pl.concat([label(frame, place) for place in own for frame in rows_of[place.facts.file]()]))

    num_events = sum(place.facts.num_events for place in placed)
    if not opened.rereadable or num_events <= events_at_once:
        return in_memory(read(frozenset(rank for place in placed for rank in place.ranks)))
    groups = sharing([place.ranks for place in placed])
    group_of = {rank: group for group in groups for rank in group}
    sizes = dict.fromkeys(groups, 0)
    for place in placed:
        sizes[group_of[place.ranks[0]]] += place.facts.num_events
    return Recorded(groups, num_events, read, batched(groups, sizes, events_at_once // 2))


def _rank_table(recorded: Recorded, placed: Sequence[Placed]) -> pl.DataFrame:
    """`RANKS`; only files that several ranks share are read for it, all others were described while they were read."""
    groups = {
        group: [place for place in placed if not group.isdisjoint(place.ranks)]
        for group in recorded.batches or recorded.groups
    }
    tables = [
        rank_table(own, recorded.read(group) if any(len(place.ranks) > 1 for place in own) else None)
        for group, own in groups.items()
    ]
    return pl.concat(tables).sort("rank", "cycle")


def summarize(
    path: Where,
    *,
    rank_map: Mapping[str, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    verify: bool = True,
) -> Contents:
    """What `read_traces` would find, in bounded memory: every event is decoded and counted, none is kept.

    The parts of a capture are compared with their hashes and their kernels counted, unless `verify` is false.
    """
    tally = KernelTally()
    opened = _open(path, limits, tally.document)
    if verify:
        for _, rows in opened.read:
            for part in rows():
                tally(part)
    placed, placing = identify([facts for facts, _ in opened.read], {**opened.rank_map, **(rank_map or {})})
    return Contents(
        ranks=rank_table(placed, None),
        defects=_defects(opened, placed, placing),
        counts=_counts(opened, placed),
        run_folder=opened.run_folder,
        node_folders=_node_folders(opened),
        job_ids=_job_ids(opened),
        kernel_times=tally.times,
    )


@dataclass(frozen=True, slots=True)
class _Opened:
    """Documents that were read, before they are placed among each other."""

    read: list[tuple[FileFacts, Rows]]
    defects: list[dict[str, Any]]
    run_folder: Path | None
    rank_map: Mapping[str, int]
    rereadable: bool = False
    """The frames can be fetched any number of times."""


def _open(
    path: Where, limits: Limits, new_sink: NewSink, progress: Callable[[int, int], None] | None = None
) -> _Opened:
    if not isinstance(path, Paths) and is_remote(str(path)):
        if (capture := remote_capture(str(path))) is not None:
            return _open_capture(capture.folder, capture.manifest, capture.part)
    elif not isinstance(path, Paths):
        folder = Path(path)
        if is_capture(folder):
            return _open_capture(folder, load_manifest(folder))
        if captures := own_captures(folder):
            return _open_capture(folder, merged(folder, captures))
    found = find(path)
    read: list[tuple[FileFacts, Rows]] = []
    defects: list[dict[str, Any]] = list(found.defects)
    failures: list[str] = []
    remedy: str | None = None
    read_bytes = _counted(found.sources, progress)
    for source in found.sources:
        for result in read_source(source, limits=limits, new_sink=new_sink, progress=read_bytes):
            if isinstance(result, Unusable):
                failures += [result.why] if result.why else []
                remedy = remedy or result.remedy
                defects += result.defects
            else:
                facts, sink = result
                read.append((facts, sink.take))
    if not read:
        raise unusable(str(path), failures, remedy)
    return _Opened(read, defects, found.run_folder, {})


def _counted(
    sources: Sequence[Source], progress: Callable[[int, int], None] | None
) -> Callable[[str, int], None] | None:
    """Adds up what is read of all sources; None if nobody asks, or where sizes are not known."""
    if progress is None:
        return None
    try:
        total = sum(Path(source.path).stat().st_size for source in sources)
    except (OSError, ValueError):  # a remote one, or one that reading will refuse
        return None
    done = 0

    def count(_name: str, num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        progress(done, total)

    return count


def _open_capture(folder: Path, manifest: Manifest, part: ReadPart | None = None) -> _Opened:
    """The documents of a capture; `part` gives one that does not lie below `folder`, where the side files are."""
    defects = list(manifest.defects) + [row for source in manifest.sources for row in source.defects]
    if not manifest.complete:
        defects.append(defect_row("capture.incomplete", str(folder)))
    for name, digest in manifest.side_files.items():
        path = folder / name
        if not lies_within(path, folder) or sha256_of(read_regular(path)) != digest:
            raise InputError(f"{path}: changed or missing since the capture was made", "make the capture again")
    documents = [document for source in manifest.sources for document in source.documents]
    if not documents:
        raise InputError(f"{folder}: the capture holds no traces yet", "run traceanalyzer ingest again; it resumes")
    read: list[tuple[FileFacts, Rows]] = [
        (d.facts, _part_reader(part or partial(read_part, folder), d.parts)) for d in documents
    ]
    return _Opened(read, defects, folder if RUN_FILE in manifest.side_files else None, manifest.rank_map, True)


def _part_reader(read: ReadPart, parts: Sequence[Part]) -> Rows:
    return lambda: map(read, parts)


def _job_ids(opened: _Opened) -> frozenset[str]:
    return frozenset(facts.job_id for facts, _ in opened.read if facts.job_id)


def _node_folders(opened: _Opened) -> tuple[Path, ...]:
    """Folders beside the described one, in which a recorder of the same run wrote traces and step records."""
    names = {facts.job_id for facts, _ in opened.read}
    if len(names) != 1 or None in names:
        return ()
    described = None if opened.run_folder is None else opened.run_folder.absolute()
    homes = {Path(facts.file).absolute().parent.parent: None for facts, _ in opened.read}
    return tuple(sorted(home for home in homes if home != described and (home / "steps").is_dir()))


def _defects(opened: _Opened, placed: Sequence[Placed], placing: list[dict[str, Any]]) -> pl.DataFrame:
    ranks = {place.facts.file: place.rank for place in placed}
    rows = [row | {"rank": ranks.get(facts.file)} for facts, _ in opened.read for row in facts.defects]
    for folder in (*((opened.run_folder,) if opened.run_folder is not None else ()), *_node_folders(opened)):
        rows += damaged_lines(folder) + several_writers(read_step_records([folder]), folder)
    return defect_table(opened.defects + rows + placing)


def _chosen(found: Sequence[Placed], ranks: Collection[int], path: str) -> list[Placed]:
    chosen = [place for place in found if place.rank in ranks]
    if not chosen:
        here = sorted({place.rank for place in found})
        shown = ", ".join(map(str, here[:8])) + (", ..." if len(here) > 8 else "")
        raise UsageError(f"{path}: none of the chosen ranks was captured", f"choose among the captured ranks: {shown}")
    return chosen


def _of_chosen(defects: pl.DataFrame, ranks: Collection[int] | None) -> pl.DataFrame:
    """`DEFECTS` of the chosen ranks, and those whose rank is not known."""
    if ranks is None:
        return defects
    return defects.filter(pl.col("rank").is_null() | pl.col("rank").is_in(list(ranks)))


def _counts(opened: _Opened, placed: Sequence[Placed], ranks: Collection[int] | None = None) -> Counts:
    """Counts of all files; the events of one that has no place, or whose rank was not chosen, are dropped."""
    place_of = {place.facts.file: place.rank for place in placed}

    def counted(facts: FileFacts) -> Counts:
        if facts.file not in place_of:
            return _left_out(facts.counts, "file_left_out")
        if ranks is not None and place_of[facts.file] not in ranks:
            return _left_out(facts.counts, "not_chosen")
        return facts.counts

    counts = total(counted(facts) for facts, _ in opened.read)
    counts.check()
    return counts


def _left_out(counts: Counts, reason: str) -> Counts:
    """The same counts, nothing kept."""
    return Counts(
        events_seen=counts.events_seen,
        events_dropped={**counts.events_dropped, reason: counts.events_kept},
        bytes_seen=counts.bytes_seen,
        bytes_dropped={**counts.bytes_dropped, reason: counts.bytes_kept},
    )
