"""What was captured: tables of the run, wait and transfer of its communication, and the owner of every nanosecond."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import polars as pl

from traceanalyzer.analysis.run import Run
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.gaps.sample.clock_trust import TrustedSplits, trusted_splits
from traceanalyzer.gaps.sample.splits_by_clock import splits_by_clock
from traceanalyzer.gaps.sample.steps import CapturedSteps
from traceanalyzer.measurements.ledger.device import ambiguous_ns, device_accounting
from traceanalyzer.measurements.ledger.main_thread import accounting, main_thread_segments
from traceanalyzer.measurements.ledger.phases import gradient_exchanges, step_phases
from traceanalyzer.review import Withheld
from traceanalyzer.schema import conform, empty
from traceanalyzer.schema.pipeline import OWNER_SEGMENTS
from traceanalyzer.tables import Tables, build_tables, of_steps
from traceanalyzer.tables.actions.op_tables import tables_of_ops
from traceanalyzer.tables.clocks.alignment import on_one_clock
from traceanalyzer.tables.communication.communications import communications
from traceanalyzer.tables.communication.records import (
    recorded_collectives,
    recorded_messages,
    tables_of_records,
    with_recorded,
)
from traceanalyzer.tables.steps.typical import with_unmeasured


@dataclass(frozen=True, slots=True)
class Captured(SubjectPart):
    """Everything that later stages measure."""

    everything: CapturedSteps
    """What is printed and drawn of all steps."""
    typical: CapturedSteps
    """What figures speak of."""
    trusted: TrustedSplits
    ambiguous_ns: int | None
    """Of device ranks; None without any."""
    withheld: tuple[Withheld, ...]
    """Waits and transfers that the clocks hide."""

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """Of all steps."""
        tables = self.everything.tables
        return {
            "ranks": tables.ranks,
            "steps": tables.steps,
            "kernels": tables.kernels,
            "kernel_phases": tables.kernel_phases,
            "missing_kernels": tables.missing_kernels,
            "clocks": tables.clocks,
            "accounting": self.everything.account,
            "owner_segments": _main_thread_segments(tables, self.everything.splits),
            "p2p": self.everything.messages,
            "communications": self.everything.exchanged,
        }


def captured(run: Run) -> Captured:
    """Build the tables, split communication by clocks as far as these can be trusted, and account for every nanosecond."""
    tables = _tables(run)
    if run.steps is not None:
        tables = of_steps(tables, run.steps)
    trusted = trusted_splits(*splits_by_clock(tables))
    exchanged = communications(trusted.splits, trusted.messages)
    account = _account(tables, trusted.splits, exchanged)
    everything = CapturedSteps(tables, trusted.splits, trusted.messages, exchanged, account)
    typical = everything.typical()
    ambiguous = _ambiguous_ns(typical.tables, typical.exchanged)
    return Captured(everything, typical, trusted, ambiguous, trusted.withheld)


def without_steps(capture: Captured, steps: Collection[int]) -> Captured:
    """The capture with these steps of a pipelined job set apart, too: no pipeline could be measured on them."""
    everything = capture.everything
    marked = with_unmeasured(everything.tables.steps, steps)
    everything = replace(everything, tables=replace(everything.tables, steps=marked))
    typical = everything.typical()
    ambiguous = _ambiguous_ns(typical.tables, typical.exchanged)
    return replace(capture, everything=everything, typical=typical, ambiguous_ns=ambiguous)


def events_of(run: Run, tables: Tables) -> Callable[[int], pl.DataFrame]:
    """Events of one rank on the tables' clock."""
    return lambda rank: on_one_clock(run.traces.recorded.of_rank(rank), tables.clocks)


def _tables(run: Run) -> Tables:
    """Of traces with what records say of their collectives, of records alone, or of an op table."""
    if run.ops is not None:
        return tables_of_ops(run.ops, run.path)
    dumps = run.records
    calls = recorded_collectives(dumps.flight, dumps.inspector)
    if not run.traces.num_events:
        return tables_of_records(run.traces.ranks, calls, recorded_messages(dumps.flight, dumps.inspector))
    tables = build_tables(
        run.traces.recorded,
        run.traces.ranks,
        run.job,
        run.routing_records,
        run.declared.action_pattern,
        run.declared.kernel_rules,
    )
    return tables if calls.is_empty() else with_recorded(tables, calls)


def _account(tables: Tables, splits: pl.DataFrame, exchanged: pl.DataFrame) -> pl.DataFrame:
    """Owners of every rank's steps: by kernels where the rank has a device, by its main thread where it has none."""
    on_device = tables.steps.join(tables.kernels, on="rank", how="semi")
    on_main = tables.steps.join(tables.kernels, on="rank", how="anti")
    computed = pl.concat(
        [frame.select("rank", "start_ns", "end_ns") for frame in (tables.actions, tables.expert_computation)]
    )
    chunks = pl.concat(
        [frame.select("rank", "phase", "start_ns", "end_ns") for frame in (tables.actions, tables.passes)]
    )
    phases = step_phases(tables.steps, chunks, tables.optimizer, gradient_exchanges(splits))
    parts = [
        accounting(on_main, computed, tables.operators, tables.receives, splits, phases, hosts=tables.host_ranks),
        device_accounting(on_device, tables.kernels, exchanged, phases, tables.missing_kernels),
    ]
    return pl.concat(parts).sort("rank", "step", "owner", "cause", "phase")


def _main_thread_segments(tables: Tables, splits: pl.DataFrame) -> pl.DataFrame:
    """`OWNER_SEGMENTS`: owners of ranks without device, as the accounting sums them up."""
    on_main = tables.steps.join(tables.kernels, on="rank", how="anti")
    if on_main.is_empty():
        return empty(OWNER_SEGMENTS)
    computed = pl.concat(
        [frame.select("rank", "start_ns", "end_ns") for frame in (tables.actions, tables.expert_computation)]
    )
    found = main_thread_segments(on_main, computed, tables.operators, tables.receives, splits, hosts=tables.host_ranks)
    return conform(found.sort("rank", "start_ns"), OWNER_SEGMENTS)


def _ambiguous_ns(tables: Tables, exchanged: pl.DataFrame) -> int | None:
    on_device = tables.steps.join(tables.kernels, on="rank", how="semi")
    return None if on_device.is_empty() else ambiguous_ns(on_device, tables.kernels, exchanged)
