"""Nsight Systems exports (`nsys export --type sqlite`) → events as Kineto would have written them.

Kernels, copies, fills, graphs and CUDA calls come from the `CUPTI_ACTIVITY_KIND_*` tables, ranges from `NVTX_EVENTS`.
Columns are those of the export schemas of Nsight Systems 2021 to 2026: what a version lacks is unknown, and a version without a
column that is needed is refused by name. Times are nanoseconds since the session began; the session's start is the base
time. Source: NVIDIA's SQLite export schema reference.

`globalTid` and `globalPid` hold the process in bits 24 to 47 and the thread in bits 0 to 23. Correlation ids are a process's
own. Only processes that ran something on a device are kept.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from traceanalyzer.regular_file import open_regular
from traceanalyzer.traces.decoding.decode import Decoded
from traceanalyzer.traces.decoding.document import NotATraceError
from traceanalyzer.traces.decoding.trace_format import TraceFormat
from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.input.codecs import Reader
from traceanalyzer.traces.input.limits import Limits
from traceanalyzer.traces.input.sqlite_file import MAGIC, PlainTables, UnsafeFileError, plain_tables
from traceanalyzer.traces.kineto.facts import whole_number
from traceanalyzer.traces.nsight import events as nsys_events
from traceanalyzer.traces.tally import Tally

_KERNEL, _MEMCPY, _MEMSET, _GRAPH, _CALL = (
    f"CUPTI_ACTIVITY_KIND_{name}" for name in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE", "RUNTIME")
)
_NVTX, _STRINGS, _SESSION, _ENVIRONMENT = (
    "NVTX_EVENTS",
    "StringIds",
    "TARGET_INFO_SESSION_START_TIME",
    "TARGET_INFO_SYSTEM_ENV",
)
_GPU, _CUDA_DEVICE, _MPI, _EXPORT = "TARGET_INFO_GPU", "TARGET_INFO_CUDA_DEVICE", "MPI_RANKS", "META_DATA_EXPORT"
_MEMORY = "ENUM_CUDA_MEM_KIND"
_VERSIONED = [f"{_KERNEL}_V{version}" for version in range(9, 1, -1)]
_TABLES = {
    *(_KERNEL, _MEMCPY, _MEMSET, _GRAPH, _CALL, _NVTX, _STRINGS, _SESSION, _ENVIRONMENT),
    *(_GPU, _CUDA_DEVICE, _MPI, _EXPORT, _MEMORY, *_VERSIONED),
}
_MAX_STRINGS = 8_000_000
_TEXT = {"text", "value", "name", "label"}
_PROCESS_BITS, _MASK = 24, 0xFFFFFF
_ON_DEVICE = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid")
_NEEDED = ("start", "end", "streamId", "correlationId", "globalPid")
_GRID = tuple(f"{key}{axis}" for key in ("grid", "block") for axis in "XYZ")
_BLOCK = 1 << 20


class Export:
    """One exported report, as a document. Iterate `frames` to its end, then `metadata` is complete."""

    def __init__(self, stream: Reader, file: str, limits: Limits, tally: Tally, log: DefectLog) -> None:
        self._stream = stream
        self._file = Path(file)
        self._limits = limits
        self._tally = tally
        self._log = log
        self.metadata: dict[str, bytes] = {}
        """What a Kineto trace says around its events, each with its JSON text."""
        self.ranks: dict[str, int] = {}
        """Rank by process, where MPI recorded it."""

    def frames(self) -> Iterator[Decoded]:
        """Calls and ranges, then what ran on the device. Raises `NotATraceError` before the first if there are none."""
        try:
            with self._as_file() as path, plain_tables(path, _TABLES, longest=self._limits.event_bytes) as tables:
                report = _Report(tables)
                self.ranks, self.metadata = report.ranks, report.metadata
                self._refuse_mixed(report)
                for frame in report.frames():
                    self._tally.events_seen += frame.height
                    yield Decoded(frame, {})
        except UnsafeFileError as error:
            said = " ".join(str(error).split())[:200]  # it may quote the file
            raise NotATraceError(f"a SQLite file that cannot be trusted: {said}") from None
        self._tally.drop_events("other_process", report.num_foreign)
        for code, count in (("nsys.no_name", report.num_unnamed), ("nsys.whole_graph", report.num_graphs)):
            if count:
                self._log.add(code, events=count)

    def _refuse_mixed(self, report: _Report) -> None:
        if len(report.processes) > 1 and len(set(self.ranks.values())) != len(report.processes):
            raise NotATraceError(
                f"{len(report.processes)} processes used a device and their ranks are not recorded: profile every rank into "
                "a file of its own (nsys profile -o rank%q{RANK})"
            )

    @contextmanager
    def _as_file(self) -> Generator[Path]:
        """The database as a local file: itself, or what an archive or a codec held, written aside while it is read."""
        local = self._file.is_file() and _is_database(self._file)
        with tempfile.NamedTemporaryFile(suffix=".sqlite") as copy:
            left = self._limits.file_bytes
            while data := self._stream.read(_BLOCK):
                self._tally.bytes_seen += len(data)
                left -= len(data)
                if left < 0:
                    raise NotATraceError(f"it is larger than {self._limits.file_bytes} bytes")
                if not local:
                    copy.write(data)
            self._tally.bytes_kept = self._tally.bytes_seen
            copy.flush()
            yield self._file if local else Path(copy.name)


def _is_database(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(len(MAGIC)) == MAGIC


class _Report:
    """The tables of a report that matter here."""

    def __init__(self, tables: PlainTables) -> None:
        self._tables = tables
        self._kernels = next((table for table in (*_VERSIONED, _KERNEL) if table in tables.columns), None)
        self._require()
        self._strings = self._named()
        self.processes = self._on_device()
        """Processes that ran something on a device."""
        self.num_foreign = 0
        """Rows of other processes, which are left out."""
        self.num_unnamed = 0
        """Rows whose name is not among the strings."""
        self.num_graphs = 0
        """Graphs that were recorded whole, without their kernels."""

    # what is there ---------------------------------------------------------------------------------------------------

    def _require(self) -> None:
        """Raise `NotATraceError` if a table or column that is needed is not there."""
        columns = self._tables.columns
        if _STRINGS not in columns:
            raise NotATraceError("a SQLite file, but not an export of Nsight Systems", foreign=True)
        if self._kernels is None and _GRAPH not in columns:
            raise NotATraceError("an Nsight Systems export without kernels: profile with --trace=cuda,nvtx")
        needed = {
            _STRINGS: ("id", "value"),
            _CALL: ("start", "end", "nameId", "correlationId", "globalTid"),
            _NVTX: ("start", "end", "globalTid"),
            **dict.fromkeys(filter(None, (self._kernels, _GRAPH)), _NEEDED),
        }
        for table, names in needed.items():
            lacking = [name for name in names if name not in columns.get(table, names)]
            if lacking:
                version = self._version() or "unknown"
                raise NotATraceError(f"{table} has no column {', '.join(lacking)} (export schema {version})")

    def _version(self) -> str | None:
        return next(
            (str(value) for name, value in self._all(_EXPORT, "name", "value") if name == "EXPORT_SCHEMA_VERSION"), None
        )

    def _all(self, table: str, *columns: str) -> Iterator[tuple[Any, ...]]:
        for batch in self._tables.rows(table, columns) if table in self._tables.columns else ():
            yield from batch

    def _named(self) -> pl.DataFrame:
        frames = list(self._batches(_STRINGS, ("id", "value")))
        if sum(frame.height for frame in frames) > _MAX_STRINGS:
            raise UnsafeFileError(f"{_STRINGS} holds more than {_MAX_STRINGS:,} texts")
        return pl.concat([_typed([], ("id", "value")), *frames]).unique("id", keep="first").rename({"value": "string"})

    def _on_device(self) -> set[int]:
        found: set[int] = set()
        for table in filter(None, (self._kernels, _GRAPH)):
            for batch in self._batches(table, ("globalPid",)):
                found.update(_processes(batch, "globalPid")["process"].unique())
        return found

    @property
    def ranks(self) -> dict[str, int]:
        """Rank by process as MPI recorded it."""
        stated = [
            (tid >> _PROCESS_BITS & _MASK, rank)
            for tid, rank in self._all(_MPI, "globalTid", "rank")
            if isinstance(tid, int) and isinstance(rank, int) and 0 <= rank < 1 << 31
        ]
        return {str(process): rank for process, rank in sorted(stated) if process in self.processes}

    @property
    def metadata(self) -> dict[str, bytes]:
        """Top-level keys of a trace by their JSON text."""
        start = next((value for (value,) in self._all(_SESSION, "utcEpochNs") if isinstance(value, int)), None)
        names = self._all(_ENVIRONMENT, "name", "value")
        host = next((value for name, value in names if name == "Hostname" and isinstance(value, str)), None)
        facts = {
            "deviceProperties": self._devices(),
            "baseTimeNanoseconds": start,
            # ranks of one host share a clock only if their sessions show when they began
            "host_name": host if start is not None else None,
            "nsys_export_schema": self._version() or "unknown",
        }
        return {key: json.dumps(value).encode() for key, value in facts.items() if value}

    def _devices(self) -> list[dict[str, Any]]:
        cuda = dict(self._all(_CUDA_DEVICE, "gpuId", "cudaId"))
        return [
            {"id": whole_number(cuda.get(number, number)), "name": name, "totalGlobalMem": whole_number(memory)}
            for number, name, memory in self._all(_GPU, "id", "name", "totalMemory")
            if isinstance(name, str) and (not cuda or number in cuda)
        ]

    # events ----------------------------------------------------------------------------------------------------------

    def frames(self) -> Iterator[pl.DataFrame]:
        """Columns of `DECODED`, batch by batch."""
        for rows in self._rows(_CALL, ("start", "end", "nameId", "correlationId"), "globalTid"):
            yield nsys_events.calls(self._with_name(rows, pl.col("nameId")))
        for rows in self._ranges():
            yield nsys_events.ranges(rows)
        yield from self._device_frames()

    def _device_frames(self) -> Iterator[pl.DataFrame]:
        columns = (*_ON_DEVICE, "demangledName", "shortName", "graphId", "graphNodeId", *_GRID)
        for rows in self._rows(self._kernels, columns, "globalPid"):
            yield nsys_events.kernels(self._with_name(rows, pl.coalesce("demangledName", "shortName")))
        kinds = {number: _word(label) for number, label in self._all(_MEMORY, "id", "label") if isinstance(number, int)}
        copied = ("copyKind", "srcKind", "dstKind", "bytes")
        for rows in self._rows(_MEMCPY, (*_ON_DEVICE, *copied), "globalPid"):
            yield nsys_events.copies(_with_kinds(rows, kinds, source="srcKind", target="dstKind"))
        for rows in self._rows(_MEMSET, (*_ON_DEVICE, "memKind", "bytes"), "globalPid"):
            yield nsys_events.fills(_with_kinds(rows, kinds, source="memKind"))
        for rows in self._rows(_GRAPH, (*_ON_DEVICE, "graphId"), "globalPid"):
            self.num_graphs += rows.height
            yield nsys_events.graphs(rows)

    def _ranges(self) -> Iterator[pl.DataFrame]:
        columns = ("start", "end", "eventType", "text", "textId")
        for rows in self._rows(_NVTX, columns, "globalTid"):
            known = rows.with_columns(pl.col("eventType").fill_null(nsys_events.RANGES[0]))
            shown = known.filter(pl.col("eventType").is_in([*nsys_events.RANGES, nsys_events.MARK]))
            yield self._with_name(shown, pl.col("textId"), pl.col("text"))

    def _rows(self, table: str | None, columns: Sequence[str], owner: str) -> Iterator[pl.DataFrame]:
        """Rows of the kept processes, with `process` and `thread`."""
        for batch in self._batches(table, (*columns, owner)) if table else ():
            own = _processes(batch, owner).filter(pl.col("process").is_in(self.processes))
            self.num_foreign += batch.height - own.height
            yield own.with_columns(pl.col("process").cast(pl.String))

    def _batches(self, table: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        for batch in self._tables.rows(table, tuple(dict.fromkeys(columns))) if table in self._tables.columns else ():
            yield _typed(batch, tuple(dict.fromkeys(columns)))

    def _with_name(self, rows: pl.DataFrame, number: pl.Expr, text: pl.Expr | None = None) -> pl.DataFrame:
        named = rows.with_columns(number.alias("id")).join(self._strings, on="id", how="left", maintain_order="left")
        found = pl.coalesce(*([text] if text is not None else []), "string")
        self.num_unnamed += named.select((found.is_null() & pl.col("id").is_not_null()).sum()).item()
        return named.with_columns(pl.coalesce(found, pl.format("string {}", "id"), pl.lit("unnamed")).alias("name"))


def _typed(batch: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> pl.DataFrame:
    """Values by column; one that is not of the column's type is null."""
    parts = zip(*batch, strict=True) if batch else [()] * len(columns)
    kinds: dict[str, tuple[type, pl.DataType]] = {
        name: (str, pl.String()) if name in _TEXT else (int, pl.Int64()) for name in columns
    }
    return pl.DataFrame(
        [
            pl.Series(name, [value if isinstance(value, kinds[name][0]) else None for value in values], kinds[name][1])
            for name, values in zip(columns, parts, strict=True)
        ]
    )


def _processes(rows: pl.DataFrame, owner: str) -> pl.DataFrame:
    """Add `process` and `thread` of a global id; 0 if it is not known."""
    number = pl.col(owner).fill_null(0)
    process = number // (1 << _PROCESS_BITS) % (_MASK + 1)
    return rows.with_columns(process.alias("process"), (number % (_MASK + 1)).cast(pl.String).alias("thread"))


def _word(label: object) -> str | None:
    return label.split()[0].title() if isinstance(label, str) and label.split() else None


def _with_kinds(rows: pl.DataFrame, kinds: dict[Any, str | None], **columns: str) -> pl.DataFrame:
    return rows.with_columns(
        pl.col(column).replace_strict(kinds, default=None, return_dtype=pl.String).alias(name)
        for name, column in columns.items()
    )


NSIGHT_EXPORT = TraceFormat(
    endings=("sqlite",),
    examples=("x.sqlite (Nsight Systems)",),
    written_by="what nsys export --type sqlite wrote",
    recognises=lambda head: head.startswith(MAGIC),
    opened=Export,
)
