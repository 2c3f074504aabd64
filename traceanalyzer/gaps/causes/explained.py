"""The pipeline's part of the result: the bubble with its causes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from msgspec.structs import replace

from traceanalyzer.gaps.causes.causes import PipelineCauses
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.gaps.pipeline.bubble import PipelineGap
from traceanalyzer.review import Bubble, Withheld
from traceanalyzer.schema import ACTIONS, conform


@dataclass(frozen=True, slots=True)
class ExplainedPipeline(SubjectPart):
    """The bubble section with its causes, and the tables of both."""

    figures: Bubble | None
    gap: PipelineGap
    causes: PipelineCauses
    actions: pl.DataFrame
    """`ACTIONS`, with stages and microbatches where they had to be inferred; as recorded where no pipeline was measured."""
    withheld: tuple[Withheld, ...]

    @property
    def sections(self) -> Mapping[str, object]:
        """What to try next; how much of the bubble may be claimed, `analysis.claimed` says."""
        return {"next_schedules": self.causes.next_schedules}

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """Measured and ideal actions, attribution and blame."""
        return {
            "ideal_actions": self.gap.ideal_actions,
            "bubble": self.gap.table,
            "attribution": self.causes.attribution_table,
            "blame": self.causes.blame_table,
        }


def explained_pipeline(gap: PipelineGap, causes: PipelineCauses, recorded: pl.DataFrame) -> ExplainedPipeline:
    """Join the bubble and its causes; causes alone if only some stages were captured. `recorded` is `ACTIONS`."""
    actions = recorded if gap.actions.is_empty() else conform(gap.actions, ACTIONS)
    figures = _with_causes(gap.figures, causes)
    withheld = gap.withheld if figures is None else tuple(_of_figure_alone(item) for item in gap.withheld)
    return ExplainedPipeline(figures, gap, causes, actions, (*withheld, *causes.withheld))


def _of_figure_alone(item: Withheld) -> Withheld:
    """With causes but without a bubble, only the measured figure is withheld."""
    return replace(item, metric="bubble.measured_share") if item.metric == "bubble" else item


def _with_causes(bubble: Bubble | None, causes: PipelineCauses) -> Bubble | None:
    if bubble is None and causes.attribution_ms is None:
        return None
    return replace(
        bubble or _UNMEASURED,
        attribution_ms=causes.attribution_ms,
        culprits=list(causes.culprits),
        blame=list(causes.blame),
        worth=list(causes.worth),
        replay_error=causes.replay_error,
        stragglers_separable=causes.separable,
        largest_fault=causes.fault,
        fault_limit_ms=causes.fault_limit_ms,
    )


_UNMEASURED = Bubble(
    measured_share=None,
    measured_ratio=None,
    span_share=None,
    idle_share=None,
    transfer_share=None,
    share_of_step=None,
    overhead_share=None,
    phase_ms=None,
    theory=None,
    stages=[],
    steps=[],
)
