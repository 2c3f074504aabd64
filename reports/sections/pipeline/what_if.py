"""What other schedules would give at this run's times, and the published what-if study of stragglers."""

from __future__ import annotations

from reports.page.grids import grid
from reports.page.model import Grid, Note, Part, Section
from reports.sections.material import Material
from traceanalyzer.review import LayerMove, NextSchedules, ScheduleOption, WhatIfFigures
from traceanalyzer.review.words import counted, milliseconds, percent, times


def section(material: Material) -> Section | None:
    """Schedules to try next; None without a pipeline."""
    following = material.review.next_schedules
    if following is None:
        return None
    move = following.layers_to_move
    return material.section(
        "next-schedules",
        "Schedules to try next",
        [schedule_grid(following), layer_note(move) if move else None],
        lead=f"Simulated at this run's times. Assumed: {following.assumptions}.",
    )


def schedule_grid(following: NextSchedules) -> Grid | None:
    """Other schedules, fastest first, with the memory of each."""
    return grid(
        "schedules",
        "Schedules at this run's times",
        following.options,
        [
            ("schedule", _name, None),
            ("chunks", lambda o: o.num_chunks, "count"),
            ("microbatches", _microbatches, "count"),
            ("phase", lambda o: o.phase_ms, "ms"),
            ("saves", lambda o: o.saves_ms, "ms"),
            ("bubble", lambda o: o.bubble_share, "share"),
            ("activations", lambda o: o.memory_ratio, "ratio"),
            ("parameter copies", lambda o: o.num_parameter_copies, "count"),
        ],
        limit=24,
        few=24,
    )


def _name(option: ScheduleOption) -> str:
    return f"{option.schedule} (this run)" if option.is_current else option.schedule


def _microbatches(option: ScheduleOption) -> str:
    return f"{option.num_microbatches:,}" + ("" if option.microbatch == "same" else " half as large")


def layer_note(move: LayerMove) -> Note:
    """Layers that would even out the stages."""
    return Note(
        text=f"Moving {counted(move.num_layers, 'layer')} from stage {move.from_stage} to stage {move.to_stage} would save "
        f"{milliseconds(move.saves_ms)} per step, if a layer takes the median time."
    )


def what_if(study: WhatIfFigures | None) -> list[Part | None]:
    """Slowdowns under the published definitions, largest first; nothing without operations of all ranks."""
    if study is None:
        return []
    parts = (
        ("kind", study.by_kind),
        ("stage", study.by_stage),
        ("replica", study.by_replica),
        ("rank", study.by_rank),
        ("launch delays of", study.launches_by_kind),
    )
    rows = [(title, str(key), slowdown) for title, slowdowns in parts for key, slowdown in slowdowns.items()]
    explained = (
        ("the slowest 3% of workers", study.slowest_workers_share),
        ("the last stage", study.last_stage_share),
    )
    said = "".join(f" {name.capitalize()} explain{'s' if name.startswith('the last') else ''} {percent(share)} of it."
                   for name, share in explained if share is not None)  # fmt: skip
    note = Note(
        text=f"What-if study of stragglers, as defined in arXiv 2505.05713: slowdown S {times(study.slowdown, 4)}, waste "
        f"{percent(study.waste_share)}.{said} The study replays durations without launch delays: {milliseconds(study.replayed_ms)} "
        f"against {milliseconds(study.measured_ms)} measured and {milliseconds(study.ideal_ms)} ideal. It misses the mean step by "
        f"{percent(study.replay_error)} and the worst step by {percent(study.max_replay_error)}. Launch delays make steps "
        f"{times(study.launch_slowdown, 4)} as long; with them the worst step is missed by {percent(study.launched_replay_error)}."
    )
    slowdowns = grid(
        "what-if-grid",
        "Slowdowns of the what-if study",
        sorted(rows, key=lambda row: -row[2]),
        [
            ("of", lambda r: r[0], None),
            ("which", lambda r: r[1], None),
            ("slowdown", lambda r: times(r[2], 4), "ratio"),
        ],
        note="1: not slowed down. Slowdowns do not add up.",
        limit=64,
        half=True,
    )
    return [note, slowdowns]
