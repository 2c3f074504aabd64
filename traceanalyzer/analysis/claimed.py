"""What the captured ranks allow to be claimed: coverage is applied to the subjects' parts here, once, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.analysis.subjects import Subjects
from traceanalyzer.gaps.checks.culprits import slow_ranks
from traceanalyzer.gaps.culprits.culprits import stage_of
from traceanalyzer.gaps.culprits.late_peers import blamed_on_peers, late_peers
from traceanalyzer.gaps.sample.claims import by_coverage, supported, unsupported
from traceanalyzer.measurements.efficiency.mfu import median_step
from traceanalyzer.review import AllToAll, Bubble, Recorded, Sample, StragglerFigures, Withheld
from traceanalyzer.tables import Tables

_ONLY_RECORDS = "there is no trace: records of communication do not show it"


@dataclass(frozen=True, slots=True)
class Claimed:
    """Sections that need certain ranks, without what these ranks do not tell; and everything that is withheld."""

    bubble: Bubble | None
    all_to_all: AllToAll | None
    stragglers: list[StragglerFigures]
    withheld: list[Withheld]


def claimed(subjects: Subjects, sample: Sample, recorded: Recorded | None) -> Claimed:
    """Apply coverage to the sections, and list what is withheld in the order of the subjects."""
    withheld = [item for part in subjects.parts for item in part.withheld]
    withheld += by_coverage(sample, withheld)
    return Claimed(
        bubble=blamed_on_peers(
            supported(subjects.pipeline.figures, "bubble", sample),
            late_peers(subjects.culprits.faults),
            stage_of(subjects.pipeline.actions),
        ),
        all_to_all=supported(subjects.experts.figures, "all_to_all", sample),
        stragglers=_slow_ranks(subjects, sample),
        withheld=_without_steps(withheld, subjects, recorded),
    )


def _slow_ranks(subjects: Subjects, sample: Sample) -> list[StragglerFigures]:
    silent = any("stragglers" in claim.fields for claim in unsupported(sample).values())
    causes = subjects.pipeline.causes
    known = [] if silent else [each for each in causes.stragglers if each.cost_ms > (causes.fault_limit_ms or 0.0)]
    faults = subjects.culprits.faults
    step = median_step(subjects.capture.typical.tables.steps) if faults else None
    return slow_ranks(known, faults, stage_of(subjects.pipeline.actions), step.duration_ns / 1e6 if step else None)


def _without_steps(withheld: list[Withheld], subjects: Subjects, recorded: Recorded | None) -> list[Withheld]:
    """If no step could be built, one reason stands for everything."""
    tables = subjects.capture.typical.tables
    if tables.steps.height:
        return withheld
    if tables.unrecorded_devices:
        return [
            Withheld(metric=item.metric, reason=why_no_kernels(tables), code="nothing_measured") for item in withheld
        ]
    if recorded is None:
        return withheld
    return [Withheld(metric=item.metric, reason=_ONLY_RECORDS, code="nothing_measured") for item in withheld]


def why_no_kernels(tables: Tables) -> str:
    """Why nothing is measured of traces of which no kernel was read."""
    unread = " and ".join(tables.unread_devices)
    if unread:
        return f"device events in the format of {unread} are not read, and CPU events do not show what the device did"
    return "kernels were launched and none was recorded, so what the device did is unknown"
