"""A prediction as text for a terminal: one table, the formulas, and timelines on one axis."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

import click

from traceanalyzer.theory.prediction.comparison import Prediction
from traceanalyzer.theory.prediction.record import Predicted, Sweep

_COLORS = {"F": "blue", "B": "yellow", "I": "cyan", "W": "magenta", "O": "green"}
_IDLE = "·"
_PAIR = "O"
_MAX_RANKS = 16
_HEAD = ("schedule", "bubble", "by formula", "ratio", "own window", "phase", "step", "peak in flight", "messages")


def prediction_text(predicted: Predicted) -> str:
    """All that was predicted."""
    blocks = [_inputs(predicted), _aligned(_table(predicted))]
    blocks += [_notes(predicted), _timelines(predicted.predictions)]
    if predicted.sweep is not None:
        blocks.append(_aligned(_sweep_table(predicted.sweep)))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _inputs(predicted: Predicted) -> list[str]:
    workload = predicted.workload
    lines = [f"{workload.num_ranks} ranks, {workload.num_microbatches} microbatches; {predicted.source}"]
    costs = workload.costs
    extra = [
        f"hop {costs.hop_ns / 1e3:g} µs" if costs.hop_ns else "",
        f"messages of {costs.message_bytes / 2**20:.3g} MiB" if costs.message_bytes else "",
        f"links of {costs.bytes_per_second / 1e9:g} GB/s" if costs.bytes_per_second else "",
        f"{costs.sends} sends" if costs.sends != "async" else "",
        f"recompute {workload.recompute_ns / 1e6:g} ms" if workload.recompute_ns else "",
    ]
    return [*lines, ", ".join(text for text in extra if text)] if any(extra) else lines


def _table(predicted: Predicted) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [_HEAD]
    for each in predicted.predictions:
        simulated, form = each.simulation, each.closed_form
        peak = max(each.peak_in_flight, default=0.0)
        memory = "" if each.peak_bytes is None else f" = {max(each.peak_bytes) / 2**30:.3g} GiB"
        rows.append(
            (
                each.title,
                _percent(simulated.bubble_share),
                _percent(form.share) if form else "-",
                _percent(simulated.bubble_ratio),
                _percent(simulated.span_bubble_share),
                _ms(simulated.makespan_ns),
                _ms(simulated.step_ns),
                f"{peak:g} on rank {each.peak_in_flight.index(peak)}{memory}" if each.peak_in_flight else "",
                str(sum(simulated.num_messages)),
            )
        )
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.4g} ms" if nanoseconds < 10e9 else f"{nanoseconds / 1e9:.4g} s"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]  # fmt: skip


def _notes(predicted: Predicted) -> list[str]:
    """What the columns mean, where each formula holds, and what is missing and why."""
    lines = [
        "bubble: share of the pipeline phase of all ranks; ratio: bubble ÷ useful time; own window: share with the",
        "longest per-rank window in place of the phase; in flight: microbatches in a rank's share of the model",
    ]
    for each in predicted.predictions:
        if each.closed_form:
            form = each.closed_form
            lines.append(f"  {each.title}: bubble {form.formula}; holds where: {form.domain}; {form.source}")
        else:
            known = f" (the order is {each.schedule}'s)" if each.schedule and each.title != each.schedule else ""
            lines.append(f"  {each.title}: no formula: {each.no_closed_form}{known}")
    lines += [f"! {refusal.title}: {refusal.error.message}; {refusal.error.hint}" for refusal in predicted.refusals]
    return lines


def _timelines(predictions: Sequence[Prediction]) -> list[str]:
    width = max(40, shutil.get_terminal_size((100, 24)).columns - 8)
    longest = max((each.simulation.makespan_ns for each in predictions), default=0)
    if not longest:
        return []
    pairs = f"{_PAIR} is an overlapped forward and backward; " if _has_pairs(predictions) else ""
    column = f"one column is {longest / width / 1e6:.3g} ms"
    lines = [f"{column}; small letters are odd microbatches; {pairs}{_IDLE} is idle"]
    for each in predictions:
        lines.append(f"{each.title}: {_percent(each.simulation.bubble_share)}")
        lines += _timeline(each, width, longest)
    return lines


def _has_pairs(predictions: Sequence[Prediction]) -> bool:
    nodes = (node for each in predictions for rank in each.simulation.program.actions for node in rank)
    return any(len(node) > 1 for node in nodes)


def _timeline(prediction: Prediction, width: int, longest_ns: int) -> Iterator[str]:
    simulated = prediction.simulation
    shown = min(simulated.num_ranks, _MAX_RANKS)
    end = -(-simulated.makespan_ns * width // longest_ns)
    for rank in range(shown):
        cells = [_IDLE] * end
        covered = [0.0] * end
        times = zip(simulated.program.actions[rank], simulated.starts[rank], simulated.ends[rank], strict=True)
        for actions, start, stop in times:
            letter = actions[0].phase.value if len(actions) == 1 else _PAIR
            letter = letter if actions[0].microbatch % 2 == 0 else letter.lower()
            for column in range(start * width // longest_ns, min(end, -(-stop * width // longest_ns))):
                left, right = column * longest_ns / width, (column + 1) * longest_ns / width
                part = min(stop, right) - max(start, left)
                if part > covered[column] and part > 0.25 * (right - left):
                    cells[column], covered[column] = letter, part
        yield f"{rank:>5} " + "".join(click.style(c, fg=_COLORS.get(c.upper())) if c != _IDLE else c for c in cells)
    if shown < simulated.num_ranks:
        yield f"      and {simulated.num_ranks - shown} more ranks"


def _sweep_table(swept: Sweep) -> list[Sequence[str]]:
    """Bubble of every schedule (columns) at every point (rows)."""
    schedules = swept.table["schedule"].unique(maintain_order=True).to_list()
    shares = {(row["schedule"], row[swept.varied]): row["bubble_share"] for row in swept.table.iter_rows(named=True)}
    head = (f"{swept.varied.removeprefix('num_')} (bubble)", *schedules)
    points = sorted({point for _, point in shares})
    rows = [
        (str(point), *(_percent(shares[s, point]) if (s, point) in shares else "-" for s in schedules))
        for point in points
    ]
    return [head, *rows]
