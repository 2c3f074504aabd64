"""Q: exports of Nsight Systems, sound, damaged, of unknown versions, and hostile."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Callable
from pathlib import Path

from inputs.nsys_file import nsys_twin

from catalogue.base import NUM_KERNELS, Case, trace

_COMPLETE = 65  # as many as in the trace that it is the twin of
_SQL = Callable[[sqlite3.Connection], object]


def export(folder: Path, name: str = "report_rank0.sqlite") -> Path:
    document = trace()
    for event in document["traceEvents"]:
        if event.get("cat") == "kernel":
            event["args"] |= {"grid": [8, 1, 1], "block": [128, 1, 1]}
            event["name"] = event["name"].replace("nccl", "own")  # no export tells what NCCL's kernels carry
    return nsys_twin(document, folder / name)


def _changed(edit: _SQL) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = export(folder)
        with sqlite3.connect(path) as db:
            edit(db)
        db.close()
        return path

    return build


def _sql(*lines: str) -> Callable[[Path], Path]:
    """Changes of the tables, in which KERNELS stands for the table of kernels."""
    return _changed(lambda db: db.executescript(";".join(lines).replace("KERNELS", _KERNEL)))


def _bytes(edit: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = export(folder)
        path.write_bytes(edit(path.read_bytes()))
        return path

    return build


def _text_file(folder: Path) -> Path:
    path = folder / "report.sqlite"
    path.write_text("-- this is a dump, no database\n" * 50)
    return path


def _other_database(folder: Path) -> Path:
    path = folder / "history.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE visits (url TEXT)")
    db.close()
    return path


def _gzip(folder: Path) -> Path:
    path = folder / "report_rank0.sqlite.gz"
    path.write_bytes(gzip.compress(export(folder.parent).read_bytes()))
    return path


_KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
_ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x AS"
_TWO_PROCESSES = "UPDATE KERNELS SET globalPid = globalPid + 16777216 WHERE rowid % 2 = 0"

CASES = [
    Case("Q01", "an export", export, "clean", _COMPLETE, ranks=(0,)),
    Case("Q02", "cut in the middle", _bytes(lambda data: data[: len(data) // 2]), "error"),
    Case("Q02b", "a page overwritten", _bytes(lambda d: d[:8192] + b"\xff" * 4096 + d[12288:]), "either", 0),
    Case("Q03", "no kernels", _sql("DROP TABLE KERNELS"), "error"),
    Case("Q04", "a table of another version", _sql("ALTER TABLE KERNELS RENAME TO KERNELS_V2"), "clean", _COMPLETE),
    Case(
        "Q05",
        "a column of an unknown version",
        _sql("ALTER TABLE KERNELS RENAME COLUMN start TO startTimestampNs", "UPDATE META_DATA_EXPORT SET value='99.0'"),
        "error",
    ),
    Case("Q06", "a text file of that name", _text_file, "error"),
    Case("Q06b", "another program's database", _other_database, "error"),
    Case(
        "Q07",
        "names missing, an end before its start",
        _sql("DELETE FROM StringIds WHERE id = 3", "UPDATE KERNELS SET end = start - 5 WHERE rowid = 2"),
        "load",
        _COMPLETE,
        ("nsys.no_name", "event.negative_duration"),
    ),
    Case(
        "Q08a",
        "an endless view in the place of a table",
        _sql("ALTER TABLE KERNELS RENAME TO x", f"CREATE VIEW KERNELS AS {_ENDLESS} start"),
        "error",
    ),
    Case(
        "Q08b",
        "a trigger on a table",
        _sql("CREATE TRIGGER t AFTER INSERT ON KERNELS BEGIN DELETE FROM StringIds; END"),
        "error",
    ),
    Case(
        "Q08c",
        "a virtual table in the place of a table",
        _sql("DROP TABLE NVTX_EVENTS", "CREATE VIRTUAL TABLE NVTX_EVENTS USING fts5(start)"),
        "error",
    ),
    Case("Q08d", "an endless view beside the tables", _sql(f"CREATE VIEW v AS {_ENDLESS} y"), "clean", _COMPLETE),
    Case(
        "Q08e",
        "values of other types than the columns'",
        _sql(
            "UPDATE KERNELS SET start = 'soon' WHERE rowid = 1",
            "UPDATE KERNELS SET end = x'00ff' WHERE rowid = 2",
            "UPDATE TARGET_INFO_GPU SET totalMemory = x'00ff', id = 'a'",
            "UPDATE TARGET_INFO_SESSION_START_TIME SET utcEpochNs = 'now'",
        ),
        "load",
        _COMPLETE - 2,
        ("event.no_start", "event.no_duration"),
    ),
    Case(
        "Q08f",
        "a huge text",
        _sql("INSERT INTO StringIds VALUES (9999, replace(hex(zeroblob(20000000)), '0', 'x'))"),
        "error",
    ),
    Case("Q09", "processes whose ranks nothing tells", _sql(_TWO_PROCESSES), "error"),
    Case(
        "Q10",
        "processes whose ranks MPI tells",
        _sql(
            _TWO_PROCESSES,
            "CREATE TABLE MPI_RANKS (globalTid INTEGER, rank INTEGER)",
            "INSERT INTO MPI_RANKS SELECT DISTINCT globalPid + 1, globalPid / 16777216 % 2 FROM KERNELS",
        ),
        "clean",
        _COMPLETE,
        ranks=(0, 1),
    ),
    Case("Q11", "gzip", _gzip, "clean", _COMPLETE),
    Case(
        "Q12",
        "graphs recorded whole",
        _sql(
            "CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE AS SELECT start, end, deviceId, streamId, correlationId, globalPid, "
            "5 AS graphId FROM KERNELS",
            "DROP TABLE KERNELS",
        ),
        "load",
        _COMPLETE - NUM_KERNELS,
        ("nsys.whole_graph",),
    ),
    Case("Q13", "a range without an end", _sql("UPDATE NVTX_EVENTS SET end = NULL WHERE rowid = 9"), "clean", 64),
]
