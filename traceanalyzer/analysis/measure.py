"""Everything that is measured of a run and set against theory, part by part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from msgspec.structs import replace

from traceanalyzer.analysis.run import Run
from traceanalyzer.gaps.causes.causes import PipelineCauses, pipeline_causes, with_causes
from traceanalyzer.gaps.checks.culprits import slow_ranks
from traceanalyzer.gaps.communication.recorded import recorded_figures
from traceanalyzer.gaps.culprits.culprits import CulpritGap, culprit_gap, stage_of
from traceanalyzer.gaps.efficiency.declaration import declared_recompute
from traceanalyzer.gaps.efficiency.kernels import KernelGap, kernel_gap
from traceanalyzer.gaps.efficiency.operators import recorded_operators
from traceanalyzer.gaps.efficiency.prediction import PredictedMfu, predicted_mfu
from traceanalyzer.gaps.efficiency.shapes import EfficiencyGap, efficiency_gap
from traceanalyzer.gaps.efficiency.utilisation import UtilisationGap, utilisation_gap
from traceanalyzer.gaps.efficiency.waterfall import Blames, Waterfall, waterfall
from traceanalyzer.gaps.experts.imbalance import ExpertGap, expert_gap
from traceanalyzer.gaps.experts.sharding import expert_gemms, expert_sharding
from traceanalyzer.gaps.op_study.figures import WhatIfGap, what_if_gap
from traceanalyzer.gaps.pipeline.bubble import PipelineGap, pipeline_gap
from traceanalyzer.gaps.pipeline.communication import main_thread_ranks
from traceanalyzer.gaps.pipeline.memory import MemoryGap, memory_gap
from traceanalyzer.gaps.sample.captured import sample
from traceanalyzer.gaps.sample.claims import by_coverage, forbidden, told
from traceanalyzer.gaps.sample.clock_trust import TrustedSplits, trusted_pipeline, trusted_splits
from traceanalyzer.gaps.sample.clocked_splits import clocked_splits
from traceanalyzer.gaps.sample.steps import CapturedSteps
from traceanalyzer.measurements.capture.validity import Validity, validity
from traceanalyzer.measurements.communication.links import links
from traceanalyzer.measurements.communication.wait_bounds import wait_bounds
from traceanalyzer.measurements.efficiency.mfu import median_step
from traceanalyzer.measurements.efficiency.recompute import Recomputed
from traceanalyzer.measurements.ledger.device import ambiguous_ns, device_accounting
from traceanalyzer.measurements.ledger.main_thread import accounting
from traceanalyzer.measurements.ledger.phases import gradient_exchanges, step_phases
from traceanalyzer.review import (
    AllToAll,
    Bubble,
    ClockEffect,
    ExpertSharding,
    Mfu,
    Recorded,
    Sample,
    StragglerFigures,
    Withheld,
)
from traceanalyzer.schema import ACTIONS, conform
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
from traceanalyzer.traces.kineto.execution_traces import read_execution_exchanges

NO_KERNELS = "kernels were launched and none was recorded, so nothing tells what the device did"


@dataclass(frozen=True, slots=True)
class Measured:
    """Tables, measurements and gaps of one run."""

    tables: Tables
    """Of the typical steps, as are all measurements."""
    everything: CapturedSteps
    """What is printed and drawn of all steps."""
    trusted: TrustedSplits
    clock_effects: tuple[ClockEffect, ...]
    """What the clocks' uncertainty does to metrics that compare ranks."""
    actions: pl.DataFrame
    """`ACTIONS`, with stages and microbatches where they had to be inferred."""
    messages: pl.DataFrame
    """`P2P_SPLITS`."""
    account: pl.DataFrame
    """`ACCOUNTING`."""
    ambiguous_ns: int | None
    """Of device ranks; None without any."""
    recorded: Recorded | None
    """What communication libraries recorded themselves."""
    trust: Validity
    pipeline: PipelineGap
    causes: PipelineCauses
    culprits: CulpritGap
    """Ranks that lengthen the step beyond their peers."""
    study: WhatIfGap
    experts: ExpertGap
    sharding: ExpertSharding | None
    utilisation: UtilisationGap
    prediction: PredictedMfu
    way: Waterfall
    efficiency: EfficiencyGap
    memory: MemoryGap
    kernel_time: KernelGap
    waits: pl.DataFrame
    """`WAIT_BOUNDS`."""
    captured: Sample
    recomputed: Recomputed
    """What backward computes again, as the traces tell."""

    @property
    def bubble(self) -> Bubble | None:
        """The bubble section with its causes, as far as these ranks tell."""
        return told(with_causes(self.pipeline.figures, self.causes), "bubble", self.captured)

    @property
    def all_to_all(self) -> AllToAll | None:
        """The section on expert exchanges, as far as these ranks tell."""
        return told(self.experts.figures, "all_to_all", self.captured)

    @property
    def stragglers(self) -> list[StragglerFigures]:
        """Slow ranks, where these ranks tell."""
        silent = any("stragglers" in claim.fields for claim in forbidden(self.captured).values())
        limit = self.causes.fault_limit_ms or 0.0
        known = [] if silent else [each for each in self.causes.stragglers if each.cost_ms > limit]
        step = median_step(self.tables.steps) if self.culprits.faults else None
        return slow_ranks(known, self.culprits.faults, stage_of(self.actions), step[1] / 1e6 if step else None)

    @property
    def mfu(self) -> Mfu:
        """The MFU section with its prediction."""
        return replace(
            self.utilisation.figures, predicted_mfu=self.prediction.mfu, predicted_step_ms=self.prediction.step_ms
        )

    @property
    def withheld(self) -> list[Withheld]:
        """What is not given, and why, part by part."""
        parts = (
            self.trusted,
            self.pipeline,
            self.causes,
            self.culprits,
            self.study,
            self.experts,
            self.utilisation,
            self.prediction,
            self.way,
            self.efficiency,
            self.memory,
        )
        found = [self._named(item) for part in parts for item in part.withheld] + self._never_given
        found += by_coverage(self.captured, found)
        if self.tables.steps.is_empty() and self.tables.unrecorded_devices:
            return [Withheld(metric=item.metric, reason=NO_KERNELS) for item in found]
        if self.recorded is None or self.tables.steps.height:
            return found
        reason = "no trace is here: records of communication tell nothing of it"
        return [Withheld(metric=item.metric, reason=reason) for item in found]

    def _named(self, item: Withheld) -> Withheld:
        """Where blame is told without a bubble, only the measured figure is withheld."""
        told = item.metric == "bubble" and self.bubble is not None
        return Withheld(metric="bubble.measured_share", reason=item.reason) if told else item

    @property
    def _never_given(self) -> list[Withheld]:
        reasons: dict[str, str] = {}
        if self.trust.action_spread is None:
            reasons["validity.action_spread"] = (
                "no rank computes on its host in four or more equal actions of at least 1 ms"
            )
        if self.sharding is not None and not self.sharding.gemms:
            reasons["expert_sharding.gemms"] = (
                "no shapes were recorded inside ranges of expert computation, or a paced or disturbed run: their times are "
                "not the hardware's"
            )
        return [Withheld(metric=metric, reason=reason) for metric, reason in reasons.items()]


