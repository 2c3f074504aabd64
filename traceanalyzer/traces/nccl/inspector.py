"""NCCL Inspector's records: what NCCL itself measured of every collective and message.

One JSON object per operation, in files of one process each; all versions known (v4.0 to v5.1) share `header`, `metadata`
and `coll_perf` or `p2p_perf`, later ones add algorithm and protocol. Collectors of logs flatten them: the same fields side
by side in one object, with or without the names of the three parts before them (`header.rank`, `coll_perf_coll_sn`). Lines may be cut, interleaved, pretty-printed or
hold `nan`: what is not a whole record is counted and left out. Source: NVIDIA/nccl, plugins/profiler/inspector (README,
inspector_json.cc).

Sizes are per rank; a communicator's `id` is the same on all its ranks and `rank` counts inside it.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.regular_file import open_regular, shown
from traceanalyzer.traces.decoding.typed_rows import typed_rows

INSPECTOR = pl.Schema(
    {
        "file": pl.String,
        "version": pl.String,
        "host": pl.String,
        "process": pl.Int64,
        "communicator": pl.String,
        "communicator_name": pl.String,
        "rank": pl.Int32,  # position in the communicator
        "num_members": pl.Int32,
        "num_hosts": pl.Int32,
        "kind": pl.String,  # all_reduce, ..., send, receive
        "sequence_number": pl.Int64,  # in the communicator, messages apart
        "peer": pl.Int32,  # position in the communicator; null for collectives
        "bytes": pl.Int64,  # NCCL's message size of one rank
        "duration_ns": pl.Int64,
        "timing": pl.String,  # kernel_gpu, kernel_cpu, collective_cpu
        "algorithm": pl.String,
        "protocol": pl.String,
        "start_ns": pl.Int64,  # null unless dumped with event traces
        "end_ns": pl.Int64,
    }
)

_KINDS = {
    "AllReduce": "all_reduce",
    "AllGather": "all_gather",
    "ReduceScatter": "reduce_scatter",
    "AlltoAll": "all_to_all",
    "AllToAll": "all_to_all",
    "Broadcast": "broadcast",
    "Reduce": "reduce",
    "Gather": "gather",
    "Scatter": "scatter",
    "Send": "send",
    "Recv": "receive",
}
RECORD = re.compile(r'\{\s*"header"\s*:')
FLAT = re.compile(r'\{[^{}]*"(?:(?:coll|p2p)_perf[._])?(?:coll|p2p)_sn"\s*:[^{}]*\}')
"""A record without parts: one object without others inside."""
_PART = re.compile(r"^(?:header|metadata|coll_perf|p2p_perf|event_trace_ts)[._]")
_NOT_A_NUMBER = re.compile(r":\s*-?(?:nan|inf(?:inity)?)\b", re.IGNORECASE)
_MAX_BYTES = 1 << 30


class InspectorRecords(NamedTuple):
    """What was read of NCCL Inspector."""

    table: pl.DataFrame
    """`INSPECTOR`."""
    num_lost: int
    """Records that were left out."""


def read_inspector(path: Path | str) -> InspectorRecords:
    """Records of a file or of a folder's `.log`, `.jsonl` files, plain or gzipped (`INSPECTOR`), and how many were left out.

    Raises `InputError` without such files, or if one is larger than 1 GiB.
    """
    root = Path(path)
    files = (
        [root] if root.is_file() else sorted(f for f in root.glob("*") if re.search(r"\.(log|jsonl)(\.gz)?$", f.name))
    )
    if not files:
        raise InputError(
            f"{root}: no records of NCCL Inspector here", "give one of its .log or .jsonl files or their folder"
        )
    rows: list[dict[str, Any]] = []
    lost = 0
    for file in files:
        found, broken = _records(_text(file))
        rows += [{"file": shown(file.name), **row} for row in found]
        lost += broken
    return InspectorRecords(typed_rows(rows, INSPECTOR), lost)


def _text(file: Path) -> str:
    try:
        with open_regular(file) as stream, gzip.open(stream) if file.name.endswith(".gz") else stream as plain:
            data = plain.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read: {error}", "give the file as NCCL wrote it") from None
    if len(data) > _MAX_BYTES:
        raise InputError(f"{file}: holds more than 1 GiB", "split the file, or dump at longer intervals")
    return data.decode("utf-8", "replace").replace("\0", " ")


def _records(text: str) -> tuple[list[dict[str, Any]], int]:
    """Every whole record of the text, and how many beginnings of records were none."""
    clean = _NOT_A_NUMBER.sub(": null", text)
    if not RECORD.search(clean):
        return _flat_records(clean)
    decoder = json.JSONDecoder()
    rows: list[dict[str, Any]] = []
    lost, at = 0, 0
    while match := RECORD.search(clean, at):
        try:
            record, at = decoder.raw_decode(clean, match.start())
            row = _row(record)
        except (ValueError, RecursionError, TypeError, AttributeError):
            lost, at = lost + 1, max(at, match.end())
            continue
        if row is not None:
            rows.append(row)
    return rows, lost


def _flat_records(text: str) -> tuple[list[dict[str, Any]], int]:
    """The same of records whose parts were flattened, one a line."""
    rows: list[dict[str, Any]] = []
    lost = 0
    for line in text.splitlines():
        if '_sn"' not in line:
            continue
        match = FLAT.search(line)
        try:
            row = _row(_in_parts(json.loads(match[0]))) if match else None
        except (ValueError, RecursionError, TypeError, AttributeError):
            row = None
        if row is None:
            lost += 1
        else:
            rows.append(row)
    return rows, lost


def _in_parts(flat: dict[str, Any]) -> dict[str, Any]:
    """A flat record as NCCL writes it. Fields keep their names: no two parts share one."""
    fields = {_PART.sub("", name): value for name, value in flat.items()}
    prefix = "coll" if "coll_sn" in fields else "p2p"
    times = {name: fields[name] for name in (f"{prefix}_start_ts", f"{prefix}_stop_ts") if name in fields}
    header = {"n_ranks": fields.get("nranks")} | fields
    return {"header": header, "metadata": fields, f"{prefix}_perf": fields | {"event_trace_ts": times}}


def _row(record: dict[str, Any]) -> dict[str, Any] | None:
    """One operation; None for records of other kinds (statistics of the dump)."""
    prefix = next((name for name in ("coll", "p2p") if f"{name}_perf" in record), None)
    if prefix is None:
        return None
    header, meta, perf = record["header"], record.get("metadata", {}), record[f"{prefix}_perf"]
    trace: dict[str, Any] = perf.get("event_trace_ts") or {}
    name = str(perf.get(prefix))
    return {
        "version": meta.get("inspector_output_format_version"),
        "host": meta.get("hostname"),
        "process": _whole(meta.get("pid")),
        "communicator": str(header.get("id", header.get("comm_id"))),
        "communicator_name": header.get("comm_name"),
        "rank": _whole(header.get("rank")),
        "num_members": _whole(header.get("n_ranks")),
        "num_hosts": _whole(header.get("nnodes")),
        "kind": _KINDS.get(name, name),
        "sequence_number": _whole(perf.get(f"{prefix}_sn")),
        "peer": _whole(perf.get("p2p_peer")),
        "bytes": _whole(perf.get(f"{prefix}_msg_size_bytes")),
        "duration_ns": _nanoseconds(perf.get(f"{prefix}_exec_time_us")),
        "timing": perf.get(f"{prefix}_timing_source"),
        "algorithm": perf.get("coll_algo"),
        "protocol": perf.get("coll_proto"),
        "start_ns": _nanoseconds(trace.get(f"{prefix}_start_ts")),
        "end_ns": _nanoseconds(trace.get(f"{prefix}_stop_ts")),
    }


def _whole(value: object) -> int | None:
    known = isinstance(value, int | float) and abs(value) < 1 << 62
    return int(value) if known and isinstance(value, int | float) else None


def _nanoseconds(microseconds: object) -> int | None:
    value = _whole(microseconds) if isinstance(microseconds, int) else microseconds
    return round(value * 1000) if isinstance(value, int | float) and abs(value) < 1 << 52 else None
