"""What flight-recorder dumps and NCCL Inspector records say of a run: who is missing, what hangs, who came last."""

from __future__ import annotations

from typing import Any

import polars as pl

from traceanalyzer.gaps.communication.desync import agreement, desyncs
from traceanalyzer.measurements.communication.recorded import (
    inspector_bandwidth,
    late_by_durations,
    mismatched_calls,
    missing_callers,
    unfinished_calls,
)
from traceanalyzer.review import (
    LateRank,
    Mismatch,
    MissingCall,
    Recorded,
    RecordedOperation,
    RecordedSource,
    UnfinishedCall,
)
from traceanalyzer.review.vocabulary import RecordSource
from traceanalyzer.review.words import counted, milliseconds
from traceanalyzer.traces.nccl.records import Records

_SHOWN = 20
_FIRST = 2
_HARMLESS = (
    "shapes", "all_called", "versions", "under_way", "unlisted", "forgotten", "left_out", "not_reached",
)  # fmt: skip
_BESIDES = ("shapes", "versions")
"""What says nothing of who did not call."""


def recorded_figures(records: Records, splits: pl.DataFrame, *, alone: bool) -> Recorded | None:
    """The section of the review; None without records. `splits` is `COLLECTIVE_SPLITS`; `alone`: they are of records only."""
    if records.is_empty:
        return None
    apart = desyncs(records)
    missing, unfinished = missing_callers(records.flight), unfinished_calls(records.flight)
    operations = inspector_bandwidth(records.inspector).head(_SHOWN)
    return Recorded(
        sources=_sources(records, splits, alone=alone),
        num_apart=len(apart),
        apart=apart[:_SHOWN],
        agreement=None
        if records.dumps.is_empty() or any(a.kind not in _BESIDES for a in apart)
        else agreement(records),
        num_missing=missing.height,
        missing=[
            MissingCall(group=group, operation=name, sequence=number, called=called, missing=absent)
            for group, number, name, called, absent in missing.head(_SHOWN).iter_rows()
        ],
        mismatched=[
            Mismatch(group=group, sequence=number, calls=calls)
            for group, number, calls in mismatched_calls(records.flight).head(_SHOWN).iter_rows()
        ],
        num_unfinished=unfinished.height,
        unfinished=[
            UnfinishedCall(rank=rank, group=group, operation=name, sequence=number, state=state)
            for rank, group, name, number, state in unfinished.head(_SHOWN).iter_rows()
        ],
        operations=[_operation(row) for row in operations.iter_rows(named=True)],
        late=[
            LateRank(source=source, rank=rank, num_collectives=count, wait_ms=wait / 1e6)
            for source, rank, count, wait in late_by_durations(splits).iter_rows()
        ],
    )


def recorded_sentences(found: Recorded | None) -> list[str]:
    """What to say first of records without traces: who did not call what, then what is here."""
    if found is None:
        return []
    what = " and ".join(
        f"{counted(source.num_records, 'record')} of {source.source.replace('_', ' ')} from "
        f"{counted(len(source.ranks), 'rank') if source.ranks else 'unknown ranks'}"
        for source in found.sources
    )
    none = f"There is no trace, but {what}. Steps, bubble and MFU do not follow from them."
    late = [
        f"Rank {late.rank} is waited for most: {milliseconds(late.wait_ms)} over {counted(late.num_collectives, 'collective')}."
        for late in found.late[:1]
    ]
    return [*apart_sentences(found), *late, none]


def apart_sentences(found: Recorded | None, *, faults_only: bool = False) -> list[str]:
    """Who did not call what, at most two sentences; empty if the dumps agree.

    `faults_only`: without what a sound run shows too, a call under way when the dumps were written.
    """
    faults_found = [] if found is None else found.apart
    faults = [apart.said for apart in faults_found if apart.kind not in _HARMLESS][:_FIRST]
    if faults or faults_only or found is None:
        return faults
    return [*(apart.said for apart in faults_found[:1]), *([] if found.agreement is None else [found.agreement])]


def _sources(records: Records, splits: pl.DataFrame, *, alone: bool) -> list[RecordedSource]:
    parts: tuple[tuple[RecordSource, pl.DataFrame, pl.Series], ...] = (
        ("flight_recorder", records.flight, records.dumps["rank"]),
        ("nccl_inspector", records.inspector, records.inspector["job_rank"]),
    )
    return [
        RecordedSource(
            source=name,
            ranks=ranks.drop_nulls().unique().sort().to_list(),
            num_records=rows.height,
            num_joined=None if alone else splits.filter(pl.col("source") == name).height,
        )
        for name, rows, ranks in parts
        if not ranks.is_empty()
    ]


def _operation(row: dict[str, Any]) -> RecordedOperation:
    bus = row["bus_bytes_per_second"]
    return RecordedOperation(
        communicator=str(row["communicator"]),
        kind=str(row["kind"]),
        bytes=int(row["bytes"] or 0),
        num_members=int(row["num_members"]),
        num_operations=int(row["num_operations"]),
        median_us=row["median_ns"] / 1e3,
        bus_bandwidth_gbps=None if bus is None else bus / 1e9,
        wait_share=row["wait_share"],
    )
