"""The whole flow: traces → tables → measurements → gaps → review."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from traceanalyzer import __version__
from traceanalyzer.gaps.cause_findings import with_mfu_points
from traceanalyzer.gaps.coverage import ledger_sentences
from traceanalyzer.gaps.declaration import NOTHING, Declaration
from traceanalyzer.gaps.description import job_facts, method, provenance, quality, warnings
from traceanalyzer.gaps.efficiency import efficiency_gap
from traceanalyzer.gaps.experts import expert_gap
from traceanalyzer.gaps.findings import by_worth, findings
from traceanalyzer.gaps.headline import headline
from traceanalyzer.gaps.operators import recorded_operators
from traceanalyzer.gaps.pipeline import pipeline_gap
from traceanalyzer.gaps.pipeline_actions import pipelines
from traceanalyzer.gaps.pipeline_causes import pipeline_causes, with_causes
from traceanalyzer.gaps.review import Accounting, OwnerShare, Review, Source, StepDuration, StepFigures, ValidityFigures
from traceanalyzer.gaps.utilisation import utilisation_gap
from traceanalyzer.gaps.waterfall import waterfall
from traceanalyzer.gaps.what_if_review import what_if_gap
from traceanalyzer.job import Job
from traceanalyzer.measurements.accounting import accounting, owner_shares
from traceanalyzer.measurements.collectives import split_collectives
from traceanalyzer.measurements.device_accounting import device_accounting
from traceanalyzer.measurements.links import links
from traceanalyzer.measurements.messages import split_messages
from traceanalyzer.measurements.mfu import median_step, step_durations, wall_clock_step_ns
from traceanalyzer.measurements.validity import Validity, validity
from traceanalyzer.schema import ACTIONS, DEFECTS, EVENTS, OPS, STEP_RECORDS, conform, empty
from traceanalyzer.tables import Tables, build_tables
from traceanalyzer.tables.communications import communications
from traceanalyzer.tables.from_ops import ops_of_actions, tables_of_ops
from traceanalyzer.traces import Counts, Traces, read_job, read_routing_records, read_step_records, read_traces
from traceanalyzer.traces.execution_traces import read_execution_exchanges
from traceanalyzer.traces.op_table import is_op_table, read_op_table
from traceanalyzer.traces.run_folder import ROUTING_RECORDS


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read: its traces and what stands beside them."""

    path: str
    """As given: a local path or a URL."""
    traces: Traces
    job: Job | None
    step_records: pl.DataFrame
    routing_records: pl.DataFrame
    ops: pl.DataFrame | None = None
    """`OPS`, where an op table was read instead of traces."""
    declared: Declaration = NOTHING
    """What was said of the job beside its traces."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """The review and the tables that the report draws."""

    review: Review
    tables: dict[str, pl.DataFrame]


def read(
    path: Path | str, columns: Mapping[str, str] | None = None, *, rank_map: Mapping[str, int] | None = None
) -> Run:
    """Read a run folder, a folder of traces, one trace file or an op table (Parquet, CSV).

    `columns` maps our names of an op table's columns to the file's; `rank_map` gives the ranks of trace
    files by name or pattern. Raises `InputError` if nothing can be used.
    """
    if columns is not None or is_op_table(path):
        return _op_table_run(str(path), read_op_table(path, columns))
    traces = read_traces(path, rank_map=rank_map)
    folder = traces.run_folder
    return Run(
        path=str(path),
        traces=traces,
        job=read_job(folder) if folder else None,
        step_records=read_step_records(folder) if folder else empty(STEP_RECORDS),
        routing_records=read_routing_records(folder) if folder else empty(ROUTING_RECORDS),
    )


def with_declaration(run: Run, declared: Declaration) -> Run:
    """`run` with what is declared of its job; a declared description of the whole job replaces the folder's."""
    return replace(run, declared=declared, job=declared.job or run.job)


def _op_table_run(path: str, ops: pl.DataFrame) -> Run:
    tables = tables_of_ops(ops, path)
    counts = Counts(events_seen=ops.height, events_kept=ops.height)
    traces = Traces(ranks=tables.ranks, defects=empty(DEFECTS), counts=counts, run_folder=None, events=empty(EVENTS))
    return Run(path, traces, None, empty(STEP_RECORDS), empty(ROUTING_RECORDS), ops)


