"""The subjects of an analysis, each with its part of the result, in the order in which they are reported."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from traceanalyzer.analysis.capture import Captured, events_of, without_steps
from traceanalyzer.analysis.run import Run
from traceanalyzer.gaps.causes.causes import pipeline_causes
from traceanalyzer.gaps.causes.explained import ExplainedPipeline, explained_pipeline
from traceanalyzer.gaps.communication.placement import PlacementGap, placement_gap
from traceanalyzer.gaps.culprits.culprits import CulpritGap, culprit_gap
from traceanalyzer.gaps.efficiency.declaration import declared_recompute
from traceanalyzer.gaps.efficiency.kernels import KernelGap, kernel_gap
from traceanalyzer.gaps.efficiency.operators import recorded_operators, telling_operators
from traceanalyzer.gaps.efficiency.prediction import PredictedMfu, predicted_mfu
from traceanalyzer.gaps.efficiency.shapes import EfficiencyGap, efficiency_gap
from traceanalyzer.gaps.efficiency.utilisation import UtilisationGap, utilisation_gap
from traceanalyzer.gaps.efficiency.waterfall import Blames, Waterfall, waterfall
from traceanalyzer.gaps.experts.imbalance import ExpertGap, expert_gap
from traceanalyzer.gaps.experts.sharding import ShardingGap, sharding_gap
from traceanalyzer.gaps.op_study.figures import WhatIfGap, what_if_gap
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.gaps.pipeline.bubble import PipelineGap, pipeline_gap
from traceanalyzer.gaps.pipeline.memory import MemoryGap, memory_gap
from traceanalyzer.gaps.sample.clock_trust import trusted_pipeline
from traceanalyzer.gaps.sample.host import HostGap, host_gap
from traceanalyzer.traces.kineto.execution_traces import read_execution_exchanges


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """Every subject's part. The order of the fields is the order in which the result lists what is withheld."""

    capture: Captured
    pipeline: ExplainedPipeline
    culprits: CulpritGap
    """Ranks that lengthen the step beyond their peers."""
    study: WhatIfGap
    experts: ExpertGap
    utilisation: UtilisationGap
    prediction: PredictedMfu
    losses: Waterfall
    efficiency: EfficiencyGap
    memory: MemoryGap
    host: HostGap
    sharding: ShardingGap
    kernel_time: KernelGap
    placement: PlacementGap

    @property
    def parts(self) -> tuple[SubjectPart, ...]:
        """All of them, in their order."""
        return tuple(getattr(self, field.name) for field in fields(self))


def subjects(run: Run, capture: Captured) -> Subjects:
    """The stages in their order: every subject's part, each from the tables and from parts above it.

    What the clocks hide was taken out of waits and transfers by `captured`; `trusted_pipeline` takes it out of the bubble.
    """
    job, declared, hidden = run.job, run.declared, capture.trusted.hidden
    bubble, capture = _pipeline(run, capture)
    everything = capture.everything
    tables, splits, messages = capture.typical.tables, capture.typical.splits, capture.typical.messages
    exchanged, account = capture.typical.exchanged, capture.typical.account
    operators = recorded_operators(run.traces.recorded.collected(telling_operators(tables.kernels)), tables)
    own_exchanges = read_execution_exchanges(run.path)

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
            detail,
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
        placement=placement_gap(tables, splits, messages),
    )


def _pipeline(run: Run, capture: Captured) -> tuple[PipelineGap, Captured]:
    """The bubble, and the capture whose typical steps are those that it was measured on: all figures are of one set.

    Steps that were chosen by hand stay typical, whether or not a pipeline can be measured on them.
    """
    bubble = _bubble(run, capture)
    unmeasured = set(capture.typical.tables.steps["step"]) - set(bubble.table["step"])
    if bubble.table.is_empty() or not unmeasured or run.steps is not None:
        return bubble, capture
    narrowed = without_steps(capture, unmeasured)
    again = _bubble(run, narrowed)
    return replace(again, withheld=bubble.withheld), narrowed


def _bubble(run: Run, capture: Captured) -> PipelineGap:
    typical = capture.typical
    hides_transfer = capture.trusted.hidden.get("p2p")
    gap = pipeline_gap(typical.tables, run.job, typical.splits, typical.exchanged, hides_transfer)
    return trusted_pipeline(gap, typical.tables, typical.exchanged)
