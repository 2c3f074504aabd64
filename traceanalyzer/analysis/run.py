"""A run as read: traces, their description and side files, or an op table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from traceanalyzer.errors import InputError, NoTracesError, UsageError
from traceanalyzer.gaps.efficiency.declaration import NOTHING, Declaration
from traceanalyzer.job import Job, RankStatus
from traceanalyzer.schema import DEFECTS, EVENTS, STEP_RECORDS, empty
from traceanalyzer.tables.actions.op_tables import tables_of_ops
from traceanalyzer.traces import (
    Counts,
    Summary,
    Traces,
    in_memory,
    read_job,
    read_routing_records,
    read_step_records,
    read_traces,
)
from traceanalyzer.traces.input.discovery import Paths, Where, each_of
from traceanalyzer.traces.nccl.records import (
    NO_RECORDS,
    Records,
    read_records,
    records_of_ranks,
    summarize_records,
    with_defects,
)
from traceanalyzer.traces.nccl.uncalled import uncalled
from traceanalyzer.traces.op_table import is_op_table, op_tables_in, read_op_table
from traceanalyzer.traces.run_folder import ROUTING_RECORDS, describes_a_job
from traceanalyzer.traces.run_status import Observer, read_statuses, run_state, with_ranks


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read: its traces and what stands beside them."""

    path: str
    """As given: a local path or a URL."""
    traces: Traces
    job: Job | None
    step_records: pl.DataFrame
    routing_records: pl.DataFrame
    ops: pl.DataFrame | None = None
    """`OPS`, where an op table was read instead of traces."""
    records: Records = NO_RECORDS
    """Flight-recorder dumps and NCCL Inspector records beside the traces, or alone."""
    declared: Declaration = NOTHING
    """What was said of the job beside its traces."""
    promised: frozenset[int] = frozenset()
    """Ranks that were to be traced here: one that is missing is lost, any other is sampled by design."""
    steps: frozenset[int] | None = None
    """Steps to look at; None: all."""
    state: str | None = None
    """Whether the run still runs or where it stopped, in a sentence; None: it completed, or nothing says so."""


def read(
    path: Where,
    columns: Mapping[str, str] | None = None,
    *,
    rank_map: Mapping[str, int] | None = None,
    ranks: Collection[int] | None = None,
    steps: Collection[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    store: Path | None = None,
    events_at_once: int | None = None,
) -> Run:
    """Read a run folder, a folder of traces, trace files, an op table (Parquet, CSV), or records of communication.

    `columns` maps our names of an op table's columns to the file's; `rank_map` gives the ranks of trace
    files by name or pattern; `ranks` and `steps` choose what to look at; `progress` is called with the
    bytes read so far and in all; `store` is an empty folder that may take the events of large traces, of which
    at most `events_at_once` are then in memory. Raises `InputError`
    if nothing can be used, `UsageError` if nothing that was chosen is here. A folder without traces that holds one op table
    is that table.
    """
    chosen = None if steps is None else frozenset(steps)
    if not isinstance(path, Paths) and (columns is not None or is_op_table(path)):
        return _op_table_run(str(path), _of_ranks(read_op_table(path, columns), ranks, str(path)), chosen)
    try:
        traces = read_traces(
            path, rank_map=rank_map, ranks=ranks, progress=progress, store=store, events_at_once=events_at_once
        )
    except NoTracesError:
        records = records_of_ranks(read_records(path), ranks)
        found, tables = summarize_records(records), op_tables_in(path)
        if found is None and len(tables) == 1:
            return _op_table_run(str(path), _of_ranks(read_op_table(tables[0]), ranks, str(path)), chosen)
        if found is None and tables:
            raise InputError(
                f"{path}: no trace, but {len(tables)} op tables ({', '.join(file.name for file in tables[:3])})",
                "give one of them",
            ) from None
        if found is None:
            raise
        return _recorded_run(str(path), records, found)
    records = read_records(path, traces.traced)
    folders = traces.record_folders
    described = traces.run_folder
    job = read_job(described) if described and describes_a_job(described) else None
    statuses = read_statuses(folders, job.job_id if job is not None else None)
    job = with_ranks(job, statuses) if job is not None else None
    return Run(
        path=str(path),
        traces=replace(traces, defects=with_defects(traces.defects, records)),
        records=records,
        job=job,
        step_records=_rows_of(read_step_records(folders), ranks),
        routing_records=_rows_of(read_routing_records(folders), ranks),
        promised=_promised(path, job, ranks),
        state=_state(statuses, records),
        steps=chosen,
    )


def _state(statuses: Sequence[RankStatus], records: Records) -> str | None:
    """How far a run came that did not complete, and by its flight recorders who kept the others waiting."""
    said = run_state(statuses, Observer.here()) if statuses else None
    waited = uncalled(records.flight) if said is not None else None
    return said if waited is None else f"{said} {waited}"


def _promised(path: Where, job: Job | None, ranks: Collection[int] | None) -> frozenset[int]:
    """Of a run folder the ranks that were to be traced, less those that were not asked for; of a single file none."""
    if job is None or not all(Path(each).is_dir() for each in each_of(path)):
        return frozenset()
    traced = range(job.world_size or 0) if job.traced_ranks is None else job.traced_ranks
    return frozenset(rank for rank in traced if ranks is None or rank in ranks)


def _rows_of(records: pl.DataFrame, ranks: Collection[int] | None) -> pl.DataFrame:
    return records if ranks is None else records.filter(pl.col("rank").is_in(list(ranks)))


def _of_ranks(ops: pl.DataFrame, ranks: Collection[int] | None, path: str) -> pl.DataFrame:
    kept = _rows_of(ops, ranks)
    if kept.is_empty() and not ops.is_empty():
        raise UsageError(
            f"{path}: none of the chosen ranks was captured", "choose among the ranks that are, or leave it out"
        )
    return kept


def with_declaration(run: Run, declared: Declaration) -> Run:
    """`run` with what is declared of its job; a declared description of the whole job replaces the folder's."""
    return replace(run, declared=declared, job=declared.job or run.job)


def _recorded_run(path: str, records: Records, found: Summary) -> Run:
    traces = Traces(
        ranks=found.ranks,
        defects=found.defects,
        counts=found.counts,
        run_folder=None,
        recorded=in_memory(empty(EVENTS)),
    )
    return Run(path, traces, None, empty(STEP_RECORDS), empty(ROUTING_RECORDS), records=records)


def _op_table_run(path: str, ops: pl.DataFrame, steps: frozenset[int] | None) -> Run:
    tables = tables_of_ops(ops, path)
    counts = Counts(events_seen=ops.height, events_kept=ops.height)
    traces = Traces(
        ranks=tables.ranks, defects=empty(DEFECTS), counts=counts, run_folder=None, recorded=in_memory(empty(EVENTS))
    )
    return Run(path, traces, None, empty(STEP_RECORDS), empty(ROUTING_RECORDS), ops, steps=steps)
