"""What the job is, what the result rests on, and how its numbers are defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

import polars as pl
from msgspec.structs import replace

from traceanalyzer.analysis.relative import with_relative_files
from traceanalyzer.analysis.representative import capture_sentence, representative
from traceanalyzer.analysis.run import Run
from traceanalyzer.gaps.efficiency.declaration import Declaration
from traceanalyzer.gaps.pipeline.actions import expected_ranks
from traceanalyzer.gaps.pipeline.bubble import PipelineGap
from traceanalyzer.gaps.sample.inferred_job import inferred_facts
from traceanalyzer.job import DECLARED, LAYOUT_BASIS, RUN_FILE, Job
from traceanalyzer.measurements.efficiency.recompute import Recomputed
from traceanalyzer.regular_file import shown
from traceanalyzer.review import (
    Bubble,
    CaptureCheckFigures,
    ClockEffect,
    Defect,
    Degrees,
    Fact,
    JobFacts,
    Mfu,
    OverlapFigures,
    Quality,
    Term,
    Withheld,
)
from traceanalyzer.review.vocabulary import CaptureVerdict, FactSource, Recomputation
from traceanalyzer.review.words import counted, counted_by, quantity, ranks_text, spaced
from traceanalyzer.tables import Tables
from traceanalyzer.tables.actions.overlaps import overlapping_steps
from traceanalyzer.tables.computation.taxonomy import unknown_names
from traceanalyzer.tables.steps.typical import typical_steps
from traceanalyzer.traces.defects import losses

Value = TypeVar("Value")
_NO_LOSS = {"not_an_object", "empty_object", "not_chosen", "duplicate"}


def job_facts(
    job: Job | None, declared: Declaration, pipeline: PipelineGap, tables: Tables, again: Recomputed
) -> JobFacts:
    """The job's properties, each with how it is known. What was measured wins over what was declared, that over guesses."""
    facts = inferred_facts(tables)
    if not tables.steps.is_empty():
        facts = replace(facts, recompute=_recompute(again))
    if job is not None:
        facts = facts.with_facts(_declared(job))
    facts = facts.with_facts(_given(declared)).with_facts(_measured(pipeline))
    backends = sorted(set(tables.ranks["backend"].drop_nulls()) - {"", "undefined"})  # torch's words for not known
    return replace(facts, backend=Fact(value=", ".join(backends), source="recorded")) if backends else facts


def _recompute(again: Recomputed) -> Fact[Recomputation | None]:
    """What backward computes again; null with the reason where traces do not tell."""
    return Fact(value=again.value, source="inferred", confidence=again.confidence, basis=again.basis)


def _said(value: Value | None, basis: str | None = None) -> Fact[Value] | None:
    """A declared value; nothing where none was declared."""
    return None if value is None else Fact(value=value, source="declared", basis=basis)


def _given(declared: Declaration) -> JobFacts:
    """What options or a file of the job said."""
    return JobFacts(
        model=_said(declared.model),
        tokens_per_step=_said(declared.tokens_per_step),
        sequence_length=_said(declared.sequence_length),
        num_devices=_said(declared.num_devices),
        dtype=_said(declared.dtype),
        recompute=_said(cast("Recomputation | None", declared.recompute)),
        peak_flops_per_device=_said(declared.peak_flops_per_device),
        flops_per_token=_said(declared.flops.per_token if declared.flops else None),
        flops_per_step=_said(declared.flops.per_step if declared.flops else None),
    )


def _declared(job: Job) -> JobFacts:
    return JobFacts(
        kind=_said(None if job.declares_nothing else job.kind, RUN_FILE),
        schedule=_said(job.schedule, RUN_FILE),
        num_stages=_said(job.num_stages, RUN_FILE),
        num_microbatches=_said(job.num_microbatches, RUN_FILE),
        num_chunks=_said(job.num_chunks, RUN_FILE),
        layout=_layout(job),
        model=_said(job.model if job.model.num_layers else None, RUN_FILE),
        hardware=_said(job.hardware, RUN_FILE),
        compute_mode=_said(job.compute_mode, RUN_FILE),
        pacing=_said(job.pacing, RUN_FILE),
        dtype=_said(None if job.dtype == "unknown" else job.dtype, RUN_FILE),
        tokens_per_step=_said(job.tokens_per_step or None, RUN_FILE),
        sequence_length=_said(job.sequence_length or None, RUN_FILE),
        recompute=_said(cast("Recomputation | None", job.recompute), RUN_FILE),
        status=_said(job.status, RUN_FILE),
    )


