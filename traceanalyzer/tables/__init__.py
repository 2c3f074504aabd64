"""Events become tables of steps, actions, receives, collectives and routing on one clock."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.job import Job
from traceanalyzer.tables.actions import actions
from traceanalyzer.tables.clocks import ClockState, align
from traceanalyzer.tables.collectives import collectives
from traceanalyzer.tables.operators import expert_computation, operators
from traceanalyzer.tables.receives import receives
from traceanalyzer.tables.routing import routing
from traceanalyzer.tables.steps import steps

__all__ = ["ClockState", "Tables", "build_tables"]


@dataclass(frozen=True, slots=True)
class Tables:
    """What a run's events say, table by table (`traceanalyzer.schema`), all on one clock."""

    ranks: pl.DataFrame
    steps: pl.DataFrame
    actions: pl.DataFrame
    receives: pl.DataFrame
    collectives: pl.DataFrame
    operators: pl.DataFrame
    """`rank`, `start_ns`, `end_ns` of operators on the main thread; they may nest."""
    expert_computation: pl.DataFrame
    """`rank`, `step`, `part`, `layer`, `start_ns`, `end_ns`."""
    routing: pl.DataFrame
    clock: ClockState


def build_tables(events: pl.DataFrame, ranks: pl.DataFrame, job: Job | None, routing_records: pl.DataFrame) -> Tables:
    """Every table of a run from its events (`EVENTS`), ranks (`RANKS`), description and routing side file."""
    aligned, clock = align(events, ranks, job)
    windows = steps(aligned)
    received = receives(aligned, windows)
    exchanged = collectives(aligned, windows, ranks)
    return Tables(
        ranks=ranks,
        steps=windows,
        actions=actions(aligned, windows, received),
        receives=received,
        collectives=exchanged,
        operators=operators(aligned),
        expert_computation=expert_computation(aligned, windows),
        routing=routing(routing_records, exchanged, windows),
        clock=clock,
    )
