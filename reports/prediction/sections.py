"""The page of `predict --html`: schedules side by side, as one offline HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.page.output import write_whole
from reports.page.parts import Chart, Grid, Part, Section, Terms
from reports.page.text import quantity, safe_text
from traceanalyzer.theory.prediction.comparison import Prediction
from traceanalyzer.theory.prediction.record import Predicted


def render_prediction(predicted: Predicted, record: Mapping[str, Any], path: Path) -> Path:
    """Write the page; `record` is embedded as JSON. The file is written whole or not at all. Raises `OutputError`."""
    from reports.prediction.compose import compose  # noqa: PLC0415 - the drawing library takes seconds to import

    return write_whole(compose(predicted, record), path)


def verdict(predicted: Predicted) -> list[str]:
    """What to take away, in at most two sentences."""
    ranked = sorted(predicted.predictions, key=lambda each: each.simulation.makespan_ns)
    best, worst = ranked[0], ranked[-1]
    share = quantity(best.simulation.bubble_share, "share")
    if best is worst:
        return [f"{safe_text(best.title)} idles for {share} of its pipeline phase."]
    longer = worst.simulation.makespan_ns / best.simulation.makespan_ns - 1
    peak = f"{max(best.peak_in_flight):.3g}"
    least = f"{safe_text(best.title)} is the shortest: it idles for {share} of its pipeline phase, with the activations"
    most = f"{safe_text(worst.title)} is the longest: its phase takes {quantity(longer, 'share')} longer."
    return [f"{least} of at most {peak} microbatches on a rank.", most]


def sections(predicted: Predicted) -> list[Section]:
    """Everything below the verdict."""
    from reports.charts.prediction import memory_over_time, sweep_chart, timelines  # noqa: PLC0415 - drawing is slow to import

    charts: list[Chart] = [timelines(predicted.predictions), memory_over_time(predicted.predictions)]
    found = [
        Section(id="compared", title="Schedules compared", lead=LEAD, parts=(_table(predicted),)),
        Section(id="timelines-section", title="On one axis", parts=tuple(charts)),
    ]
    if predicted.sweep is not None and not predicted.sweep.table.is_empty():
        found.append(Section(id="sweep-section", title="Sweep", parts=(sweep_chart(predicted.sweep),)))
    return [*found, Section(id="formulas", title="Formulas and assumptions", parts=_formulas(predicted))]


LEAD = (
    "Bubble: share of the pipeline phase (first forward to last backward) of all ranks. Ratio: bubble ÷ useful time. "
    "Own window: the share with the longest per-rank window in place of the phase, as the zero-bubble papers count."
)


def _table(predicted: Predicted) -> Grid:
    return Grid(
        id="schedules",
        title="All forms of the bubble",
        columns=(
            "schedule",
            "bubble",
            "by formula",
            "ratio",
            "own window",
            "phase",
            "step",
            "peak in flight",
            "messages",
        ),
        rows=tuple(_row(each) for each in predicted.predictions),
        numeric=frozenset(range(1, 9)),
        note="Peak in flight: microbatches whose activations the worst rank holds, in its share of the model.",
    )


def _row(each: Prediction) -> tuple[str, ...]:
    simulated, form = each.simulation, each.closed_form
    peak = f"{max(each.peak_in_flight):.3g}"
    if each.peak_bytes is not None:
        peak += f" = {quantity(max(each.peak_bytes), 'bytes')}"
    return (
        safe_text(each.title),
        quantity(simulated.bubble_share, "share"),
        quantity(form.share, "share") if form else "none holds",
        quantity(simulated.bubble_ratio, "share"),
        quantity(simulated.span_bubble_share, "share"),
        quantity(simulated.makespan_ns, "ns"),
        quantity(simulated.step_ns, "ns"),
        peak,
        quantity(sum(simulated.num_messages), "count"),
    )


def _formulas(predicted: Predicted) -> tuple[Part, ...]:
    entries: list[tuple[str, str]] = []
    for each in predicted.predictions:
        form = each.closed_form
        text = f"{form.formula}; holds where: {form.domain}; {form.source}" if form else f"none: {each.no_closed_form}"
        entries.append((safe_text(each.title), safe_text(text)))
    entries += [
        (safe_text(refusal.title), safe_text(f"{refusal.error.message}; {refusal.error.hint}"))
        for refusal in predicted.refusals
    ]
    letters = (
        "P ranks, M microbatches, v chunks per rank; T_F, T_B, T_W: forward, input-gradient and weight-gradient of one "
        "microbatch on a rank's share of the model; T_b = T_B + T_W, T = T_F + T_b; c: latency of a hop."
    )
    return (Terms(title="Bubble time per rank", entries=(("letters", letters), *entries)),)


def inputs(predicted: Predicted) -> str:
    """What was simulated, in one line."""
    workload = predicted.workload
    return f"{workload.num_ranks} ranks · {workload.num_microbatches} microbatches · {safe_text(predicted.source)}"