def _layout(job: Job) -> Fact[Degrees] | None:
    """The layout in `run.json`: declared, or read by the recorder from the job's process groups."""
    layout = job.layout
    if layout is None:
        return None
    context = layout.cp if layout.cp > 1 else None
    degrees = Degrees(pp=layout.pp, dp=layout.dp, tp=layout.tp, ep=layout.ep, cp=context)
    basis = job.basis.get(LAYOUT_BASIS, DECLARED)
    if basis == DECLARED:
        return _said(degrees, RUN_FILE)
    return Fact(value=degrees, source="recorded", basis=f"{basis} ({RUN_FILE})")


def _measured(pipeline: PipelineGap) -> JobFacts:
    """What the measured actions say; without labels that is an inference from the order of their phases."""
    if pipeline.figures is None:
        return JobFacts()
    if pipeline.unordered:
        basis = "unlabelled chunks in the order of no schedule known by name"
        return JobFacts(schedule=Fact(value="unknown", source="inferred", confidence=0.0, basis=basis))
    by_rank = pipeline.actions.group_by("rank").agg(pl.col("stage").n_unique())
    source, confidence = _sureness(pipeline)

    def count(value: int) -> Fact[int]:
        return Fact(value=value, source=source, confidence=confidence)

    named = pipeline.schedule
    return JobFacts(
        schedule=None if named is None else Fact(value=named, source="inferred", confidence=confidence),
        num_stages=count(pipeline.actions["stage"].n_unique()),
        num_microbatches=count(pipeline.actions["microbatch"].n_unique()),
        num_chunks=count(max(by_rank["stage"].to_list())),
    )


def _sureness(pipeline: PipelineGap) -> tuple[FactSource, float]:
    return ("inferred", 0.9) if pipeline.inferred else ("recorded", 1.0)


def quality(
    run: Run,
    tables: Tables,
    checks: Sequence[CaptureCheckFigures],
    withheld: list[Withheld],
    clock_effects: Sequence[ClockEffect],
) -> Quality:
    """Coverage, losses, what is withheld, and how far the clocks' uncertainty reaches; `tables` are of all captured steps.

    Ranks that were promised and are not here are lost; all others were sampled by design.
    """
    traces, job = run.traces, run.job
    expected, found = expected_ranks(tables.ranks, job), tables.ranks["rank"].n_unique()
    dropped = dict(sorted(traces.counts.events_dropped.items()))
    missing = expected is not None and found < expected
    lost = run.promised - set(tables.ranks["rank"])
    failed = run.state is not None or (job is not None and job.status != "completed")
    partial = failed or not losses(traces.defects).is_empty() or bool(lost)
    verdict: CaptureVerdict = "partial" if partial else "sampled" if missing else "complete"
    return Quality(
        representative=representative(checks),
        capture_sentence=capture_sentence(checks),
        capture_checks=list(checks),
        verdict=verdict if tables.steps.height else "partial" if tables.collectives.height else "unusable",
        num_ranks_expected=expected,
        num_ranks_found=found,
        ranks_lost=sorted(lost),
        num_steps_used=len(typical_steps(tables.steps)),
        events_seen=traces.counts.events_seen,
        events_kept=traces.counts.events_kept,
        events_dropped=dropped,
        clock_residual_ns=tables.clock.residual_ns,
        clock_basis=tables.clock.basis,
        defects=[Defect(**row) for row in with_relative_files(traces.defects, shown(run.path)).iter_rows(named=True)],
        withheld=withheld,
        clock_effects=list(clock_effects),
        overlaps=_overlaps(tables),
    )


