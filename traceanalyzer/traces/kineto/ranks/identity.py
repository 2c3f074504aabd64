"""Which job, rank and cycle every file is: distinguished, never mixed, never guessed without saying so."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from traceanalyzer.errors import InputError
from traceanalyzer.traces.defects import defect_row
from traceanalyzer.traces.kineto.facts import FileFacts
from traceanalyzer.traces.kineto.ranks.names import proposed, ranks_in_names

_SHOWN = 4
_SEVERAL = 2
_MOST_ASKED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A file's place: its rank (or a rank per process), where that was read from, and the cycle."""

    facts: FileFacts
    rank: int
    rank_source: str
    process_ranks: Mapping[str, int]
    """Not empty if one file holds several ranks; then `rank` is the lowest."""
    device_ranks: Mapping[int, int] = field(default_factory=dict[int, int])
    """Not empty if one process computes on several devices, each of which is a rank; then `rank` is the lowest."""
    cycle: int = 0

    @property
    def ranks(self) -> list[int]:
        """All ranks of the file."""
        inside = set(self.process_ranks.values()) or set(self.device_ranks.values())
        return sorted(inside or {self.rank})


def identify(
    files: Sequence[FileFacts], rank_map: Mapping[str, int] | None
) -> tuple[list[Placed], list[dict[str, Any]]]:
    """Place every file and return the defects that placing found. Raises `InputError` if files contradict."""
    defects: list[dict[str, Any]] = []
    placed: list[Placed] = []
    unknown: list[FileFacts] = []
    for facts in _without_copies(files, defects):
        place = _rank_of(facts, rank_map or {}, defects)
        if place is None:
            unknown.append(facts)
        else:
            placed.append(place)
    if unknown:
        placed += _settle_unknown(unknown, placed, defects)
    _names_contradict(placed)
    placed = _possible_worlds(placed)
    _one_job(placed)
    placed = _cycles(placed)
    _missing(placed, defects)
    return placed, defects


def _without_copies(files: Sequence[FileFacts], defects: list[dict[str, Any]]) -> list[FileFacts]:
    first: dict[str, FileFacts] = {}
    for facts in files:
        same = first.setdefault(facts.digest, facts)
        if same is not facts:
            defects.append(defect_row("file.identical", facts.file, detail=f"as {same.file}"))
    return list(first.values())


def mapped_rank(file: str, rank_map: Mapping[str, int]) -> int | None:
    """The rank that a map of names and patterns gives a file."""
    path = PurePosixPath(file)
    for pattern, rank in rank_map.items():
        if pattern in (file, path.name) or fnmatch.fnmatch(path.name, pattern) or fnmatch.fnmatch(file, pattern):
            return rank
    return None


def _rank_of(facts: FileFacts, rank_map: Mapping[str, int], defects: list[dict[str, Any]]) -> Placed | None:
    mapped = mapped_rank(facts.file, rank_map)
    ranks = set(facts.process_ranks.values())
    if mapped is not None:
        return _place(facts, mapped, "rank_map")
    if (merged := _several(facts, ranks, defects)) is not None:
        return merged
    if facts.recorded_rank is not None:
        if facts.name_rank is not None and facts.name_rank != facts.recorded_rank:
            detail = f"name {facts.name_rank}, content {facts.recorded_rank}"
            defects.append(defect_row("rank.name_differs", facts.file, rank=facts.recorded_rank, detail=detail))
        return _place(facts, facts.recorded_rank, "distributed_info")
    if len(ranks) > 1:
        return Placed(facts=facts, rank=min(ranks), rank_source="event", process_ranks=dict(facts.process_ranks))
    if ranks:
        return _place(facts, ranks.pop(), "event")
    return None if facts.name_rank is None else _place(facts, facts.name_rank, "file_name")


