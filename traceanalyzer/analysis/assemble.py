"""The whole flow: traces → tables → measurements → gaps → review."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
from msgspec.structs import replace

from traceanalyzer import __version__
from traceanalyzer.analysis.capture import Captured
from traceanalyzer.analysis.claimed import why_no_kernels
from traceanalyzer.analysis.description import job_facts, method, provenance, quality, warnings
from traceanalyzer.analysis.first_screen.captured import lone_rank_sentences, next_sentences, scope_sentences
from traceanalyzer.analysis.first_screen.headline import Words, headline
from traceanalyzer.analysis.first_screen.spent import Spent, nobody_sentences, spent_sentences
from traceanalyzer.analysis.first_screen.tiles import Known
from traceanalyzer.analysis.measure import Measured, measure
from traceanalyzer.analysis.relative import relative, with_relative_files
from traceanalyzer.analysis.representative import capture_figures
from traceanalyzer.analysis.run import Run, read, with_declaration
from traceanalyzer.analysis.step_figures import step_findings, step_warnings
from traceanalyzer.analysis.subjects import Subjects
from traceanalyzer.gaps.checks.check import Judged
from traceanalyzer.gaps.checks.culprits import without_loaded, without_victims
from traceanalyzer.gaps.checks.registry import by_worth, with_mfu_points, with_shares
from traceanalyzer.gaps.checks.registry import findings as checked
from traceanalyzer.gaps.checks.windows import with_windows
from traceanalyzer.gaps.communication.recorded import apart_sentences, recorded_sentences
from traceanalyzer.gaps.culprits.culprits import stage_of
from traceanalyzer.gaps.culprits.late_peers import late_peers, rows_on_peers
from traceanalyzer.gaps.efficiency.configurations.next_configurations import next_configurations
from traceanalyzer.gaps.efficiency.configurations.savings import RankTimes, rank_times
from traceanalyzer.gaps.pipeline.actions import pipelines
from traceanalyzer.gaps.sample.bounds import figures as bounded
from traceanalyzer.measurements.efficiency.roofline import with_shapes
from traceanalyzer.measurements.ledger.main_thread import owner_shares, phase_shares
from traceanalyzer.regular_file import shown
from traceanalyzer.review import (
    Accounting,
    Finding,
    Headline,
    OwnerShare,
    PhaseShare,
    Review,
    Source,
    SourceFile,
    Tool,
)
from traceanalyzer.schema import ACTIONS, COLLECTIVE_SPLITS, OPS, conform
from traceanalyzer.tables import Tables
from traceanalyzer.tables.actions.op_tables import ops_of_actions

__all__ = ["Analysis", "Run", "analyze", "read", "with_declaration"]


@dataclass(frozen=True, slots=True)
class Analysis:
    """The review and the tables that the report draws."""

    review: Review
    tables: dict[str, pl.DataFrame]


def analyze(run: Run) -> Analysis:
    """Measure a run and set it against theory."""
    return analysis_of(run, measure(run))


def analysis_of(run: Run, found: Measured) -> Analysis:
    """The result of a run that was measured."""
    return Analysis(_review(run, found), _drawn(run, found))


def _review(run: Run, found: Measured) -> Review:
    subjects, claims, tables = found.subjects, found.claimed, found.tables
    recomputed = subjects.efficiency.recomputed
    given: dict[str, Any] = {name: value for part in subjects.parts for name, value in part.sections.items()}
    checks = capture_figures(run, tables, found.step)
    result = quality(run, subjects.capture.everything.tables, checks, claims.withheld, found.clock_effects)
    return _summed_up(
        found,
        Review(
            tool=Tool(name="traceanalyzer", version=__version__),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            source=Source(path=shown(run.path)),
            files=[
                SourceFile(rank=rank, file=relative(file, shown(run.path)))
                for rank, file in tables.ranks.select("rank", "file").iter_rows()
            ],
            headline=Headline(sentences=[], tiles=[]),
            warnings=[
                *warnings(subjects.host.trust.reasons, result, run, tables.kernels, _not_counted(subjects)),
                *step_warnings(found.step),
            ],
            quality=result,
            job=job_facts(run.job, run.declared, subjects.pipeline.gap, tables, recomputed),
            step=found.step,
            accounting=_accounting(subjects.capture),
            bubble=claims.bubble,
            all_to_all=claims.all_to_all,
            mfu=found.mfu,
            findings=_findings(found, judged := _judged(found)),
            method=method(subjects.pipeline.gap.figures, found.mfu, tables, recomputed),
            provenance=provenance(run.job, shown(run.path), __version__),
            stragglers=without_loaded(claims.stragglers, judged),
            sample=found.captured,
            recorded=found.recorded,
            **given,
        ),
    )


def _summed_up(found: Measured, review: Review) -> Review:
    """`review` with what is said of all its sections: the bounds of every figure, and the headline."""
    known = bounded(review, found.captured, found.waits, found.tables.steps)
    alone = found.captured.ranks[0] if found.captured.coverage == "one_rank" else None
    story = headline(
        Known(
            review.step, review.accounting, review.mfu, review.bubble, review.all_to_all, review.communication, alone,
            has_device=review.kernels is not None, study=review.what_if,
        ),
        _words(found, review), known, review.findings, review.quality.withheld,
    )  # fmt: skip
    return replace(
        review,
        figures=known,
        headline=story,
        next_configurations=next_configurations(review, found.tables.ranks, _rank_times(found)),
    )


def _rank_times(found: Measured) -> RankTimes | None:
    actions = found.subjects.pipeline.gap.actions
    return rank_times(actions, found.subjects.capture.typical.messages)


def _words(found: Measured, review: Review) -> Words:
    """Sentences about the captured ranks."""
    tables, captured = found.tables, found.captured
    if tables.steps.is_empty() and tables.unrecorded_devices:
        return Words(first=[f"Nothing is measured: {why_no_kernels(tables)}."])
    if tables.steps.is_empty() and found.recorded is not None:
        return Words(first=recorded_sentences(found.recorded))
    ranks = sorted(set(tables.ranks["rank"]) - set(tables.unrecorded_devices))
    spent = Spent(review.step, review.accounting, review.quality, captured, ranks, review.kernels, review.communication)
    return Words(
        lead=apart_sentences(found.recorded, faults_only=True),
        first=nobody_sentences(spent),
        spent=[*spent_sentences(spent), *lone_rank_sentences(captured)],
        scope=scope_sentences(captured, review.quality),
        next=next_sentences(captured),
    )


def _accounting(capture: Captured) -> Accounting:
    account = capture.typical.account
    owners = [OwnerShare(**row) for row in owner_shares(account).iter_rows(named=True)]
    return Accounting(
        owners=owners,
        mean_step_ms=sum(row.ms for row in owners) if owners else None,
        phases=[PhaseShare(**row) for row in phase_shares(account).iter_rows(named=True)],
        ambiguous_ns=capture.ambiguous_ns,
    )


def _not_counted(subjects: Subjects) -> str:
    """The part of the model that the shown FLOPs leave out, in words."""
    trained = subjects.utilisation.training
    shown = subjects.utilisation.figures.mfu is not None and trained is not None and trained.flops is None
    return trained.model.not_counted if shown and trained and trained.model else ""


def _judged(found: Measured) -> Judged:
    """What the checks look at."""
    subjects, step = found.subjects, found.step
    step_ms = step.duration_ms.median
    memory, culprits = subjects.memory.figures, subjects.culprits
    return Judged(
        validity=subjects.host.figures,
        bubble=found.claimed.bubble,
        all_to_all=found.claimed.all_to_all,
        next_schedules=subjects.pipeline.causes.next_schedules,
        step_ms=step_ms,
        noise_share=step.noise_ms / step_ms if step.noise_ms is not None and step_ms else 0.02,
        memory=memory.stages if memory else (),
        flops=subjects.efficiency.flops,
        recompute=subjects.efficiency.recompute,
        faults=culprits.faults,
        stages=stage_of(subjects.pipeline.actions),
        sees_launches=_sees_launches(found.tables),
        num_compared=culprits.num_compared,
        sequences=culprits.sequences,
        dimension_bytes=subjects.placement.figures,
    )


def _sees_launches(tables: Tables) -> bool:
    """Whether launching calls were recorded, or the main thread is the device and launches at the start."""
    return tables.kernels["launch_end_ns"].count() > 0 or not tables.host_ranks.is_empty()


def _findings(found: Measured, judged: Judged) -> list[Finding]:
    subjects, step = found.subjects, found.step
    step_ms = step.duration_ms.median
    story = without_victims(checked(judged), subjects.culprits.faults)
    story = by_worth([*story, *step_findings(step, subjects.capture.everything.tables)])
    capture = subjects.capture.typical
    steps = capture.tables.steps.select("step").unique()
    exchanges = subjects.experts.detail.collectives.join(steps, on="step", how="semi")
    placed = with_windows(story, subjects.pipeline.gap.actions, capture.messages, capture.tables.collectives, exchanges)
    return with_mfu_points(with_shares(placed, step_ms), subjects.utilisation.figures.mfu, step_ms)


def _drawn(run: Run, found: Measured) -> dict[str, pl.DataFrame]:
    """Tables by the name under which the report draws them and the `table` command prints them."""
    subjects, everything = found.subjects, found.subjects.capture.everything
    tables, collectives = everything.tables, subjects.experts.detail.collectives
    ops = run.ops
    if ops is None:
        ops = conform(ops_of_actions(tables.actions, pipelines(tables, run.job)), OPS)
    given = {name: table for part in subjects.parts for name, table in part.tables.items()}
    late = late_peers(subjects.culprits.faults)
    given |= {name: rows_on_peers(given[name], late) for name in ("blame", "attribution") if name in given}
    drawn = given | {
        "actions": everything.with_others(subjects.pipeline.actions, tables.actions, ACTIONS),
        "kernels": with_shapes(tables.kernels, subjects.efficiency.timed),
        "collectives": everything.with_others(collectives, everything.splits, COLLECTIVE_SPLITS),
        "ops": ops,
        "wait_bounds": found.waits,
        "defects": run.traces.defects,
        "step_records": run.step_records,
    }
    named = {name: with_relative_files(drawn[name], shown(run.path)) for name in ("ranks", "defects") if name in drawn}
    return drawn | named
