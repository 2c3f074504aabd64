"""Why steps are longer than their ideal, who is waited for, and what remedies are worth: lists of the review."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import LOSS, REFERENCE, RESULT
from reports.page.grids import Columns, record_grid
from reports.page.parts import Chart, Grid, Note, Part, Terms
from reports.page.text import at, chart_text, number, quantity, safe_text

_ENDS = ("measured", "ideal", "schedule")
"""Fields of the attribution that are no causes: its ends, and the bubble inside the ideal."""


def excess_rows(review: Mapping[str, Any]) -> pl.DataFrame:
    """Bars from the ideal step (0) to the measured one, one for each cause: name, start, end, color, text; in ms."""
    causes = at(review, "bubble", "attribution_ms")
    schema = {"name": pl.String, "start": pl.Float64, "end": pl.Float64, "color": pl.String, "text": pl.String}
    rows, level = list[tuple[str, float, float, str, str]](), 0.0
    for name, value in causes.items() if isinstance(causes, Mapping) else ():
        ms = number(value)
        if name in _ENDS or not ms:
            continue
        bar = sorted((level, level + ms))
        rows.append(
            (chart_text(name).replace("_", " "), bar[0], bar[1], LOSS if ms > 0 else RESULT, quantity(ms, "ms"))
        )
        level += ms
    if rows:
        rows.append(("in all", min(0.0, level), max(0.0, level), REFERENCE, quantity(level, "ms")))
    return pl.DataFrame(rows, schema=schema, orient="row")


def excess_chart(review: Mapping[str, Any]) -> Chart | None:
    """What makes the steps longer than their ideal; None where it is not told."""
    rows = excess_rows(review)
    if rows.is_empty():
        return None
    low, high = min(0.0, *rows["start"].to_list()), max(0.0, *rows["end"].to_list())
    measured, ideal = (at(review, "bubble", "attribution_ms", key) for key in ("measured", "ideal"))
    room = 0.16 * max(high - low, 1e-9)
    return Chart(
        id="excess",
        figure=charts.floating_bars(
            rows, x_label="ms beyond the ideal step", x_start=low - 0.02 * room, x_end=high + room
        ),
        title="Why steps are longer than their ideal",
        label="Causes of the difference between the measured and the ideal pipeline phase.",
        caption=f"Measured {quantity(measured, 'ms')}, ideal {quantity(ideal, 'ms')}: mean over steps. The causes sum to the "
        "difference exactly; slack is what waiting inside the ideal absorbs.",
        half=True,
    )


def culprits(review: Mapping[str, Any]) -> Grid | None:
    """Which rank adds how much, by cause."""
    columns: Columns = (
        ("cause", "cause", None),
        ("rank", "culprit", None),
        ("stages", "stages", None),
        ("per step", "ms", "ms"),
    )
    return record_grid(review, ("bubble", "culprits"), columns, title="Which rank adds it", half=True)


def waiting(review: Mapping[str, Any]) -> Grid | None:
    """Who waits for whom, and why."""
    columns: Columns = (
        ("waits", "waiter", None),
        ("for", "culprit", None),
        ("because of", "cause", None),
        ("per step", "ms", "ms"),
    )
    return record_grid(review, ("bubble", "blame"), columns, title="Who waits for whom", csv="blame", half=True)


def worth(review: Mapping[str, Any]) -> Grid | None:
    """What each remedy alone would save."""
    columns: Columns = (
        ("remedy", "remedy", None),
        ("rank", "rank", None),
        ("stage", "stage", None),
        ("saved per step", "ms", "ms"),
    )
    note = "Each alone, by replay of the measured order; never add them up."
    return record_grid(review, ("bubble", "worth"), columns, title="What if", note=note, half=True)


def stragglers(review: Mapping[str, Any]) -> Grid | None:
    """Ranks that compute slowly."""
    columns: Columns = (
        ("rank", "rank", None),
        ("stage", "stage", None),
        ("cause", "cause", None),
        ("slowdown", "slowdown", "ratio"),
        ("cost per step", "cost_ms", "ms"),
    )
    return record_grid(review, ("stragglers",), columns, title="Slow ranks", half=True)


def what_if(review: Mapping[str, Any]) -> list[Grid | Note | None]:
    """The published what-if study's slowdowns of an op table; nothing for other input."""
    study = at(review, "what_if")
    if not isinstance(study, Mapping):
        return []
    parts = (("kind", "by_kind"), ("stage", "by_stage"), ("replica", "by_replica"), ("rank", "by_rank"))
    found = [
        (title, safe_text(key), number(value), quantity(value, "ratio"))
        for title, field in (*parts, ("launch delays of", "launches_by_kind"))
        for key, value in (study[field].items() if isinstance(study.get(field), Mapping) else ())
    ]
    rows = [(title, key, text) for title, key, value, text in sorted(found, key=lambda row: -(row[2] or 0.0))]
    note = Note(
        text=f"What-if study of stragglers, definitions of arXiv 2505.05713: S {quantity(study.get('slowdown'), 'ratio')}, waste "
        f"{quantity(study.get('waste_share'), 'share')}. Its replay of durations misses the mean step by "
        f"{quantity(study.get('replay_error'), 'share')} and the worst by {quantity(study.get('max_replay_error'), 'share')}; "
        f"with launch delays, which it leaves out, the worst is missed by {quantity(study.get('launched_replay_error'), 'share')}."
    )
    grid = Grid(
        id="what-if-grid",
        title="Slowdowns of the what-if study",
        columns=("of", "which", "slowdown"),
        rows=tuple(rows),
        numeric=frozenset({2}),
        note="1 is no slowdown; never add them.",
        half=True,
    )
    return [note, grid]


