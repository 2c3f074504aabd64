"""Dumps of torch's flight recorder: what every rank called last, and in which state it was.

A dump is JSON or a pickle. A pickle can run code when it is loaded, and these need none: only opcodes that build plain
values are let through, and no name is ever looked up. Fields: torch/csrc/distributed/c10d/FlightRecorder.hpp, versions
2.0 to 2.10.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, cast

import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.traces.decoding.typed_rows import typed_rows

FLIGHT = pl.Schema(
    {
        "file": pl.String,
        "rank": pl.Int32,  # from the file's name
        "version": pl.String,
        "record": pl.Int64,
        "pg_name": pl.String,
        "pg_desc": pl.String,
        "group": pl.String,  # member ranks by commas; null where the dump does not list them
        "name": pl.String,  # nccl:all_reduce, gloo:send 0->1
        "is_p2p": pl.Boolean,
        "sequence_number": pl.Int64,  # in the group, messages apart
        "state": pl.String,  # scheduled, started, completed
        "retired": pl.Boolean,  # the backend has seen its end; gloo's state says no more than scheduled
        "created_ns": pl.Int64,
        "started_ns": pl.Int64,  # null where the backend does not tell
        "completed_ns": pl.Int64,
        "duration_ns": pl.Int64,  # measured on the device, where timing was switched on
        "send_bytes": pl.Int64,
        "receive_bytes": pl.Int64,
    }
)

_OPCODES = frozenset(
    [
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "DICT",
        "LIST",
        "SETITEM",
        "SETITEMS",
        "APPEND",
        "APPENDS",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "MEMOIZE",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
        "POP",
        "POP_MARK",
    ]
)
_MAX_BYTES = 256 << 20
_MAX_NODES = 5_000_000
_ELEMENT_BYTES = {
    "Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
}  # fmt: skip


class _PlainUnpickler(pickle.Unpickler):
    """Builds values and nothing else: the second lock behind the allow-list."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"names {module}.{name}")

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError(f"refers to {pid!r}")


def read_flight_recorder(path: Path | str) -> pl.DataFrame:
    """Entries of one dump (`FLIGHT`), in the order they were recorded. Raises `InputError` if it cannot be used safely."""
    file = Path(path)
    try:
        size = file.stat().st_size
        data = file.read_bytes() if size <= _MAX_BYTES else b""
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}", "give a dump of torch's flight recorder") from None
    if size > _MAX_BYTES:
        raise InputError(f"{file}: {size} bytes are more than the 256 MiB a dump may have", "give the dump of one rank")
    try:
        dump = json.loads(data) if data.lstrip()[:1] == b"{" else load_plain_pickle(data)
        _check_size(dump)
    except (
        ValueError,
        RecursionError,
        pickle.UnpicklingError,
        EOFError,
        IndexError,
        KeyError,
        OverflowError,
        MemoryError,
    ) as error:
        raise InputError(
            f"{file}: not a flight-recorder dump: {error}", "dump again; JSON dumps are read too"
        ) from None
    if not isinstance(dump, dict) or not isinstance(dump.get("entries"), list):  # pyright: ignore[reportUnknownMemberType]
        raise InputError(f"{file}: holds no entries of a flight recorder", "give the dump as torch wrote it")
    return _table(cast("dict[str, Any]", dump), file)


def load_plain_pickle(data: bytes) -> object:
    """The value of a pickle that only builds plain values. Raises `UnpicklingError` at the first other opcode."""
    for opcode, _, position in pickletools.genops(data):
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"opcode {opcode.name} at byte {position} is not allowed")
    return _PlainUnpickler(io.BytesIO(data)).load()


def _check_size(value: object) -> None:
    """Shared references let a small pickle be a huge tree: walk it with a budget."""
    waiting, nodes = [value], 0
    while waiting:
        nodes += 1
        if nodes > _MAX_NODES:
            raise ValueError(f"more than {_MAX_NODES} values")
        node = waiting.pop()
        if isinstance(node, dict):
            waiting += cast("dict[object, object]", node).values()
        elif isinstance(node, list | tuple):
            waiting += cast("list[object]", node)


def _table(dump: dict[str, Any], file: Path) -> pl.DataFrame:
    groups = _groups(dump.get("pg_config"))
    numbers = re.findall(r"\d+", file.name)
    rank = int(numbers[-1]) if numbers else None
    rows = [
        {
            "file": file.name,
            "rank": rank,
            "version": str(dump.get("version")),
            **_row(cast("dict[str, Any]", entry), groups),
        }
        for entry in cast("list[object]", dump["entries"])
        if isinstance(entry, dict)
    ]
    return typed_rows(rows, FLIGHT)


def _groups(config: object) -> dict[str, str]:
    """Members of every group by name; torch writes them as text, `[0, 1]`, and gloo's configuration says nothing."""
    if not isinstance(config, dict):
        return {}
    found: dict[str, str] = {}
    for name, entry in cast("dict[object, object]", config).items():
        ranks = cast("dict[str, object]", entry).get("ranks") if isinstance(entry, dict) else None
        members = re.findall(r"\d+", str(ranks))
        if members and "..." not in str(ranks):
            found[str(name)] = ",".join(members)
    return found


def _row(entry: dict[str, Any], groups: dict[str, str]) -> dict[str, Any]:
    listed = entry.get("process_group")
    group: list[object] = [*cast("list[object]", listed if isinstance(listed, list | tuple) else []), None, None]
    is_p2p = bool(entry.get("is_p2p"))
    duration = entry.get("duration_ms")
    return {
        "record": entry.get("record_id"),
        "pg_name": group[0],
        "pg_desc": group[1],
        "group": groups.get(str(group[0])),
        "name": entry.get("profiling_name"),
        "is_p2p": is_p2p,
        "sequence_number": entry.get("p2p_seq_id" if is_p2p else "collective_seq_id"),
        "state": entry.get("state"),
        "retired": entry.get("retired"),
        "created_ns": entry.get("time_created_ns"),
        "started_ns": entry.get("time_discovered_started_ns") or None,  # JSON dumps write 0 for unknown
        "completed_ns": entry.get("time_discovered_completed_ns") or None,
        "duration_ns": round(duration * 1e6) if isinstance(duration, int | float) else None,
        "send_bytes": _bytes(entry.get("input_sizes"), entry.get("input_dtypes")),
        "receive_bytes": _bytes(entry.get("output_sizes"), entry.get("output_dtypes")),
    }


def _bytes(sizes: object, dtypes: object) -> int | None:
    """Bytes of all tensors together; null where a size or type is not known."""
    if not isinstance(sizes, list | tuple) or not isinstance(dtypes, list | tuple):
        return None
    total = 0
    for size, dtype in zip(cast("list[object]", sizes), cast("list[object]", dtypes), strict=False):
        element = _ELEMENT_BYTES.get(str(dtype))
        if element is None or not isinstance(size, list | tuple):
            return None
        elements = 1
        for extent in cast("list[object]", size):
            if not isinstance(extent, int):
                return None
            elements *= extent
        total += elements * element
    return total if total < 1 << 62 else None