def _several(facts: FileFacts, ranks: set[int], defects: list[dict[str, Any]]) -> Placed | None:
    """A file put together from several ranks, or of a process that computes on several devices; None if it is neither.

    Raises `InputError` if ranks were put together and cannot be distinguished.
    """
    if facts.processes_unclear or (len(ranks) > 1 and facts.recorded_rank is not None):
        num = facts.processes_unclear or len(ranks)
        if facts.processes_unclear or facts.world_size not in (None, num):
            raise InputError(
                f"{facts.file}: {num} processes launched kernels, and which rank each is was not recorded",
                "a profiler writes one file per rank: give these files instead of a merged one",
            )
        defects.append(defect_row("rank.merged", facts.file, detail=f"{num} ranks"))
        return Placed(facts=facts, rank=0, rank_source="process", process_ranks=dict(facts.process_ranks))
    if not facts.device_ranks:
        return None
    if facts.world_size not in (None, 1) or facts.name_rank:
        defects.append(defect_row("rank.several_devices", facts.file, detail=f"{len(facts.device_ranks)} devices"))
        return None
    defects.append(defect_row("rank.devices", facts.file, detail=f"{len(facts.device_ranks)} devices"))
    whole = replace(facts, world_size=len(facts.device_ranks))
    return Placed(facts=whole, rank=0, rank_source="device", process_ranks={}, device_ranks=dict(facts.device_ranks))


def _place(facts: FileFacts, rank: int, source: str) -> Placed:
    return Placed(facts=facts, rank=rank, rank_source=source, process_ranks={})


def _settle_unknown(unknown: list[FileFacts], placed: list[Placed], defects: list[dict[str, Any]]) -> list[Placed]:
    """A lone file is rank 0, said aloud; one beside files with ranks is left out; several without any are refused."""
    if placed:
        defects += [defect_row("rank.unknown", facts.file) for facts in unknown]
        return []
    if len(unknown) == 1:
        defects.append(defect_row("rank.assumed", unknown[0].file, rank=0))
        return [_place(unknown[0], 0, "assumed")]
    files = [facts.file for facts in unknown]
    ranks = ranks_in_names(files) if _together([_place(facts, 0, "") for facts in unknown]) else {}
    if ranks:
        defects.append(defect_row("rank.counted", files[0], events=0, detail=f"{len(files)} files"))
        return [_place(facts, ranks[facts.file], "file_name") for facts in unknown]
    raise InputError(f"no record gives the ranks of {_listed(files)}", _ask(files))