def next_schedules(review: Mapping[str, Any]) -> list[Grid | Note | None]:
    """Other schedules at this run's times, and layers to move."""
    columns: Columns = (
        ("schedule", "schedule", None),
        ("this run's", "is_current", None),
        ("chunks", "num_chunks", "count"),
        ("microbatches", "num_microbatches", "count"),
        ("each", "microbatch", None),
        ("phase", "phase_ms", "ms"),
        ("saves", "saves_ms", "ms"),
        ("bubble", "bubble_share", "share"),
        ("activations", "memory_ratio", "ratio"),
        ("parameter copies", "num_parameter_copies", "count"),
    )
    note = safe_text(at(review, "next_schedules", "assumptions") or "")
    move = at(review, "next_schedules", "layers_to_move")
    grid = record_grid(
        review, ("next_schedules", "options"), columns, title="Schedules to try next", note=note, limit=24
    )
    return [grid, _layer_note(move) if isinstance(move, Mapping) else None]


def _layer_note(move: Mapping[str, Any]) -> Note:
    layers, source, target = (quantity(move.get(key), "count") for key in ("num_layers", "from_stage", "to_stage"))
    return Note(
        text=f"Moving {layers} layers from stage {source} to stage {target} would save {quantity(move.get('saves_ms'), 'ms')} "
        "per step, if a layer takes the median time."
    )


def expert_causes(review: Mapping[str, Any]) -> list[Grid | Note | None]:
    """What lies behind the all-to-all's figures: who is late and why, remedies, directions, hot experts, bytes."""
    base = "all_to_all"
    blame: Columns = (("late rank", "culprit", None), ("doing", "cause", None), ("others wait, per step", "ms", "ms"))
    remedies: Columns = (("remedy", "remedy", None), ("saved per step", "ms", "ms"))
    directions: Columns = (
        ("direction", "direction", None),
        ("cause", "cause", None),
        ("all-to-alls", "num", "count"),
        ("wait", "wait_ms", "ms"),
        ("transfer", "transfer_ms", "ms"),
    )
    hot: Columns = (
        ("layer", "layer", None),
        ("kind", "unit", None),
        ("hottest", "hottest", None),
        ("stays", "pattern", None),
        ("persistent part", "persistent_share", "share"),
    )
    volumes: Columns = (
        ("direction", "direction", None),
        ("measured", "measured_bytes", "bytes"),
        ("from routing", "routed_bytes", "bytes"),
        ("if uniform", "uniform_bytes", "bytes"),
        ("once per rank", "deduplicated_bytes", "bytes"),
        ("full buffers", "padded_bytes", "bytes"),
    )
    return [
        record_grid(review, (base, "blame"), blame, title="Who is late, and why", half=True),
        record_grid(
            review, (base, "worth"), remedies, title="What if", note="Each alone; never add them up.", half=True
        ),
        record_grid(review, (base, "exchanges"), directions, title="By direction, summed over ranks", half=True),
        record_grid(review, (base, "hot_spots"), hot, title="Hot spots", half=True),
        record_grid(review, (base, "volumes"), volumes, title="Bytes a rank sends in one all-to-all", half=True),
        _placement(review),
    ]


def sharding(review: Mapping[str, Any]) -> list[Part | None]:
    """Bytes of an expert layer by EP and by TP, and the rate of its matrix multiplications."""
    base = at(review, "expert_sharding")
    if not isinstance(base, Mapping):
        return []
    columns: Columns = (
        ("pass", "part", None),
        ("rows", "rows", "count"),
        ("inner", "inner", "count"),
        ("columns", "columns", "count"),
        ("calls", "num_calls", "count"),
        ("FLOP/s", "flops_per_second", "flops_per_second"),
    )
    how = "slices of every expert (TP)" if base.get("sharded_by") == "tp" else "whole experts (EP)"
    return [
        Terms(
            title="Sharded by EP or by TP",
            entries=(
                ("This run", f"{how}, {quantity(base.get('num_ranks'), 'count')} ranks"),
                ("Sent per rank, layer and forward", quantity(base.get("measured_bytes"), "bytes")),
                ("By EP, theory", quantity(base.get("expert_parallel_bytes"), "bytes")),
                ("By TP, theory", quantity(base.get("tensor_parallel_bytes"), "bytes")),
            ),
            half=True,
        ),
        record_grid(review, ("expert_sharding", "gemms"), columns, title="Expert GEMMs by shape", half=True),
    ]


def _placement(review: Mapping[str, Any]) -> Note | None:
    advice = at(review, "all_to_all", "placement")
    if not isinstance(advice, Mapping):
        return None
    before, after = (quantity(advice.get(f"rank_load_{when}"), "ratio") for when in ("before", "after"))
    basis = (
        "judged on steps it was not made from"
        if advice.get("held_out") is True
        else "judged on the steps it was made from"
    )
    moved, copies = (quantity(advice.get(key), "count") for key in ("num_moved", "num_redundant"))
    return Note(
        text=f"Placing experts by load would take the fullest rank from {before} to {after} the mean ({basis}): "
        f"{moved} experts move, {copies} are copied."
    )
