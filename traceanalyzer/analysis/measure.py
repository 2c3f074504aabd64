"""Everything that is measured of a run and set against theory: capture, subjects, claims."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.analysis.capture import captured
from traceanalyzer.analysis.claimed import Claimed, claimed
from traceanalyzer.analysis.run import Run
from traceanalyzer.analysis.step_figures import step_figures, with_rates
from traceanalyzer.analysis.subjects import Subjects, subjects
from traceanalyzer.gaps.communication.recorded import recorded_figures
from traceanalyzer.gaps.efficiency.prediction import with_prediction
from traceanalyzer.gaps.sample.captured import sample
from traceanalyzer.measurements.communication.links import links
from traceanalyzer.measurements.communication.wait_bounds import wait_bounds
from traceanalyzer.review import ClockEffect, Mfu, Recorded, Sample, StepFigures
from traceanalyzer.tables import Tables


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
    found = subjects(run, captured(run))
    capture, typical = found.capture, found.capture.typical
    step = step_figures(typical.tables, capture.everything.tables, run)
    waits = wait_bounds(typical.splits, typical.messages, links(typical.tables.ranks))
    exchanges = found.experts.detail.collectives
    coverage = sample(typical.tables, exchanges, waits, found.pipeline.figures, run.job)
    alone = run.ops is None and not run.traces.num_events
    recorded = recorded_figures(run.records, capture.everything.splits, alone=alone)
    return Measured(
        subjects=found,
        step=step,
        mfu=with_rates(with_prediction(found.utilisation.figures, found.prediction), step),
        recorded=recorded,
        waits=waits,
        captured=coverage,
        claimed=claimed(found, coverage, recorded),
    )