def _names_contradict(placed: list[Placed]) -> None:
    """Raise `InputError` if files record one rank and their names tell different ones: none can be trusted.

    So it is where every process made a group of its own. Files of one rank at different times are its cycles.
    """
    recorded = [p for p in placed if p.rank_source == "distributed_info"]
    files = [p.facts.file for p in recorded]
    if len(recorded) < _SEVERAL or len({p.rank for p in recorded}) > 1:
        return
    named = {p.facts.file: p.facts.name_rank for p in recorded if p.facts.name_rank is not None}
    if len(set(named.values())) < len(recorded):
        named = ranks_in_names(files) if _together(recorded) else {}
    if named:
        numbers = ", ".join(str(named[file]) for file in files[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")
        raise InputError(
            f"{_listed(files)}: each records rank {recorded[0].rank} of its own process group, and the file names say ranks {numbers}",
            f"if the names are right, {_ask(files, named)}",
        )


def _together(placed: Sequence[Placed]) -> bool:
    """Whether files are of one time: files of one rank, one after the other, are not."""
    return any(_overlap(one, other) for one, other in pairwise(sorted(placed, key=_start)))


def _ask(files: Sequence[str], ranks: Mapping[str, int] | None = None) -> str:
    """What to give, written out: a rank map by what the names tell, or in their order."""
    if len(files) > _MOST_ASKED:
        return (
            f"give --rank-map FILE, a JSON object of file names (or patterns) and ranks: {proposed(files[:2], ranks)}"
        )
    order = "" if ranks else ", with the ranks that are right"
    return f"give --rank-map '{proposed(files, ranks)}'{order}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _possible_worlds(placed: list[Placed]) -> list[Placed]:
    """Places without sizes of the job that a rank exceeds: such a size is of a process's own group."""
    small = {p.facts.world_size for p in placed if p.facts.world_size is not None and p.rank >= p.facts.world_size}
    return [replace(p, facts=replace(p.facts, world_size=None)) if p.facts.world_size in small else p for p in placed]


# jobs ----------------------------------------------------------------------------------------------------------------


def _one_job(placed: list[Placed]) -> None:
    jobs = _jobs(placed)
    if len(jobs) > 1:
        parts = "; ".join(f"{len(names)} like {min(names)}" for names in jobs[:_SHOWN])
        raise InputError(
            f"{len(jobs)} jobs in one place: {parts}",
            "give the folder, files or a pattern of one of them; results of several jobs are never mixed",
        )


def _jobs(placed: list[Placed]) -> list[list[str]]:
    """File names by job: by its name, else run folder, then world size, then processes of a rank that ran at other times."""
    groups: dict[tuple[str | None, int | None], list[Placed]] = defaultdict(list)
    worlds = {p.facts.world_size for p in placed if p.facts.world_size is not None}
    for place in placed:
        world = place.facts.world_size
        if world is None and len(worlds) == 1:
            world = next(iter(worlds))
        groups[place.facts.job_id or place.facts.run_folder, world].append(place)
    jobs: list[list[str]] = []
    for members in _with_other_nodes(groups):
        jobs += _by_process(members)
    return jobs


def _with_other_nodes(groups: Mapping[tuple[str | None, int | None], list[Placed]]) -> list[list[Placed]]:
    """Groups of files, those of nodes that wrote to a disk of their own with the one that holds the description.

    Rank 0 alone writes `run.json`. Files without one belong to its job if that has as many ranks, none of theirs among
    those it holds, and every one of them ran while some of its files did.
    """
    merged: dict[tuple[str | None, int | None], list[Placed]] = {key: list(each) for key, each in groups.items()}
    for (folder, world), others in groups.items():
        described = [key for key in groups if key[0] is not None and key[1] == world and world is not None]
        if folder is not None or len(described) != 1:
            continue
        main = groups[described[0]]
        disjoint = not {p.rank for p in main} & {p.rank for p in others}
        if disjoint and all(any(_overlap(one, each) for each in main) for one in others):
            merged[described[0]] += merged.pop((folder, world))
    return list(merged.values())


def _by_process(members: list[Placed]) -> list[list[str]]:
    """Split files of which one rank ran in several processes, by the runs in which their times overlap."""
    processes: dict[int, set[tuple[str | None, str | None]]] = defaultdict(set)
    for place in members:
        processes[place.rank].add(_process(place))
    several = any(len(found) > 1 for found in processes.values())
    if not several:
        return [[p.facts.file for p in members]]
    runs: list[list[Placed]] = []
    for place in sorted(members, key=_start):
        run = next((r for r in runs if any(_same_run(place, other) for other in r)), None)
        if run is None:
            runs.append([place])
        else:
            run.append(place)
    return [[p.facts.file for p in run] for run in runs]


def _process(place: Placed) -> tuple[str | None, str | None]:
    return place.facts.host, place.facts.main_process


def _same_run(place: Placed, other: Placed) -> bool:
    if place.rank == other.rank:
        return _process(place) == _process(other)
    return _overlap(place, other)


def _start(place: Placed) -> int:
    return place.facts.base_ns + (place.facts.start_ns or 0)


def _end(place: Placed) -> int:
    return place.facts.base_ns + (place.facts.end_ns or 0)


def _overlap(one: Placed, other: Placed) -> bool:
    return _start(one) < _end(other) and _start(other) < _end(one)


# cycles --------------------------------------------------------------------------------------------------------------


def _cycles(placed: list[Placed]) -> list[Placed]:
    """Number the files of one rank by time. Raises `InputError` if two of them overlap."""
    by_rank: dict[int, list[Placed]] = defaultdict(list)
    for place in placed:
        by_rank[place.rank].append(place)
    result: list[Placed] = []
    for rank, places in sorted(by_rank.items()):
        ordered = sorted(places, key=lambda p: (_start(p), p.facts.file))
        for before, after in pairwise(ordered):
            if _overlap(before, after):
                raise InputError(
                    f"{before.facts.file} and {after.facts.file} both claim rank {rank} at the same time",
                    f"remove one, or {_ask([p.facts.file for p in placed], ranks_in_names([p.facts.file for p in placed]))}",
                )
        result += [replace(p, cycle=cycle) for cycle, p in enumerate(ordered)]
    return result


def _missing(placed: list[Placed], defects: list[dict[str, Any]]) -> None:
    world = max((p.facts.world_size or 0 for p in placed), default=0)
    present = {rank for p in placed for rank in p.ranks}
    missing = [rank for rank in range(min(world, 1 << 20)) if rank not in present]
    if missing:
        shown = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
        detail = f"{len(missing)} of {world} are missing ({shown})"
        defects.append(defect_row("rank.missing", placed[0].facts.file, events=0, detail=detail))
