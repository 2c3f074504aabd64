"""Everything that is measured of a run and set against theory: the stages, in their order."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.analysis.capture import Captured, captured, events_of
from traceanalyzer.analysis.claimed import Claimed, claimed
from traceanalyzer.analysis.run import Run
from traceanalyzer.analysis.step_figures import step_figures, with_rates
from traceanalyzer.analysis.subjects import Subjects
from traceanalyzer.gaps.causes.causes import pipeline_causes
from traceanalyzer.gaps.causes.explained import explained_pipeline
from traceanalyzer.gaps.communication.recorded import recorded_figures
from traceanalyzer.gaps.culprits.culprits import culprit_gap
from traceanalyzer.gaps.efficiency.declaration import declared_recompute
from traceanalyzer.gaps.efficiency.kernels import kernel_gap
from traceanalyzer.gaps.efficiency.operators import recorded_operators
from traceanalyzer.gaps.efficiency.prediction import predicted_mfu, with_prediction
from traceanalyzer.gaps.efficiency.shapes import efficiency_gap
from traceanalyzer.gaps.efficiency.utilisation import utilisation_gap
from traceanalyzer.gaps.efficiency.waterfall import Blames, waterfall
from traceanalyzer.gaps.experts.imbalance import expert_gap
from traceanalyzer.gaps.experts.sharding import sharding_gap
from traceanalyzer.gaps.op_study.figures import what_if_gap
from traceanalyzer.gaps.pipeline.bubble import pipeline_gap
from traceanalyzer.gaps.pipeline.memory import memory_gap
from traceanalyzer.gaps.sample.captured import sample
from traceanalyzer.gaps.sample.clock_trust import trusted_pipeline
from traceanalyzer.gaps.sample.host import host_gap
from traceanalyzer.measurements.communication.links import links
from traceanalyzer.measurements.communication.wait_bounds import wait_bounds
from traceanalyzer.review import ClockEffect, Mfu, Recorded, Sample, StepFigures
from traceanalyzer.tables import Tables
from traceanalyzer.traces.kineto.execution_traces import read_execution_exchanges


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The subjects' parts, what is said of all of them, and what the captured ranks allow to be claimed."""

    subjects: Subjects
    step: StepFigures
    mfu: Mfu
    """With its prediction and rates."""
    recorded: Recorded | None
    """What communication libraries recorded themselves."""
    waits: pl.DataFrame
    """`WAIT_BOUNDS`."""
    captured: Sample
    claimed: Claimed

    @property
    def tables(self) -> Tables:
        """Of the typical steps, as are all measurements."""
        return self.subjects.capture.typical.tables

    @property
    def clock_effects(self) -> tuple[ClockEffect, ...]:
        """What the clocks' uncertainty does to metrics that compare ranks."""
        return (*self.subjects.capture.trusted.effects, *self.subjects.pipeline.gap.clock_effects)


def measure(run: Run) -> Measured:
    """Every measurement of a run: what was captured, every subject's part of it, and what of that may be claimed."""
    capture = captured(run)
    typical = capture.typical
    subjects = _subjects(run, capture)
    step = step_figures(typical.tables, capture.everything.tables, run)
    waits = wait_bounds(typical.splits, typical.messages, links(typical.tables.ranks))
    exchanges = subjects.experts.detail.collectives
    coverage = sample(typical.tables, exchanges, waits, subjects.pipeline.figures, run.job)
    alone = run.ops is None and run.traces.events.is_empty()
    recorded = recorded_figures(run.records, capture.everything.splits, alone=alone)
    return Measured(
        subjects=subjects,
        step=step,
        mfu=with_rates(with_prediction(subjects.utilisation.figures, subjects.prediction), step),
        recorded=recorded,
        waits=waits,
        captured=coverage,
        claimed=claimed(subjects, coverage, recorded),
    )


def _subjects(run: Run, capture: Captured) -> Subjects:
    """Every subject's part, each from the tables and from parts above it.

    What the clocks hide was taken out of waits and transfers by `captured`; `trusted_pipeline` takes it out of the bubble.
    """
    job, declared, everything, hidden = run.job, run.declared, capture.everything, capture.trusted.hidden
    tables, splits, messages = capture.typical.tables, capture.typical.splits, capture.typical.messages
    exchanged, account = capture.typical.exchanged, capture.typical.account
    operators = recorded_operators(run.traces.events, tables)
    own_exchanges = read_execution_exchanges(run.path)

    bubble = trusted_pipeline(pipeline_gap(tables, job, splits, exchanged, hidden.get("p2p")), tables, exchanged)
    causes = pipeline_causes(bubble, tables, job, declared)
    pipeline = explained_pipeline(bubble, causes, tables.actions)
    host = host_gap(run.step_records, bubble, tables)
    mfu = utilisation_gap(tables, run.step_records, job, declared, operators, host.trust)
    experts = expert_gap(
        tables, splits, job, run.routing_records, own_exchanges, hidden.get("all_to_all"), causes.steps
    )
    detail, timed = experts.detail, operators.timed
    blames = Blames(pipeline=causes, experts=detail.expert_blame)
    return Subjects(
        capture=capture,
        pipeline=pipeline,
        culprits=culprit_gap(
            everything.tables,
            everything.splits,
            everything.messages,
            everything.tables.actions if bubble.actions.is_empty() else pipeline.actions,
            detail.collectives,
            events_of(run, tables),
        ),
        study=what_if_gap(run.ops),
        experts=experts,
        utilisation=mfu,
        prediction=predicted_mfu(mfu, bubble, account, exchanged),
        losses=waterfall(mfu, bubble.figures, account, tables, timed, splits, blames),
        efficiency=efficiency_gap(operators, mfu, tables.steps, declared_recompute(job, declared)),
        memory=memory_gap(bubble, run.step_records, job),
        host=host,
        sharding=sharding_gap(detail, tables.expert_computation, timed, job, faithful=mfu.faithful),
        kernel_time=kernel_gap(tables, splits, messages, account),
    )
