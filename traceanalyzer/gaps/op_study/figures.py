"""The what-if study of an op table in the review's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.gaps.op_study.graph import P2P
from traceanalyzer.gaps.op_study.study import what_if
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.review import WhatIfFigures, Withheld


@dataclass(frozen=True, slots=True)
class WhatIfGap(SubjectPart):
    """Figures, or why there are none; neither where no op table was read."""

    figures: WhatIfFigures | None = None
    withheld: tuple[Withheld, ...] = ()

    @property
    def sections(self) -> Mapping[str, object]:
        """The study."""
        return {"what_if": self.figures}


def what_if_gap(ops: pl.DataFrame | None) -> WhatIfGap:
    """Run the study on `OPS`."""
    if ops is None:
        return WhatIfGap()
    if ops["stage"].n_unique() > 1 and not ops["kind"].is_in(P2P).any():
        reason = "the op table holds no sends and receives, which the study's dependencies rest on"
        return WhatIfGap(withheld=(Withheld(metric="what_if", reason=reason),))
    try:
        found = what_if(ops)
    except InputError as error:
        return WhatIfGap(withheld=(Withheld(metric="what_if", reason=error.message),))
    num_steps = len(found.measured_ns)
    return WhatIfGap(
        WhatIfFigures(
            slowdown=found.slowdown,
            waste_share=1 - 1 / found.slowdown,
            replay_error=found.replay_error,
            max_replay_error=max(found.replay_errors.values()),
            measured_ms=sum(found.measured_ns.values()) / num_steps / 1e6,
            replayed_ms=sum(found.replayed_ns.values()) / num_steps / 1e6,
            ideal_ms=found.ideal_ns / 1e6,
            by_kind=found.by_kind,
            by_stage=found.by_stage,
            by_replica=found.by_replica,
            by_rank=found.by_rank,
            slowest_workers_share=found.slowest_workers_share,
            last_stage_share=found.last_stage_share,
            launch_slowdown=found.launch_slowdown,
            launches_by_kind=found.launches_by_kind,
            launched_replay_error=max(found.launched_errors.values()),
        )
    )
