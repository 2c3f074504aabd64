"""What the hosts of the ranks did to the timeline: the part on its validity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.gaps.pipeline.bubble import PipelineGap
from traceanalyzer.gaps.pipeline.communication import main_thread_ranks
from traceanalyzer.measurements.capture.validity import Validity, validity
from traceanalyzer.review import ValidityFigures, Withheld
from traceanalyzer.tables import Tables


@dataclass(frozen=True, slots=True)
class HostGap(SubjectPart):
    """The section on validity."""

    figures: ValidityFigures
    trust: Validity
    withheld: tuple[Withheld, ...]

    @property
    def sections(self) -> Mapping[str, object]:
        """The timeline's validity."""
        return {"validity": self.figures}


def host_gap(step_records: pl.DataFrame, pipeline: PipelineGap, tables: Tables) -> HostGap:
    """Judge by `STEP_RECORDS`, and by the actions of ranks that compute on their hosts."""
    on_host = main_thread_ranks(tables).join(tables.host_ranks, on="rank", how="semi")
    judged = tables.actions if pipeline.actions.is_empty() else pipeline.actions
    trust = validity(step_records, judged.join(on_host, on="rank", how="semi"), tables.steps)
    reason = "no rank computes on its host in four or more equal actions of at least 1 ms"
    unknown = trust.action_spread is None
    return HostGap(
        ValidityFigures(
            verdict=trust.verdict,
            cpu_pressure_share=trust.cpu_pressure_share,
            involuntary_switches_per_second=trust.involuntary_switches_per_second,
            action_spread=trust.action_spread,
            reasons=list(trust.reasons),
        ),
        trust,
        (Withheld(metric="validity.action_spread", reason=reason),) if unknown else (),
    )
