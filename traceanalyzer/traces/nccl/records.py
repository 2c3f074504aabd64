"""Flight-recorder dumps and NCCL Inspector records among the files at a path, recognised by their content.

They lie beside traces or alone. A dump that could run code is refused (`plain_pickle`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from traceanalyzer.errors import InputError, NoTracesError, UsageError
from traceanalyzer.schema import RANKS, conform, empty
from traceanalyzer.traces.capture.manifest import is_capture
from traceanalyzer.traces.defects import defect_row, defect_table, in_order
from traceanalyzer.traces.input.discovery import Where, each_of, is_remote
from traceanalyzer.traces.kineto.kernel_times import KERNEL_TIMES
from traceanalyzer.traces.nccl.flight_recorder import DUMPS, FLIGHT, Dump, read_dump
from traceanalyzer.traces.nccl.inspector import INSPECTOR, read_inspector
from traceanalyzer.traces.nccl.other_runs import TracedRun, other_run
from traceanalyzer.traces.nccl.record_files import candidates, kind_of
from traceanalyzer.traces.read import Contents, summarize
from traceanalyzer.traces.tally import Counts


@dataclass(frozen=True, slots=True)
class Records:
    """What communication libraries wrote about a run themselves."""

    flight: pl.DataFrame
    """`FLIGHT`; every rank has one dump."""
    dumps: pl.DataFrame
    """`DUMPS`: all dumps, those without an entry too, and the groups that they list."""
    inspector: pl.DataFrame
    """`INSPECTOR`, with the rank in the job as `job_rank`; null if no communicator of the whole job tells it."""
    num_lost: int
    """Inspector records that are cut or damaged."""
    failures: tuple[str, ...]
    """Why files that look like dumps could not be used."""
    defects: tuple[dict[str, Any], ...]
    is_a_choice: bool = False
    """Whether records of some ranks were left out on demand."""

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return self.dumps.is_empty() and self.inspector.is_empty()


NO_RECORDS = Records(empty(FLIGHT), empty(DUMPS), empty(pl.Schema({**INSPECTOR, "job_rank": pl.Int32})), 0, (), ())


def read_records(path: Where, traced: TracedRun | None = None) -> Records:
    """All dumps and records at local files or folders; beside traces those of other runs are set apart as defects.

    Raises `InputError` if what is left is of several jobs.
    """
    local = [Path(each) for each in each_of(path) if not is_remote(each) and not is_capture(Path(each))]
    dumps, inspector = list[tuple[Path, Dump]](), list[pl.DataFrame]()
    failures, defects, lost = list[str](), list[dict[str, Any]](), 0
    for file in dict.fromkeys(file for each in local for file in candidates(each)):
        kind, broken = kind_of(file), 0
        try:
            if kind == "flight":
                dump = read_dump(file)
                other = other_run(dump.listed, traced) if traced is not None else None
                if other is not None:
                    defects.append(defect_row("record.other_run", str(file), detail=other))
                    continue
                dumps.append((file, dump))
                broken = dump.num_lost
            elif kind == "inspector":
                rows, broken = read_inspector(file)
                inspector.append(rows)
        except InputError as error:
            failures.append(error.message)
            defects.append(defect_row("record.unusable", str(file), detail=error.message.removeprefix(f"{file}: ")))
        lost += broken
        defects += [defect_row("record.broken", str(file), events=broken)] if broken else []
    _one_run(dumps)
    _one_dump_per_rank(dumps)
    flight = pl.concat([NO_RECORDS.flight, *(dump.flight for _, dump in dumps)])
    listed = pl.concat([NO_RECORDS.dumps, *(dump.listed for _, dump in dumps)])
    measured = _with_job_rank(pl.concat(inspector)) if inspector else NO_RECORDS.inspector
    return Records(flight, listed, measured, lost, tuple(failures), tuple(defects))


def num_record_files(paths: Sequence[Path | str]) -> int:
    """How many dumps and files of records are at local paths; a capture holds none."""
    local = [Path(path) for path in paths if not is_remote(str(path))]
    return sum(kind_of(file) is not None for path in local if not is_capture(path) for file in candidates(path))


class Found(NamedTuple):
    """What is at a path."""

    contents: Contents
    records: Records


def read_contents(path: Where, rank_map: Mapping[str, int] | None = None) -> Found:
    """What is at a path, traces and records, without keeping events. Raises `InputError` if there is neither."""
    try:
        found = summarize(path, rank_map=rank_map)
    except NoTracesError:
        records = read_records(path)
        alone = summarize_records(records)
        if alone is None:
            raise
        return Found(alone, records)
    records = read_records(path, found.traced)
    return Found(replace(found, defects=with_defects(found.defects, records)), records)


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
        dumps=records.dumps.filter(pl.col("rank").is_in(list(ranks))),
        inspector=records.inspector.filter(pl.col("job_rank").is_in(list(ranks))),
        is_a_choice=True,
    )
    if left.is_empty:
        raise UsageError("none of the chosen ranks left a record here", "leave --ranks out, or choose others")
    return left


def with_defects(defects: pl.DataFrame, records: Records) -> pl.DataFrame:
    """`DEFECTS` of traces and of the records beside them, worst first."""
    return in_order(pl.concat([defects, defect_table(list(records.defects))]))


def ranks_of_records(records: Records) -> pl.DataFrame:
    """`RANKS` of what was recorded, for runs without traces. The size of the job is the largest group's, where listed."""
    dumped = records.dumps.filter(pl.col("rank").is_not_null()).unique("rank", keep="first", maintain_order=True)
    measured = records.inspector.filter(pl.col("job_rank").is_not_null())
    listed = records.dumps.filter(pl.col("pg_desc") == "default_pg")["group"]
    world = listed.str.split(",").list.len().max()
    calls = records.flight.group_by("rank").agg(
        pl.len().alias("num_events"),
        pl.col("created_ns").min().alias("start_ns"),
        pl.max_horizontal(pl.col("created_ns").max(), pl.col("completed_ns").max()).alias("end_ns"),
    )
    parts = [
        dumped.select(
            "rank", "file", pl.lit("file_name").alias("rank_source"), pl.lit(world, pl.Int32).alias("world_size")
        )
        .join(calls, on="rank", how="left")
        .with_columns(pl.col("num_events").fill_null(0)),
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


def _one_run(dumps: Sequence[tuple[Path, Dump]]) -> None:
    files: dict[str, Path] = {}
    for file, dump in dumps:
        for job_id in dump.listed["job_id"].drop_nulls().unique():
            files.setdefault(job_id, file)
    if len(files) > 1:
        (one, first), (other, second) = sorted(files.items(), key=lambda item: item[1])[:2]
        raise InputError(
            f"{first} and {second} are dumps of two runs, {one} and {other}",
            "give the folders of one run; those of all its nodes may be given together",
        )


def _one_dump_per_rank(dumps: Sequence[tuple[Path, Dump]]) -> None:
    files: dict[int, Path] = {}
    for file, dump in dumps:
        rank = dump.listed["rank"][0]
        if rank is not None and rank in files:
            raise InputError(
                f"{files[rank]} and {file} both are dumps of rank {rank}",
                "give the dumps of one job, taken at one time; a dump's rank is the last number in its name",
            )
        if rank is not None:
            files[rank] = file


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
