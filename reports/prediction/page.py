"""The page of `predict`: schedules side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.charts.choice import bubble_and_memory
from reports.charts.prediction import memory_over_time, sweep_chart, timelines
from reports.page.grids import grid
from reports.page.model import Chart, Grid, Page, Section, Terms
from traceanalyzer.review.words import counted, digits, milliseconds, percent, quantity, times
from traceanalyzer.theory.prediction.comparison import Prediction
from traceanalyzer.theory.prediction.record import Predicted

_LETTERS = (
    "P ranks, M microbatches, v chunks per rank; T_F, T_B, T_W: forward, input-gradient and weight-gradient of one "
    "microbatch on a rank's share of the model; T_b = T_B + T_W, T = T_F + T_b; c: latency of a hop."
)


def prediction_page(predicted: Predicted) -> Page:
    """Everything that was predicted, the shortest schedule first."""
    ranked = sorted(predicted.predictions, key=lambda each: each.simulation.makespan_ns)
    predicted = replace(predicted, results=(*ranked, *predicted.refusals))
    sections = [
        Section(id="compared", title="Schedules compared", lead=_LEAD, parts=_compared(predicted)),
        Section(
            id="timelines-section",
            title="On one axis",
            parts=(timelines(predicted.predictions), memory_over_time(predicted.predictions)),
        ),
        Section(id="formulas", title="Formulas and assumptions", parts=(_formulas(predicted),)),
    ]
    if predicted.sweep is not None and not predicted.sweep.table.is_empty():
        sections.insert(2, Section(id="sweep-section", title="Sweep", parts=(sweep_chart(predicted.sweep),)))
    refusals = (f"{each.title}: {each.error.message}; {each.error.hint}" for each in predicted.refusals)
    return Page(
        title="Schedule prediction",
        subject=_inputs(predicted),
        warnings=tuple(refusals),
        preface=_inputs(predicted),
        verdict=_verdict(predicted),
        sections=tuple(sections),
        footer="Simulated from the schedules' orders and the times above; nothing here was measured.",
    )


def _compared(predicted: Predicted) -> tuple[Chart | Grid, ...]:
    """The table, and with more than one schedule the choice between bubble and memory as a picture above it."""
    table = _table(predicted)
    return (table,) if len(predicted.predictions) == 1 else (bubble_and_memory(predicted.predictions), table)


_LEAD = (
    "Bubble: share of the pipeline phase (first forward to last backward) of all ranks. Ratio: bubble ÷ useful time. "
    "Own window: the share with the longest per-rank window in place of the phase, as the zero-bubble papers count."
)


def _inputs(predicted: Predicted) -> str:
    """What was simulated, in one line."""
    workload, costs = predicted.workload, predicted.workload.costs
    said = [
        counted(workload.num_ranks, "rank"),
        counted(workload.num_microbatches, "microbatch"),
        predicted.source,
        f"hop {milliseconds(costs.hop_ns / 1e6)}" if costs.hop_ns else "",
        f"messages of {quantity(costs.message_bytes, 'bytes')}" if costs.message_bytes else "",
        f"links of {digits(costs.bytes_per_second / 1e9)} GB/s" if costs.bytes_per_second else "",
        f"{costs.sends} sends" if costs.sends != "async" else "",
        f"recompute {milliseconds(workload.recompute_ns / 1e6)}" if workload.recompute_ns else "",
    ]
    return " · ".join(text for text in said if text)


def _verdict(predicted: Predicted) -> tuple[str, ...]:
    """What to take away, in at most two sentences."""
    ranked = sorted(predicted.predictions, key=lambda each: each.simulation.makespan_ns)
    best, worst = ranked[0], ranked[-1]
    share = percent(best.simulation.bubble_share)
    if best is worst:
        return (f"The bubble of {best.title} takes {share} of its pipeline phase.",)
    longer = worst.simulation.makespan_ns / best.simulation.makespan_ns - 1
    peak = f"with the activations of at most {_microbatches(max(best.peak_in_flight))} on a rank"
    tied = [each for each in ranked if each.simulation.makespan_ns <= (1 + _TIE) * best.simulation.makespan_ns]
    if len(tied) == len(ranked):
        return (f"{_named(tied)} take equally long: the bubble is {share} of the pipeline phase.", _least_memory(tied))
    slowest = [each for each in ranked if each.simulation.makespan_ns >= worst.simulation.makespan_ns / (1 + _TIE)]
    takes = f"{percent(longer)} longer" if longer < 1 else f"{times(1 + longer)} as long"
    last = f"{worst.title} is the longest: its phase takes {takes}."
    if len(slowest) > 1:
        last = f"{_named(slowest)} are the longest: their phases take {takes}."
    if len(tied) > 1:
        return (
            f"{_named(tied)} are the shortest: the bubble takes {share} of the pipeline phase.",
            _least_memory(tied),
            last,
        )
    return (f"{best.title} is the shortest: its bubble takes {share} of its pipeline phase, {peak}.", last)


_TIE = 1e-3
"""Phases that differ by less are equally long."""


def _named(several: Sequence[Prediction]) -> str:
    titles = [each.title for each in several]
    return f"{', '.join(titles[:-1])} and {titles[-1]}"


def _microbatches(held: float) -> str:
    """Shares of chunks are held, too, so the number need not be whole."""
    return f"{held:.3g} {'microbatch' if held == 1 else 'microbatches'}"


def _least_memory(tied: Sequence[Prediction]) -> str:
    """Which of equally long schedules holds the fewest activations."""
    least = min(max(each.peak_in_flight) for each in tied)
    lean = [each for each in tied if max(each.peak_in_flight) <= least * (1 + _TIE)]
    if len(lean) == len(tied):
        every = "Both" if len(tied) == 2 else f"These {len(tied)}"
        return f"{every} hold the activations of at most {_microbatches(least)} on a rank."
    verb = "holds" if len(lean) == 1 else "hold"
    return f"Of these, {_named(lean) if len(lean) > 1 else lean[0].title} {verb} least: the activations of {_microbatches(least)} on a rank."


def _table(predicted: Predicted) -> Grid:
    found = grid(
        "schedules",
        "All forms of the bubble",
        predicted.predictions,
        [
            ("schedule", lambda p: p.title, None),
            ("bubble", lambda p: p.simulation.bubble_share, "share"),
            ("by formula", lambda p: p.closed_form.share if p.closed_form else None, "share"),
            ("ratio", lambda p: p.simulation.bubble_ratio, "share"),
            ("own window", lambda p: p.simulation.span_bubble_share, "share"),
            ("phase", lambda p: p.simulation.makespan_ns, "ns"),
            ("step", lambda p: p.simulation.step_ns, "ns"),
            ("peak in flight", _peak, "count"),
            ("messages", lambda p: sum(p.simulation.num_messages), "count"),
        ],
        note="Peak in flight: microbatches whose activations the worst rank holds, in its share of the model.",
        limit=len(predicted.predictions),
        few=len(predicted.predictions),
    )
    assert found is not None  # noqa: S101 - a prediction without a schedule is refused before
    return found


def _peak(each: Prediction) -> str:
    peak = max(each.peak_in_flight)
    memory = "" if each.peak_bytes is None else f" = {quantity(max(each.peak_bytes), 'bytes')}"
    return f"{peak:.3g} on rank {each.peak_in_flight.index(peak)}{memory}"


def _formulas(predicted: Predicted) -> Terms:
    return Terms(
        title="Bubble time per rank",
        entries=(("letters", _LETTERS), *((each.title, _formula(each)) for each in predicted.predictions)),
    )


def _formula(each: Prediction) -> str:
    form = each.closed_form
    if form:
        return f"{form.formula}; holds if: {form.domain}; {form.source}"
    known = f" (the order is {each.schedule}'s)" if each.schedule and each.title != each.schedule else ""
    return f"no formula: {each.no_closed_form}{known}"
