"""The whole flow: traces → tables → measurements → gaps → review."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from traceanalyzer import __version__
from traceanalyzer.analysis.description import job_facts, method, provenance, quality, warnings
from traceanalyzer.analysis.headline import Coverage, coverage_words, headline
from traceanalyzer.analysis.measure import NO_KERNELS, Measured, measure
from traceanalyzer.analysis.representative import capture_figures
from traceanalyzer.analysis.run import Run, read, with_declaration
from traceanalyzer.analysis.step_figures import step_figures, step_findings, step_warnings, with_rates
from traceanalyzer.gaps.checks.check import Judged
from traceanalyzer.gaps.checks.culprits import without_victims
from traceanalyzer.gaps.checks.registry import by_worth, with_mfu_points
from traceanalyzer.gaps.checks.registry import findings as checked
from traceanalyzer.gaps.checks.windows import with_windows
from traceanalyzer.gaps.communication.recorded import apart_sentences, recorded_sentences
from traceanalyzer.gaps.pipeline.actions import pipelines
from traceanalyzer.gaps.sample.bounds import Sections
from traceanalyzer.gaps.sample.bounds import figures as bounded
from traceanalyzer.measurements.capture.validity import Validity
from traceanalyzer.measurements.ledger.main_thread import owner_shares, phase_shares
from traceanalyzer.review import (
    Accounting,
    Finding,
    OwnerShare,
    PhaseShare,
    Review,
    Source,
    SourceFile,
    StepFigures,
    Tool,
    ValidityFigures,
)
from traceanalyzer.schema import ACTIONS, COLLECTIVE_SPLITS, OPS, conform
from traceanalyzer.tables.actions.op_tables import ops_of_actions

__all__ = ["Analysis", "Run", "analyze", "read", "with_declaration"]


@dataclass(frozen=True, slots=True)
class Analysis:
    """The review and the tables that the report draws."""

    review: Review
    tables: dict[str, pl.DataFrame]


def analyze(run: Run) -> Analysis:
    """Measure a run and set it against theory."""
    found = measure(run)
    return Analysis(_review(run, found), _drawn(run, found))


def _review(run: Run, found: Measured) -> Review:
    tables, bubble, withheld = found.tables, found.bubble, found.withheld
    step, figures = step_figures(tables, found.everything.tables, run), _validity_figures(found.trust)
    checks = capture_figures(run, tables, step)
    result = quality(run, tables, checks, withheld, found.clock_effects)
    owners = [OwnerShare(**row) for row in owner_shares(found.account).iter_rows(named=True)]
    accounting = Accounting(
        owners=owners,
        phases=[PhaseShare(**row) for row in phase_shares(found.account).iter_rows(named=True)],
        ambiguous_ns=found.ambiguous_ns,
    )
    mfu = with_rates(found.mfu, step)
    sections = Sections(
        step, figures, accounting, bubble, found.all_to_all, mfu,
        found.causes.next_schedules, found.memory.figures, found.study.figures, found.sharding, found.recorded,
        found.kernel_time.kernels, found.kernel_time.communication,
    )  # fmt: skip
    known = bounded(sections, found.captured, result, found.waits, tables.steps)
    words = coverage_words(step, accounting, result, found.captured, sorted(tables.ranks["rank"].unique()))
    if tables.steps.is_empty() and tables.unrecorded_devices:
        words = Coverage(ledger=[f"Nothing is measured: {NO_KERNELS}."])
    elif tables.steps.is_empty() and found.recorded is not None:
        words = Coverage(ledger=recorded_sentences(found.recorded))
    elif found.recorded is not None:
        words = replace(words, lead=[*apart_sentences(found.recorded, faults_only=True), *words.lead])
    findings = _findings(found, figures, step)
    return Review(
        tool=Tool(name="traceanalyzer", version=__version__),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=Source(path=run.path),
        files=[SourceFile(rank=rank, file=file) for rank, file in tables.ranks.select("rank", "file").iter_rows()],
        headline=headline(bubble, found.all_to_all, mfu, step, withheld, words, known, findings),
        warnings=[
            *warnings(found.trust.reasons, result, run.job, tables.kernels, _not_counted(found)),
            *step_warnings(step),
        ],
        quality=result,
        validity=figures,
        job=job_facts(run.job, run.declared, found.pipeline, tables, found.recomputed),
        step=step,
        accounting=accounting,
        bubble=bubble,
        all_to_all=found.all_to_all,
        expert_sharding=found.sharding,
        mfu=mfu,
        waterfall=found.way.steps,
        findings=findings,
        method=method(found.pipeline.figures, mfu, tables, found.recomputed),
        provenance=provenance(run.job, run.path, __version__),
        stragglers=found.stragglers,
        culprits=list(found.culprits.faults),
        next_schedules=found.causes.next_schedules,
        memory=found.memory.figures,
        what_if=found.study.figures,
        roofline=found.efficiency.shapes,
        sample=found.captured,
        figures=known,
        recorded=found.recorded,
        kernels=found.kernel_time.kernels,
        communication=found.kernel_time.communication,
    )


def _not_counted(found: Measured) -> str:
    """The part of the model that the shown FLOPs leave out, in words."""
    trained = found.utilisation.training
    shown = found.utilisation.figures.mfu is not None and trained is not None and trained.flops is None
    return trained.model.not_counted if shown and trained and trained.model else ""


def _findings(found: Measured, figures: ValidityFigures, step: StepFigures) -> list[Finding]:
    step_ms = step.duration_ms.median
    memory = found.memory.figures
    judged = Judged(
        validity=figures,
        bubble=found.bubble,
        all_to_all=found.all_to_all,
        next_schedules=found.causes.next_schedules,
        step_ms=step_ms,
        noise_share=step.noise_ms / step_ms if step.noise_ms is not None and step_ms else 0.02,
        memory=memory.stages if memory else (),
        flops=found.efficiency.flops,
        recompute=found.efficiency.recompute,
        faults=found.culprits.faults,
        num_compared=found.culprits.num_compared,
    )
    told = without_victims(checked(judged), found.culprits.faults)
    told = by_worth([*told, *step_findings(step, found.everything.tables)])
    placed = with_windows(told, found.pipeline.actions, found.messages, found.tables.collectives)
    return with_mfu_points(placed, found.utilisation.figures.mfu, step_ms)


def _drawn(run: Run, found: Measured) -> dict[str, pl.DataFrame]:
    """Tables by the name under which the report draws them and the `table` command prints them."""
    everything, experts = found.everything, found.experts.tables
    tables = everything.tables
    ops = run.ops
    if ops is None:
        ops = conform(ops_of_actions(tables.actions, pipelines(tables, run.job)), OPS)
    return {
        "ranks": tables.ranks,
        "steps": tables.steps,
        "actions": everything.with_others(found.actions, tables.actions, ACTIONS),
        "ideal_actions": found.pipeline.ideal_actions,
        "bubble": found.pipeline.table,
        "attribution": found.causes.attribution_table,
        "blame": found.causes.blame_table,
        "ops": ops,
        "accounting": everything.account,
        "kernels": tables.kernels,
        "kernel_phases": tables.kernel_phases,
        "missing_kernels": tables.missing_kernels,
        **found.kernel_time.tables,
        "roofline": found.efficiency.table,
        "collectives": everything.with_others(experts.collectives, everything.splits, COLLECTIVE_SPLITS),
        "p2p": everything.messages,
        "communications": everything.exchanged,
        "clocks": tables.clocks,
        "wait_bounds": found.waits,
        "routing": experts.routing,
        "traffic": experts.traffic,
        "load_statistics": experts.load_statistics,
        "expert_chain": experts.expert_chain,
        "exchanges": experts.exchanges,
        "expert_blame": experts.expert_blame,
        "culprits": found.culprits.table,
        "late_members": found.culprits.late_table,
        "defects": run.traces.defects,
        "step_records": run.step_records,
    }


def _validity_figures(trust: Validity) -> ValidityFigures:
    return ValidityFigures(
        verdict=trust.verdict,
        cpu_pressure_share=trust.cpu_pressure_share,
        involuntary_switches_per_second=trust.involuntary_switches_per_second,
        action_spread=trust.action_spread,
        reasons=list(trust.reasons),
    )