def _overlaps(tables: Tables) -> OverlapFigures | None:
    """What was cut off compute actions that overlapped by rounding, and the steps in which some overlap by more."""
    apart = overlapping_steps(tables.actions, ["step"]).height
    if not apart and not tables.overlaps.num:
        return None
    return OverlapFigures(
        num_clipped=tables.overlaps.num,
        clipped_ms=tables.overlaps.total_ns / 1e6,
        largest_us=tables.overlaps.largest_ns / 1e3,
        num_steps_apart=apart,
    )


def warnings(
    validity_reasons: tuple[str, ...], result: Quality, run: Run, kernels: pl.DataFrame, not_counted: str = ""
) -> list[str]:
    """What a reader must know before any number; whether the capture is representative comes first."""
    lines = [] if result.representative is not False else [result.capture_sentence]
    lines += [f"The host distorted this timeline: {reason}." for reason in validity_reasons]
    if result.num_ranks_expected is not None and result.num_ranks_found < result.num_ranks_expected:
        found = result.num_ranks_found
        lines.append(f"Only {found} of {result.num_ranks_expected} ranks {'was' if found == 1 else 'were'} captured.")
    if result.ranks_lost:
        lost = ranks_text(result.ranks_lost)
        lines.append(f"Missing from this capture: {lost}. The result covers only what is left.")
    job = run.job
    if run.state is not None:
        lines.append(run.state)
    elif job is not None and job.status != "completed":
        lines.append(f"The run did not complete (status: {job.status}).")
    lines += _defect_lines(result.defects)
    lost = _lost_events(result)
    if lost:
        reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(lost.items()))
        lines.append(f"{sum(lost.values()):,} of {result.events_seen:,} events could not be used: {reasons}.")
    if not_counted:
        lines.append(f"The FLOPs leave out {not_counted}.")
    unknown = unknown_names(kernels)
    if unknown is not None:
        lines.append(unknown)
    if job is not None and job.compute_mode == "paced":
        lines.append(
            "Paced run: every computation is followed by a sleep to a set length, so its time is not the hardware's."
        )
    return lines


_FIRST_SCREEN = (
    "device.no_kernels", "device.only_named", "device.kernels_missing", "device.late_end", "device.clock_drifts", "device.clock_ahead",
    "device.early_kernels", "event.duplicates",
    "rank.merged", "rank.devices", "rank.several_devices", "run.several_writers",
)  # fmt: skip
"""Defects that change every figure: said before any of them."""


def _defect_lines(defects: Sequence[Defect]) -> list[str]:
    """A sentence for every such code: the rank with most events, what about them, and what to do."""
    lines: list[str] = []
    for code in _FIRST_SCREEN:
        rows = sorted((row for row in defects if row.code == code), key=lambda row: -row.events_affected)
        if not rows:
            continue
        worst, others = rows[0], len(rows) - 1
        where = f"Rank {worst.rank}: " if worst.rank is not None else ""
        counts = [counted(worst.events_affected, "event")] if worst.events_affected else []
        counts += [counted(others, "more rank")] if others else []
        count = f" ({'; '.join(counts)})" if counts else ""
        hint = f"; {worst.hint}" if worst.hint else ""
        what = worst.message if where else worst.message[:1].upper() + worst.message[1:]
        lines.append(f"{where}{what}{count}{hint}".rstrip("?") + ("?" if hint.endswith("?") else "."))
    return lines


def _lost_events(result: Quality) -> dict[str, int]:
    """Events left out whose absence is a loss, by reason: not those of a file's copy, nor elements that are not events."""
    lost = {defect.code for defect in result.defects if defect.is_loss}
    spared = _NO_LOSS if "rank.unknown" in lost else {*_NO_LOSS, "file_left_out"}
    return {reason: count for reason, count in result.events_dropped.items() if lost and count and reason not in spared}


