"""A path to tables: find the trace files, read each, tell ranks and cycles apart, and account for every event."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.job import RUN_FILE
from traceanalyzer.schema import DEFECTS, EVENTS, RANKS, conform, empty
from traceanalyzer.traces.decode import MalformedError, decode_events
from traceanalyzer.traces.limits import DEFAULT_LIMITS, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The counting law: `seen = kept + sum(dropped)`, for events and for bytes of decompressed text."""

    events_seen: int = 0
    events_kept: int = 0
    events_dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    bytes_seen: int = 0
    bytes_kept: int = 0
    bytes_dropped: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Everything that was read from one path."""

    events: pl.DataFrame
    """`EVENTS`, sorted by rank, cycle, start and position."""
    ranks: pl.DataFrame
    defects: pl.DataFrame
    counts: Counts
    run_folder: Path | None
    """The folder that holds `run.json`, if there is one."""


def read_traces(
    path: Path | str, *, rank_map: Mapping[str, int] | None = None, limits: Limits = DEFAULT_LIMITS
) -> Traces:
    """Read a trace file or a folder of them. Raises `InputError` if nothing in it can be used."""
    root = Path(path)
    files = [root] if root.is_file() else sorted(root.glob("traces/*.json*")) or sorted(root.glob("*.json*"))
    files = [f for f in files if f.name != RUN_FILE]
    if not files:
        raise InputError(f"{root}: no trace files here", "give a trace file or a folder that holds some")
    frames: list[pl.DataFrame] = []
    ranks: list[dict[str, Any]] = []
    for file in files:
        frame, row = _read_file(file)
        frames.append(frame)
        ranks.append(row)
    events = pl.concat(frames).sort("rank", "cycle", "start_ns", "index", nulls_last=True)
    folder = next((f for f in (root, root.parent, root.parent.parent) if (f / RUN_FILE).is_file()), None)
    return Traces(
        events=events,
        ranks=conform(pl.DataFrame(ranks), RANKS).sort("rank", "cycle"),
        defects=empty(DEFECTS),
        counts=Counts(events_seen=events.height, events_kept=events.height),
        run_folder=folder,
    )


def _read_file(file: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    data = file.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    start = data.index(b"[", data.index(b'"traceEvents"'))
    body = data[start:]
    try:
        frame = decode_events(body).frame
        tail = b"]"
    except MalformedError as error:
        if error.byte is None or not error.ended:
            raise InputError(f"{file}: {error}", "the file is damaged") from None
        frame = decode_events(body[: error.byte]).frame
        tail = body[error.byte :]
    meta = json.loads(data[:start] + b"[]" + tail)
    base = int(meta.get("baseTimeNanoseconds", 0))
    info = meta.get("distributedInfo", {})
    rank = int(info.get("rank", 0))
    frame = frame.with_row_index("index").with_columns(
        pl.col("start_ns") + base,
        pl.col("duration_ns").fill_null(0),
        pl.col("category").str.to_lowercase(),
        pl.lit(rank).alias("rank"),
        pl.lit(0).alias("cycle"),
    )
    timed = frame.filter(ph="X")
    row = {
        "rank": rank,
        "cycle": 0,
        "file": str(file),
        "rank_source": "distributed_info",
        "world_size": info.get("world_size"),
        "backend": info.get("backend"),
        "host": meta.get("host_name"),
        "num_events": frame.height,
        "start_ns": timed["start_ns"].min(),
        "end_ns": (timed["start_ns"] + timed["duration_ns"]).max(),
        "process_groups": json.dumps(info["pg_config"]) if "pg_config" in info else None,
        "devices": json.dumps(meta.get("deviceProperties")),
        "metadata": json.dumps(
            {k: v for k, v in meta.items() if k not in ("traceEvents", "distributedInfo", "deviceProperties")}
        ),
    }
    return conform(frame, EVENTS), row
