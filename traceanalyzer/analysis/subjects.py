"""The subjects of an analysis, each with its part of the result, in the order in which they are told."""

from __future__ import annotations

from dataclasses import dataclass, fields

from traceanalyzer.analysis.capture import Captured
from traceanalyzer.gaps.causes.explained import ExplainedPipeline
from traceanalyzer.gaps.culprits.culprits import CulpritGap
from traceanalyzer.gaps.efficiency.kernels import KernelGap
from traceanalyzer.gaps.efficiency.prediction import PredictedMfu
from traceanalyzer.gaps.efficiency.shapes import EfficiencyGap
from traceanalyzer.gaps.efficiency.utilisation import UtilisationGap
from traceanalyzer.gaps.efficiency.waterfall import Waterfall
from traceanalyzer.gaps.experts.imbalance import ExpertGap
from traceanalyzer.gaps.experts.sharding import ShardingGap
from traceanalyzer.gaps.op_study.figures import WhatIfGap
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.gaps.pipeline.memory import MemoryGap
from traceanalyzer.gaps.sample.host import HostGap


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

    @property
    def parts(self) -> tuple[SubjectPart, ...]:
        """All of them, in their order."""
        return tuple(getattr(self, field.name) for field in fields(self))