def method(bubble: Bubble | None, mfu: Mfu, tables: Tables, again: Recomputed) -> list[Term]:
    """How the numbers are defined, for this run."""
    lines = {
        "Step": _step_text(tables),
        "Clock": _clock_text(tables),
        "Owners": "Every nanosecond of a rank's step has one owner: compute, transfer, wait or host; they sum exactly.",
    }
    if bubble is not None:
        lines |= {
            "Pipeline phase": "First forward's start to last backward's end over one pipeline, the same for its ranks.",
            "Bubble": (
                "Phase less chunk spans = dependency (warm-up, steady, drain) + transfer + overhead. Dependency ÷ phase is "
                "set against theory, which has neither transfer nor host delay. The share of the whole step is not."
            ),
            "Windows and forms": (
                "Share of total in the global window (pipeline phase); ratio to compute time beside it; span share in "
                "each rank's own window."
            ),
            "Uniform stages": "Theory has each phase's median duration over stages, microbatches and steps; schedules to try next the mean of the stages' medians.",
        }
        if bubble.attribution_ms is not None:
            lines |= {
                "Ideal": (
                    "The measured order with every action at the median duration of its phase over stages, microbatches and "
                    "steps, free transfer and no host delay. Attribution sums to measured - ideal exactly, per step; of "
                    "every step the longest pipeline counts."
                ),
                "Blame": (
                    "Lateness passes along whatever an action waited for last; what the ideal's own waiting absorbs is taken "
                    "off pro rata. On CPU traces the main thread is the device: starting late outside receives is the host's; "
                    "on devices only what passed before the launch is, the rest is unexplained. There messages wait for their "
                    "producer, for both ends' ranks and for the messages before them on their streams. An input from a stage "
                    "that was not captured makes all lateness at its arrival 'outside sample'."
                ),
                "Worth": (
                    "A replay from durations, order and dependencies with one cause removed; never added up. On CPU traces "
                    "host delays are known in full, so there the replay's error is 0 by construction."
                ),
            }
        if bubble.theory is not None and bubble.theory.formula:
            lines["Closed form"] = f"{bubble.theory.formula}, for {bubble.theory.domain} ({bubble.theory.source})."
        if bubble.stages and all(stage.transfer_ms is None for stage in bubble.stages):
            lines["Transfer"] = "Gloo records no transfer time; what a message takes is part of the overhead."
    if not tables.routing.is_empty():
        lines["Load"] = "Received token copies, own share included; largest over mean, averaged over layers and steps."
        lines["Wait at all-to-all"] = (
            "From own arrival to the latest arrival among members that exchange bytes with the rank."
        )
    if mfu.flops_per_step is not None:
        lines["FLOPs"] = f"Counted by: {counted_by(mfu.convention)}; recomputed FLOPs count in HFU only."
        if again.value == "full" and again.num_begun and mfu.hfu is not None:
            lines["HFU"] = (
                f"Too high: recomputation stopped before {again.num_begun:,} operators that the count of whole layers includes."
            )
    if mfu.peak_basis is not None:
        lines["Peak"] = f"{mfu.peak_basis}."
    return [Term(term=term, text=text) for term, text in lines.items()]


def _clock_text(tables: Tables) -> str:
    """How clocks were made comparable, and how far they may differ."""
    agree = f"; the clocks agree within {quantity(tables.clock.residual_ns, 'ns')}" if tables.clock.residual_ns else ""
    return f"{spaced(tables.clock.basis).capitalize()}{agree}."


def _step_text(tables: Tables) -> str:
    """What a step is, and which steps figures speak of."""
    definition = (
        f"Marked by {tables.step_basis.name}"
        if tables.step_basis.name
        else "No step is marked: the capture counts as one"
    )
    return (
        f"{definition}. On devices a window ends with the last kernel launched in the step, on CPU traces with the next step's "
        "start. Every figure covers the typical steps; those set apart are listed with their price."
    )


def provenance(job: Job | None, path: str, version: str) -> list[Term]:
    """Where the result comes from."""
    terms = [Term(term="Source", text=path), Term(term="Tool", text=f"traceanalyzer {version}")]
    if job is not None:
        terms += [Term(term="Run", text=f"created {job.created}, seed {job.seed}, {job.backend}, {job.dtype}")]
        terms += [Term(term=name, text=text) for name, text in sorted(job.versions.items())]
        terms += [Term(term=name.replace("_", " "), text=text) for name, text in sorted(job.extras.items())]
    return terms