def analyze(run: Run) -> Analysis:
    """Measure a run and set it against theory."""
    if run.ops is None:
        tables = build_tables(run.traces.events, run.traces.ranks, run.job, run.routing_records)
    else:
        tables = tables_of_ops(run.ops, run.path)
    peaks, one_clock = links(tables.ranks), tables.clock.one_clock
    splits = split_collectives(tables.collectives, one_clock=one_clock, links=peaks, clocks=tables.clocks)
    messages = split_messages(tables.p2p, tables.kernels, one_clock=one_clock, links=peaks, clocks=tables.clocks)
    exchanged = communications(splits, messages)
    account = _account(tables, splits, exchanged)
    pipeline = pipeline_gap(tables, run.job, exchanged)
    causes = pipeline_causes(pipeline, tables, run.job)
    bubble = with_causes(pipeline.figures, causes)
    study = what_if_gap(run.ops)
    actions = tables.actions if pipeline.actions.is_empty() else conform(pipeline.actions, ACTIONS)
    trust = validity(run.step_records, actions.join(tables.kernels, on="rank", how="anti"), tables.steps)
    experts = expert_gap(tables, splits, run.job, run.routing_records, read_execution_exchanges(run.path))
    operators = recorded_operators(run.traces.events, tables)
    utilisation = utilisation_gap(tables, run.step_records, run.job, run.declared, operators, trust)
    way = waterfall(utilisation, bubble, account, tables, operators.timed)
    withheld = [*pipeline.withheld, *causes.withheld, *study.withheld, *experts.withheld]
    efficiency = efficiency_gap(operators, utilisation, tables.steps)
    withheld += [*utilisation.withheld, *way.withheld, *efficiency.withheld]
    step = _step_figures(tables, run)
    figures = _validity_figures(trust)
    result = quality(run.traces, tables, run.job, withheld)
    owners = [OwnerShare(**row) for row in owner_shares(account).iter_rows(named=True)]
    ledger = ledger_sentences(step, owners, result, sorted(tables.ranks["rank"].unique()))
    review = Review(
        tool={"name": "traceanalyzer", "version": __version__},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source={"path": run.path},
        files=[Source(rank=rank, file=file) for rank, file in tables.ranks.select("rank", "file").iter_rows()],
        headline=headline(bubble, experts.figures, utilisation.figures, step, withheld, ledger),
        warnings=warnings(trust.reasons, result, run.job),
        quality=result,
        validity=figures,
        job=job_facts(run.job, pipeline, tables.ranks),
        step=step,
        accounting=Accounting(owners=owners),
        bubble=bubble,
        all_to_all=experts.figures,
        mfu=utilisation.figures,
        waterfall=way.steps,
        findings=with_mfu_points(
            by_worth([*findings(bubble, experts.figures, figures, step.duration_ms.median), *efficiency.findings]),
            utilisation.figures.mfu,
            step.duration_ms.median,
        ),
        method=method(pipeline.figures, utilisation.figures, tables),
        provenance=provenance(run.job, run.path, __version__),
        stragglers=list(causes.stragglers),
        next_schedules=causes.next_schedules,
        what_if=study.figures,
        roofline=efficiency.shapes,
    )
    drawn = {
        "ranks": tables.ranks,
        "steps": tables.steps,
        "actions": actions,
        "ideal_actions": pipeline.ideal_actions,
        "bubble": pipeline.table,
        "attribution": causes.attribution_table,
        "blame": causes.blame_table,
        "ops": run.ops
        if run.ops is not None
        else conform(ops_of_actions(tables.actions, pipelines(tables, run.job)), OPS),
        "accounting": account,
        "kernels": tables.kernels,
        "roofline": efficiency.table,
        "collectives": experts.tables.collectives,
        "p2p": messages,
        "communications": exchanged,
        "clocks": tables.clocks,
        "routing": experts.tables.routing,
        "traffic": experts.tables.traffic,
        "load_statistics": experts.tables.load_statistics,
        "expert_chain": experts.tables.expert_chain,
        "exchanges": experts.tables.exchanges,
        "expert_blame": experts.tables.expert_blame,
        "defects": run.traces.defects,
        "step_records": run.step_records,
    }
    return Analysis(review, drawn)


def _account(tables: Tables, splits: pl.DataFrame, exchanged: pl.DataFrame) -> pl.DataFrame:
    """Owners of every rank's steps: by kernels where the rank has a device, by its main thread where it has none."""
    on_device = tables.steps.join(tables.kernels, on="rank", how="semi")
    on_main = tables.steps.join(tables.kernels, on="rank", how="anti")
    computed = pl.concat(
        [frame.select("rank", "start_ns", "end_ns") for frame in (tables.actions, tables.expert_computation)]
    )
    parts = [
        accounting(on_main, computed, tables.operators, tables.receives, splits),
        device_accounting(on_device, tables.kernels, exchanged),
    ]
    return pl.concat(parts).sort("rank", "step", "owner", "cause")


def _step_figures(tables: Tables, run: Run) -> StepFigures:
    durations = step_durations(tables.steps)["duration_ns"] / 1e6
    shown = median_step(tables.steps) if len(durations) else None
    wall = wall_clock_step_ns(run.step_records, shown[0]) if shown else None

    def quantile(share: float) -> float | None:
        return durations.quantile(share, "linear") if len(durations) else None

    return StepFigures(
        duration_ms=StepDuration(
            median=shown[1] / 1e6 if shown else None,
            p05=quantile(0.05),
            p95=quantile(0.95),
            values=durations.to_list(),
            num_steps=len(durations),
        ),
        open_end=bool(tables.steps["open_end"].any()),
        unprofiled_ms=run.job.unprofiled_step_ms if run.job else None,
        wall_clock_ms=wall / 1e6 if wall is not None else None,
    )


def _validity_figures(trust: Validity) -> ValidityFigures:
    return ValidityFigures(
        verdict=trust.verdict,
        cpu_pressure_share=trust.cpu_pressure_share,
        involuntary_switches_per_second=trust.involuntary_switches_per_second,
        action_spread=trust.action_spread,
        reasons=list(trust.reasons),
    )
