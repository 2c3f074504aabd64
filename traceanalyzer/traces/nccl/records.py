"""Flight-recorder dumps and NCCL Inspector records among the files at a path, told by their content.

They lie beside traces or alone. Only regular files are opened, links to elsewhere are not followed, and a dump that could
run code is refused (`flight_recorder`).
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from traceanalyzer.errors import InputError, NoTracesError, UsageError
from traceanalyzer.schema import RANKS, conform, empty
from traceanalyzer.traces.capture.manifest import is_capture
from traceanalyzer.traces.defects import defect_row, defect_table, in_order
from traceanalyzer.traces.input.discovery import is_remote
from traceanalyzer.traces.kineto.kernel_times import KERNEL_TIMES
from traceanalyzer.traces.nccl.flight_recorder import FLIGHT, read_flight_recorder
from traceanalyzer.traces.nccl.inspector import INSPECTOR, read_inspector
from traceanalyzer.traces.read import Contents, summarize
from traceanalyzer.traces.tally import Counts

_NAME = re.compile(r"(?i)\.(log|jsonl|json|pickle|pkl)(\.gz)?$|(rank|trace|dump)[_-]?\d+$")
_INSPECTOR = re.compile(rb'\{\s*"header"\s*:')
_HEAD = 1 << 16
_MAX_FILES = 20_000
_PICKLE = 0x80


@dataclass(frozen=True, slots=True)
class Records:
    """What communication libraries wrote about a run themselves."""

    flight: pl.DataFrame
    """`FLIGHT`; every rank has one dump."""
    inspector: pl.DataFrame
    """`INSPECTOR`, with the rank in the job as `job_rank`; null where no communicator of the whole job tells it."""
    num_lost: int
    """Inspector records that are cut or damaged."""
    failures: tuple[str, ...]
    """Why files that look like dumps could not be used."""
    defects: tuple[dict[str, Any], ...]

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return self.flight.is_empty() and self.inspector.is_empty()


NO_RECORDS = Records(empty(FLIGHT), empty(pl.Schema({**INSPECTOR, "job_rank": pl.Int32})), 0, (), ())


def read_records(path: Path | str) -> Records:
    """All dumps and records at a local file or folder. Raises `InputError` if they are of several jobs."""
    if is_remote(str(path)) or is_capture(Path(path)):
        return NO_RECORDS
    flight, inspector = [NO_RECORDS.flight], list[pl.DataFrame]()
    failures, defects, lost = list[str](), list[dict[str, Any]](), 0
    for file in _files(Path(path)):
        kind = _kind(file)
        try:
            if kind == "flight":
                flight.append(read_flight_recorder(file))
            elif kind == "inspector":
                rows, broken = read_inspector(file)
                inspector.append(rows)
                lost += broken
                defects += [defect_row("record.broken", str(file), events=broken)] if broken else []
        except InputError as error:
            failures.append(error.message)
            defects.append(defect_row("record.unusable", str(file), detail=error.message.removeprefix(f"{file}: ")))
    dumps = pl.concat(flight)
    _one_dump_per_rank(dumps)
    measured = _with_job_rank(pl.concat(inspector)) if inspector else NO_RECORDS.inspector
    return Records(dumps, measured, lost, tuple(failures), tuple(defects))


def num_record_files(paths: Sequence[Path | str]) -> int:
    """How many dumps and files of records are at local paths; a capture holds none."""
    local = [Path(path) for path in paths if not is_remote(str(path))]
    return sum(_kind(file) is not None for path in local if not is_capture(path) for file in _files(path))


def read_contents(path: Path | str, rank_map: Mapping[str, int] | None = None) -> tuple[Contents, Records]:
    """What is at a path, traces and records, without keeping events. Raises `InputError` if there is neither."""
    records = read_records(path)
    try:
        found = summarize(path, rank_map=rank_map)
    except NoTracesError:
        alone = summarize_records(records)
        if alone is None:
            raise
        return alone, records
    return replace(found, defects=with_defects(found.defects, records)), records


def summarize_records(records: Records) -> Contents | None:
    """What records tell of a run without traces; None without records.

    Raises `InputError` if files look like dumps and none can be used.
    """
    if records.is_empty:
        if records.failures:
            raise InputError(records.failures[0], "give the dumps as torch or NCCL wrote them, or a trace")
        return None
    kept = records.flight.height + records.inspector.height
    dropped = {"broken_record": records.num_lost} if records.num_lost else {}
    return Contents(
        kernel_times=empty(KERNEL_TIMES),
        ranks=ranks_of_records(records),
        defects=defect_table(list(records.defects)),
        counts=Counts(events_seen=kept + records.num_lost, events_kept=kept, events_dropped=dropped),
        run_folder=None,
    )


def records_of_ranks(records: Records, ranks: Collection[int] | None) -> Records:
    """Only the records of `ranks` (None: of all). Raises `UsageError` if there were some and none is left."""
    if ranks is None or records.is_empty:
        return records
    left = replace(
        records,
        flight=records.flight.filter(pl.col("rank").is_in(list(ranks))),
        inspector=records.inspector.filter(pl.col("job_rank").is_in(list(ranks))),
    )
    if left.is_empty:
        raise UsageError("none of the chosen ranks left a record here", "leave --ranks out, or choose others")
    return left


def with_defects(defects: pl.DataFrame, records: Records) -> pl.DataFrame:
    """`DEFECTS` of traces and of the records beside them, worst first."""
    return in_order(pl.concat([defects, defect_table(list(records.defects))]))


def ranks_of_records(records: Records) -> pl.DataFrame:
    """`RANKS` of what was recorded, for runs without traces. The size of the job is the largest group's, where listed."""
    dumped = records.flight.filter(pl.col("rank").is_not_null())
    measured = records.inspector.filter(pl.col("job_rank").is_not_null())
    world = dumped["group"].str.split(",").list.len().max() if dumped["pg_desc"].eq("default_pg").any() else None
    parts = [
        dumped.group_by("rank").agg(
            pl.col("file").first(),
            pl.lit("file_name").alias("rank_source"),
            pl.lit(world, pl.Int32).alias("world_size"),
            pl.len().alias("num_events"),
            pl.col("created_ns").min().alias("start_ns"),
            pl.max_horizontal(pl.col("created_ns").max(), pl.col("completed_ns").max()).alias("end_ns"),
        ),
        measured.group_by(pl.col("job_rank").alias("rank")).agg(
            pl.col("file").first(),
            pl.lit("inspector").alias("rank_source"),
            pl.col("num_members").max().alias("world_size"),
            pl.col("host").first(),
            pl.len().alias("num_events"),
            pl.col("start_ns").min(),
            pl.col("end_ns").max(),
        ),
    ]
    rows = pl.concat([conform(part.with_columns(pl.lit(0).alias("cycle")), RANKS) for part in parts])
    return rows.unique("rank", keep="first", maintain_order=True).sort("rank")


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    seen = 0
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            seen += 1
            if seen > _MAX_FILES:
                return
            if _NAME.search(name) and stat.S_ISREG(file.lstat().st_mode):
                yield file