def measure(run: Run) -> Measured:
    """Every measurement of a run."""
    tables, alone = _tables(run), run.ops is None and run.traces.events.is_empty()
    if run.steps is not None:
        tables = of_steps(tables, run.steps)
    peaks = links(tables.ranks)
    trusted = trusted_splits(*clocked_splits(tables))
    exchanged = communications(trusted.splits, trusted.messages)
    account = _account(tables, trusted.splits, exchanged)
    everything = CapturedSteps(tables, trusted.splits, trusted.messages, exchanged, account)
    typical = everything.typical()
    tables, splits, messages = typical.tables, typical.splits, typical.messages
    exchanged, account = typical.exchanged, typical.account
    hides_transfer = trusted.hidden.get("p2p")
    pipeline, clocked = trusted_pipeline(
        pipeline_gap(tables, run.job, splits, exchanged, hides_transfer), tables, exchanged
    )
    causes = pipeline_causes(pipeline, tables, run.job, run.declared)
    actions = tables.actions if pipeline.actions.is_empty() else conform(pipeline.actions, ACTIONS)
    on_host = main_thread_ranks(tables).join(tables.host_ranks, on="rank", how="semi")
    judged = tables.actions if pipeline.actions.is_empty() else pipeline.actions
    trust = validity(run.step_records, judged.join(on_host, on="rank", how="semi"), tables.steps)
    operators = recorded_operators(run.traces.events, tables)
    utilisation = utilisation_gap(tables, run.step_records, run.job, run.declared, operators, trust)
    bubble = with_causes(pipeline.figures, causes)
    own, hides_split = read_execution_exchanges(run.path), trusted.hidden.get("all_to_all")
    experts = expert_gap(tables, splits, run.job, run.routing_records, own, hides_split, causes.steps)
    waits = wait_bounds(splits, messages, peaks)
    blames = Blames(pipeline=causes, experts=experts.tables.expert_blame)
    return Measured(
        tables=tables,
        everything=everything,
        trusted=trusted,
        clock_effects=(*trusted.effects, *clocked),
        actions=actions,
        messages=messages,
        account=account,
        ambiguous_ns=_ambiguous_ns(tables, exchanged),
        recorded=recorded_figures(run.records, everything.splits, alone=alone),
        trust=trust,
        pipeline=pipeline,
        causes=causes,
        culprits=culprit_gap(
            everything.tables,
            everything.splits,
            everything.messages,
            everything.tables.actions if pipeline.actions.is_empty() else actions,
            experts.tables,
            _events_of(run, tables),
        ),
        study=what_if_gap(run.ops),
        experts=experts,
        sharding=expert_sharding(
            experts.tables.collectives,
            experts.tables.traffic,
            run.job,
            expert_gemms(tables.expert_computation, operators.timed) if utilisation.faithful else [],
        ),
        utilisation=utilisation,
        prediction=predicted_mfu(utilisation, pipeline, account, exchanged),
        way=waterfall(utilisation, bubble, account, tables, operators.timed, splits, blames),
        efficiency=efficiency_gap(operators, utilisation, tables.steps, declared_recompute(run.job, run.declared)),
        memory=memory_gap(pipeline, run.step_records, run.job),
        kernel_time=kernel_gap(tables, splits, messages, account),
        waits=waits,
        captured=sample(tables, experts.tables.collectives, waits, bubble, run.job),
        recomputed=operators.recomputed,
    )


def _events_of(run: Run, tables: Tables) -> Callable[[int], pl.DataFrame]:
    """Events of one rank on the tables' clock."""
    return lambda rank: on_one_clock(run.traces.events.filter(pl.col("rank") == rank), tables.clocks)


def _tables(run: Run) -> Tables:
    """Of traces with what records say of their collectives, of records alone, or of an op table."""
    if run.ops is not None:
        return tables_of_ops(run.ops, run.path)
    dumps = run.records
    told = recorded_collectives(dumps.flight, dumps.inspector)
    if run.traces.events.is_empty():
        return tables_of_records(run.traces.ranks, told, recorded_messages(dumps.flight, dumps.inspector))
    tables = build_tables(
        run.traces.events,
        run.traces.ranks,
        run.job,
        run.routing_records,
        run.declared.action_pattern,
        run.declared.kernel_rules,
    )
    return tables if told.is_empty() else with_recorded(tables, told)


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


def _ambiguous_ns(tables: Tables, exchanged: pl.DataFrame) -> int | None:
    on_device = tables.steps.join(tables.kernels, on="rank", how="semi")
    return None if on_device.is_empty() else ambiguous_ns(on_device, tables.kernels, exchanged)
