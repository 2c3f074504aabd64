"""Dumps of torch's flight recorder: what every rank called last, and in which state it was.

A dump is JSON or a pickle (`plain_pickle`). Fields: torch/csrc/distributed/c10d/FlightRecorder.hpp, versions 2.0 to 2.10.
A rank's file is named by a prefix that the user chooses and its rank; some launchers put the host between them.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.regular_file import read_regular, shown
from traceanalyzer.traces.decoding.typed_rows import typed_rows
from traceanalyzer.traces.nccl.plain_pickle import check_size, load_plain_pickle

FLIGHT = pl.Schema(
    {
        "file": pl.String,
        "rank": pl.Int32,  # from the file's name
        "version": pl.String,
        "record": pl.Int64,
        "pg_name": pl.String,
        "pg_desc": pl.String,
        "group": pl.String,  # member ranks by commas; null if the dump does not list them
        "name": pl.String,  # nccl:all_reduce, gloo:send 0->1
        "is_p2p": pl.Boolean,
        "sequence_number": pl.Int64,  # in the group, messages apart
        "state": pl.String,  # scheduled, started, completed, failed (timed out, or given up)
        "retired": pl.Boolean,  # the backend has seen its end; gloo's state says no more than scheduled
        "created_ns": pl.Int64,
        "started_ns": pl.Int64,  # null if the backend does not tell
        "completed_ns": pl.Int64,
        "duration_ns": pl.Int64,  # measured on the device, where timing was switched on
        "send_bytes": pl.Int64,
        "receive_bytes": pl.Int64,
        "inputs": pl.String,  # types and shapes, BFloat16[4×8]; [1024]
        "outputs": pl.String,
    }
)

DUMPS = pl.Schema(
    {
        "file": pl.String,
        "rank": pl.Int32,
        "version": pl.String,  # of the dump's layout
        "library": pl.String,  # version of NCCL or RCCL
        "pg_name": pl.String,  # null if the dump lists no group
        "pg_desc": pl.String,
        "group": pl.String,
    }
)
"""Dumps and the groups that they list: one row for each, at least one per dump."""

_STATES = {
    "scheduled": "scheduled", "notstarted": "scheduled", "enqueued": "scheduled", "pending": "scheduled",
    "started": "started", "inprogress": "started", "running": "started",
    "completed": "completed", "finished": "completed",
    "failed": "failed", "timeout": "failed", "timedout": "failed", "error": "failed", "aborted": "failed",
}  # fmt: skip
"""Torch writes scheduled, started and completed; other words are those of torchcomms' `WorkStatus` and of forks."""
_MAX_BYTES = 256 << 20
_MAX_RANK = 1 << 24
_RANK_DIGITS = 9
_MAX_INT = 1 << 62
_MAX_SHAPES = 160
_MAX_NAME = 256
_ELEMENT_BYTES = {
    "Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "Float8_e4m3fn": 1, "Float8_e5m2": 1, "Float8_e4m3fnuz": 1, "Float8_e5m2fnuz": 1,
}  # fmt: skip
_UNUSABLE = (
    ValueError, RecursionError, pickle.UnpicklingError, EOFError, IndexError, KeyError, OverflowError, MemoryError, TypeError
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dump:
    """One file."""

    flight: pl.DataFrame
    """`FLIGHT`, in the order they were recorded."""
    listed: pl.DataFrame
    """`DUMPS`."""
    num_lost: int
    """Entries without a name, or that are not entries."""


def read_flight_recorder(path: Path | str) -> pl.DataFrame:
    """Entries of one dump (`FLIGHT`), in the order they were recorded. Raises `InputError` if it cannot be used safely."""
    return read_dump(path).flight


def read_dump(path: Path | str) -> Dump:
    """One dump. Raises `InputError` if it cannot be used safely."""
    file = Path(path)
    data = _content(file)
    try:
        dump = json.loads(data) if data.lstrip()[:1] == b"{" else load_plain_pickle(data)
        check_size(dump)
    except _UNUSABLE as error:
        raise InputError(
            f"{file}: not a flight-recorder dump: {error}", "dump again; JSON dumps are read too"
        ) from None
    if not isinstance(dump, dict) or not isinstance(dump.get("entries"), list):  # pyright: ignore[reportUnknownMemberType]
        raise InputError(f"{file}: holds no entries of a flight recorder", "give the dump as torch wrote it")
    return _dump(cast("dict[str, Any]", dump), file)


def _content(file: Path) -> bytes:
    try:
        data = read_regular(file, _MAX_BYTES)
        if data[:2] == b"\x1f\x8b":
            data = zlib.decompressobj(31).decompress(data, _MAX_BYTES)
    except (OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file}: cannot be read: {reason}", "give the dump of one rank, as torch wrote it") from None
    return data


def _dump(dump: dict[str, Any], file: Path) -> Dump:
    listed = _listed(dump.get("pg_config"))
    about = {"file": shown(file.name), "rank": _rank(file, listed), "version": str(dump.get("version"))}
    entries = cast("list[object]", dump["entries"])
    rows = [
        {**about, **_row(cast("dict[str, Any]", entry))}
        for entry in entries
        if isinstance(entry, dict) and isinstance(cast("dict[str, Any]", entry).get("profiling_name"), str)
    ]
    library = dump.get("comm_lib_version") or dump.get("nccl_version") or None
    groups = [{"pg_name": name, "pg_desc": desc, "group": group} for name, desc, group in listed] or [{}]
    dumps = typed_rows([{**about, "library": library, **group} for group in groups], DUMPS)
    members = dumps.select("pg_name", "group").drop_nulls().unique("pg_name", keep="first", maintain_order=True)
    flight = typed_rows(rows, FLIGHT).drop("group").join(members, on="pg_name", how="left", maintain_order="left")
    return Dump(flight.select(FLIGHT.names()), dumps, len(entries) - len(rows))


def _rank(file: Path, listed: list[tuple[str, str | None, str | None]]) -> int | None:
    """The last number in the file's name; where that is not a member of the job, the one after `rank`.

    Raises `InputError` if neither can be a rank.
    """
    stem = re.sub(r"(?i)(\.(json|pickle|pkl|bin|gz|trace|txt))+$", "", file.name)
    numbers = re.findall(r"\d+", stem)
    named = re.findall(r"(?i)rank[_-]?(\d+)", stem)
    if not numbers:
        return None
    world = {rank for _, desc, group in listed if desc == "default_pg" and group for rank in group.split(",")}
    found = [n.lstrip("0") or "0" for n in (numbers[-1], *reversed(named)) if len(n.lstrip("0")) < 9]
    possible = [n for n in found if int(n) < _MAX_RANK]
    if not possible:
        raise InputError(f"{file}: a rank cannot have the number {numbers[-1][:24]}", "name the dump by its rank")
    return int(next((n for n in possible if n in world), possible[0]))


def _listed(config: object) -> list[tuple[str, str | None, str | None]]:
    """Name, description and members of every group; torch writes members as text, `[0, 1]`, and gloo writes none."""
    if not isinstance(config, dict):
        return []
    found: list[tuple[str, str | None, str | None]] = []
    for name, entry in cast("dict[object, object]", config).items():
        facts = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
        ranks = str(facts.get("ranks"))[: 1 << 22]
        members = re.findall(r"\d+", ranks) if "..." not in ranks else []
        desc = facts.get("desc")
        if members and all(len(member) < _RANK_DIGITS for member in members):
            found.append(
                (str(name)[:_MAX_NAME], desc[:_MAX_NAME] if isinstance(desc, str) else None, ",".join(members))
            )
    return found


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    listed = entry.get("process_group")
    group: list[object] = [*cast("list[object]", listed if isinstance(listed, list | tuple) else []), None, None]
    is_p2p = entry.get("is_p2p") is True
    state = entry.get("state")
    return {
        "record": entry.get("record_id"),
        "pg_name": _short(group[0]),
        "pg_desc": _short(group[1]),
        "name": _short(entry.get("profiling_name")),
        "is_p2p": is_p2p,
        "sequence_number": entry.get("p2p_seq_id" if is_p2p else "collective_seq_id", entry.get("seq_id")),
        "state": _STATES.get(re.sub(r"[^a-z]", "", state[:_MAX_NAME].lower())) if isinstance(state, str) else None,
        "retired": entry.get("retired"),
        "created_ns": entry.get("time_created_ns"),
        "started_ns": entry.get("time_discovered_started_ns") or None,  # JSON dumps write 0 for unknown
        "completed_ns": entry.get("time_discovered_completed_ns") or None,
        "duration_ns": _nanoseconds(entry.get("duration_ms")),
        "send_bytes": _bytes(entry.get("input_sizes"), entry.get("input_dtypes")),
        "receive_bytes": _bytes(entry.get("output_sizes"), entry.get("output_dtypes")),
        "inputs": _tensors(entry.get("input_sizes"), entry.get("input_dtypes")),
        "outputs": _tensors(entry.get("output_sizes"), entry.get("output_dtypes")),
    }


def _short(text: object) -> object:
    """A pickle may name one long text a hundred thousand times; names are short."""
    return text[:_MAX_NAME] if isinstance(text, str) else text


def _nanoseconds(milliseconds: object) -> int | None:
    if not isinstance(milliseconds, int | float) or not abs(milliseconds) < 1 << 40:  # not a number compares false
        return None
    return round(milliseconds * 1e6)


def _extents(size: object) -> list[int] | None:
    """Extents of one tensor; null if one is not a number of a memory's size."""
    if not isinstance(size, list | tuple):
        return None
    extents = cast("list[object]", size)
    known = [e for e in extents if isinstance(e, int) and 0 <= e < _MAX_INT]
    return known if len(known) == len(extents) and _product(known) is not None else None


def _product(extents: list[int]) -> int | None:
    total = 1
    for extent in extents:
        total *= extent
        if total >= _MAX_INT:
            return None
    return total


def _bytes(sizes: object, dtypes: object) -> int | None:
    """Bytes of all tensors together; null if a size or type is not known."""
    if not isinstance(sizes, list | tuple) or not isinstance(dtypes, list | tuple):
        return None
    total = 0
    for size, dtype in zip(cast("list[object]", sizes), cast("list[object]", dtypes), strict=False):
        element, extents = _ELEMENT_BYTES.get(str(dtype)), _extents(size)
        if element is None or extents is None:
            return None
        total += math.prod(extents) * element
    return total if total < _MAX_INT else None


def _tensors(sizes: object, dtypes: object) -> str | None:
    """Types and shapes as text, `BFloat16[4×8] Float[1024]`; a long list ends in a checksum of the rest."""
    if not isinstance(sizes, list | tuple) or not isinstance(dtypes, list | tuple):
        return None
    shapes = [_extents(size) for size in cast("list[object]", sizes)]
    if any(shape is None for shape in shapes):
        return None
    kinds = [str(dtype)[:24] for dtype in cast("list[object]", dtypes)]
    kinds += [""] * (len(shapes) - len(kinds))
    text = " ".join(f"{kind}[{'×'.join(map(str, shape or []))}]" for kind, shape in zip(kinds, shapes, strict=False))
    return text if len(text) <= _MAX_SHAPES else f"{text[:_MAX_SHAPES]}…{zlib.crc32(text.encode()):08x}"
