"""What is known about one trace file after reading it: enough to place it among others without its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from traceanalyzer.job import METADATA_KEY
from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.tally import Counts

_MAX_BASE = 1 << 61
_KNOWN_SCHEMA = 1
_LONG = 4096
_APART = ("distributedInfo", "deviceProperties", "traceEvents")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One trace document. Times are without `base_ns`."""

    file: str
    run_folder: str | None
    """Nearest folder above that holds a `run.json`."""
    digest: str
    """BLAKE2 of the decompressed bytes: equal for the same trace in another codec."""
    recorded_rank: int | None
    process_ranks: dict[str, int]
    """Ranks that events show, by process."""
    name_rank: int | None
    device_ranks: dict[int, int] = field(default_factory=dict[int, int])
    """Places of the devices on which its one process computes, where these are several."""
    processes_unclear: int = 0
    """Processes that launched kernels, where nothing shows which device work is whose."""
    world_size: int | None
    backend: str | None
    host: str | None
    main_process: str | None
    base_ns: int
    num_events: int
    start_ns: int | None
    end_ns: int | None
    time_from_ns: int | None = None
    """Events before this, or not before `time_to_ns`, have a wrong time."""
    time_to_ns: int | None = None
    repeated: tuple[int, ...] = ()
    """Positions (`index`) of events that are there before, alike in everything: they do not count."""
    job_id: str | None = None
    """Of the run, where our recorder wrote the trace."""
    process_groups: str | None = None
    devices: str | None = None
    metadata: str = "{}"
    counts: Counts = field(default_factory=Counts)
    defects: tuple[dict[str, Any], ...] = ()


def text_of(metadata: dict[str, bytes], key: str) -> str | None:
    """A top-level string; None if absent or of another type."""
    value = value_of(metadata, key)
    return value if isinstance(value, str) and value else None


def value_of(metadata: dict[str, bytes], key: str) -> object:
    """A top-level value; None if absent or damaged."""
    try:
        return msgspec.json.decode(metadata[key]) if key in metadata else None
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def distributed_info(metadata: dict[str, bytes]) -> dict[str, Any]:
    """`distributedInfo` if it is an object."""
    value = value_of(metadata, "distributedInfo")
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def recorder_note(metadata: dict[str, bytes]) -> dict[str, Any]:
    """What our recorder wrote into the trace: `job_id`, `rank`, `world_size`; empty in others."""
    value = value_of(metadata, METADATA_KEY)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def whole_number(value: object) -> int | None:
    """An integer from an integer, a whole float or digits; a boolean is none of them."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.strip().lstrip("-").isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value if isinstance(value, int) else None


def base_time(metadata: dict[str, bytes], log: DefectLog) -> int:
    """`baseTimeNanoseconds`; 0 if absent, and reported if it cannot be one."""
    if "baseTimeNanoseconds" not in metadata:
        return 0
    base = whole_number(value_of(metadata, "baseTimeNanoseconds"))
    if base is None or not 0 <= base < _MAX_BASE:
        log.add("time.base_invalid", events=0, detail=metadata["baseTimeNanoseconds"][:40].decode("utf-8", "replace"))
        return 0
    return base


MAX_WORLD = 1 << 20
"""Ranks of a job, above which a recorded number is not believed: groups are lists of their ranks."""


def recorded_rank(info: dict[str, Any], log: DefectLog) -> tuple[int | None, int | None]:
    """Rank and world size of `distributedInfo`; a rank outside the world is reported and not used."""
    rank, world = whole_number(info.get("rank")), whole_number(info.get("world_size"))
    world = world if world is not None and 0 < world <= MAX_WORLD else None
    if info.get("rank") is None:
        return None, world
    if rank is None or rank < 0 or rank >= (world or 1 << 31):
        log.add("rank.invalid", events=0, detail=repr(info["rank"])[:40])
        return None, world
    return rank, world


def named_device(metadata: dict[str, bytes]) -> str | None:
    """The name of the first accelerator in `deviceProperties`, at most 80 characters; None if none is named."""
    value = value_of(metadata, "deviceProperties")
    for item in cast("list[Any]", value) if isinstance(value, list) else []:
        name = cast("dict[str, Any]", item).get("name") if isinstance(item, dict) else None
        if isinstance(name, str) and name.strip():
            return name.strip()[:80]
    return None


def group_conflicts(info: dict[str, Any]) -> int:
    """Process groups that share a name with a group of other ranks."""
    groups: Any = info.get("pg_config")
    seen: dict[str, str] = {}
    conflicts = 0
    for item in cast("list[Any]", groups) if isinstance(groups, list) else []:
        if isinstance(item, dict):
            group = cast("dict[str, Any]", item)
            name, ranks = str(group.get("pg_name")), str(group.get("ranks"))
            conflicts += seen.setdefault(name, ranks) != ranks
    return conflicts


def check_version(metadata: dict[str, bytes], log: DefectLog) -> None:
    """Report a `schemaVersion` that is not known."""
    version = value_of(metadata, "schemaVersion")
    if version is not None and version != _KNOWN_SCHEMA:
        log.add("file.schema_version", events=0, detail=str(version)[:40])


def other_metadata(metadata: dict[str, bytes]) -> str:
    """The remaining top-level keys as one JSON object; a value longer than 4 KiB becomes null."""
    kept: dict[str, Any] = {}
    for key, text in metadata.items():
        if key not in _APART:
            kept[key] = msgspec.Raw(text) if len(text) <= _LONG else None
    return msgspec.json.encode(kept).decode("utf-8", "replace")


def json_text(value: object) -> str | None:
    """A value as JSON text; None for None."""
    return None if value is None else msgspec.json.encode(value).decode()
