"""A run as read: traces, their description and side files, or an op table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from traceanalyzer.gaps.declaration import NOTHING, Declaration
from traceanalyzer.job import Job
from traceanalyzer.schema import DEFECTS, EVENTS, STEP_RECORDS, empty
from traceanalyzer.tables.from_ops import tables_of_ops
from traceanalyzer.traces import Counts, Traces, read_job, read_routing_records, read_step_records, read_traces
from traceanalyzer.traces.op_table import is_op_table, read_op_table
from traceanalyzer.traces.run_folder import ROUTING_RECORDS


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
    declared: Declaration = NOTHING
    """What was said of the job beside its traces."""


def read(
    path: Path | str, columns: Mapping[str, str] | None = None, *, rank_map: Mapping[str, int] | None = None
) -> Run:
    """Read a run folder, a folder of traces, one trace file or an op table (Parquet, CSV).

    `columns` maps our names of an op table's columns to the file's; `rank_map` gives the ranks of trace
    files by name or pattern. Raises `InputError` if nothing can be used.
    """
    if columns is not None or is_op_table(path):
        return _op_table_run(str(path), read_op_table(path, columns))
    traces = read_traces(path, rank_map=rank_map)
    folder = traces.run_folder
    return Run(
        path=str(path),
        traces=traces,
        job=read_job(folder) if folder else None,
        step_records=read_step_records(folder) if folder else empty(STEP_RECORDS),
        routing_records=read_routing_records(folder) if folder else empty(ROUTING_RECORDS),
    )


def with_declaration(run: Run, declared: Declaration) -> Run:
    """`run` with what is declared of its job; a declared description of the whole job replaces the folder's."""
    return replace(run, declared=declared, job=declared.job or run.job)


def _op_table_run(path: str, ops: pl.DataFrame) -> Run:
    tables = tables_of_ops(ops, path)
    counts = Counts(events_seen=ops.height, events_kept=ops.height)
    traces = Traces(ranks=tables.ranks, defects=empty(DEFECTS), counts=counts, run_folder=None, events=empty(EVENTS))
    return Run(path, traces, None, empty(STEP_RECORDS), empty(ROUTING_RECORDS), ops)