def _kind(file: Path) -> str | None:
    """`flight` or `inspector`, by the first bytes; None for anything else."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
        if file.name.lower().endswith(".gz"):
            head = zlib.decompressobj(31).decompress(head, _HEAD)
    except (OSError, zlib.error):
        return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if len(head) > 1 and head[0] == _PICKLE and head[1] <= _MAX_PROTOCOL:
        return "flight"
    if _INSPECTOR.search(head) and (b"_perf" in head or b"inspector" in head):
        return "inspector"
    listed = b'"entries"' in text and (b'"pg_config"' in text or b'"version"' in text)
    return "flight" if text[:1] == b"{" and (b'"collective_seq_id"' in text or listed) else None


_MAX_PROTOCOL = 5


def _one_dump_per_rank(dumps: pl.DataFrame) -> None:
    twice = (
        dumps.drop_nulls("rank")
        .group_by("rank")
        .agg(pl.col("file").unique().sort())
        .filter(pl.col("file").list.len() > 1)
    )
    if not twice.is_empty():
        rank, files = twice.sort("rank").row(0)
        raise InputError(
            f"{files[0]} and {files[1]} both are dumps of rank {rank}",
            "give the dumps of one job, taken at one time; a dump's rank is the last number in its name",
        )


def _with_job_rank(records: pl.DataFrame) -> pl.DataFrame:
    """Add `job_rank`: the process's rank in the largest communicator, which is taken to be the whole job's."""
    process = [pl.coalesce("host", "file").alias("_host"), pl.col("process").fill_null(-1).alias("_process")]
    keyed = records.with_columns(process)
    largest = keyed.filter(pl.col("num_members") == pl.col("num_members").max())
    ranks = largest.sort("communicator").unique(["_host", "_process"], keep="first", maintain_order=True)
    twice = ranks.filter(pl.len().over("rank") > 1)
    if not twice.is_empty():
        claims = twice.sort("rank", "file").select("file", "rank").rows()[:2]
        raise InputError(
            f"{claims[0][0]} and {claims[1][0]} both hold records of rank {claims[0][1]}",
            "give the records of one job; results of several jobs are never mixed",
        )
    job = ranks.select("_host", "_process", pl.col("rank").alias("job_rank"))
    return keyed.join(job, on=["_host", "_process"], how="left", maintain_order="left").drop("_host", "_process")
