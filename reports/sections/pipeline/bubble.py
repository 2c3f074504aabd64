"""The pipeline bubble: in all its forms, by stage and step by step."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median_low

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import BUBBLE_PARTS
from reports.page.grids import grid
from reports.page.model import Chart, Grid, Part, Section
from reports.sections.material import Material
from reports.sections.pipeline import causes
from reports.sections.pipeline.what_if import what_if
from reports.sections.waits import waiting_chart
from traceanalyzer.review import Bubble
from traceanalyzer.review.theory import theory_share
from traceanalyzer.review.words import Unit, counted, milliseconds, percent, quantity

_UNEVEN = 1.02
"""Times a usual rank's computation above which the longest one is named."""
_PART_COLUMNS = {
    "warm-up": "warmup_ns",
    "steady": "steady_ns",
    "drain": "drain_ns",
    "transfer": "transfer_ns",
    "overhead": "overhead_ns",
}


def section(material: Material) -> Section:
    """How large the bubble is, where it lies, and what makes steps longer than their ideal."""
    bubble, table = material.review.bubble, material.table("bubble")
    parts: list[Part | None] = []
    measured = bubble is not None and (bubble.measured_share is not None or not table.is_empty())
    if bubble is not None and measured:
        by_stage = bubble_chart(bubble, table)
        parts += [by_stage, step_chart(bubble), forms_grid(bubble), None if by_stage else stage_grid(bubble)]
    if bubble is not None:
        parts += [
            causes.excess(bubble),
            pipeline_waits(material),
            causes.culprits(bubble),
            causes.waiting(bubble),
        ]
    return material.section(
        "bubble",
        "Pipeline bubble",
        [*parts, *what_if(material.review.what_if)],
        "bubble",
        lead=_lead(bubble) if bubble is not None and measured else "",
    )


def _lead(bubble: Bubble) -> str:
    """How large the bubble is beside theory, and whose chunks take longest."""
    if bubble.measured_share is None:
        return "Time of the pipeline phase in which a stage runs no chunk."
    theory = theory_share(bubble)
    beside = (
        f" of the pipeline phase; {theory.source} gives {percent(theory.share)}" if theory else " of the pipeline phase"
    )
    longest = max(bubble.stages, key=lambda stage: stage.chunk_ms, default=None)
    usual = median_low([stage.chunk_ms for stage in bubble.stages]) if bubble.stages else 0.0
    uneven = longest is not None and longest.chunk_ms > _UNEVEN * usual
    named = (
        f"; the chunks of rank {longest.ranks[0]} take {milliseconds(longest.chunk_ms)}, those of a usual one {milliseconds(usual)}"
        if uneven and longest
        else ""
    )
    return f"Stages wait for each other for {percent(bubble.measured_share)}{beside}{named}."


def pipeline_waits(material: Material) -> Chart | None:
    """Who waits for whom between stages, per step; None without waits."""
    blame = material.table("blame").filter(~pl.col("step").is_in(list(material.set_apart)))
    known, steps = blame.drop_nulls(["waiter", "culprit"]), max(1, blame["step"].n_unique())
    sums = known.group_by("waiter", "culprit").agg(ms=pl.col("duration_ns").sum() / steps / 1e6)
    others, least = sums.filter(pl.col("waiter") != pl.col("culprit")), material.review.step.least_reported_ms or 0.0
    return waiting_chart(others, "pipeline-waits", "Who waits for whom, beyond the schedule", "blame", least)


def bubble_shares(bubble: pl.DataFrame, stage_of_rank: Mapping[int, int]) -> tuple[pl.DataFrame, list[str]]:
    """Share of the pipeline phase by part, mean over steps: columns row, part, value; and the rows' names.

    One row per stage if every rank's stage is known (mean over its ranks), else one per rank.
    """
    columns = list(_PART_COLUMNS.values())
    whole = bubble.drop_nulls(["rank", "phase_ns", *columns]).filter(pl.col("phase_ns") > 0)
    ranks = whole["rank"].unique().to_list()
    by_stage = bool(ranks) and all(rank in stage_of_rank for rank in ranks)
    place = pl.col("rank").replace_strict(dict(stage_of_rank), default=None, return_dtype=pl.Int64)
    whole = whole.with_columns(place=place if by_stage else pl.col("rank").cast(pl.Int64))
    shares = whole.group_by("place").agg(pl.col(name).sum() / pl.col("phase_ns").sum() for name in columns)
    shares = shares.sort("place").head(charts.MAX_ROWS).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    word = "stage" if by_stage else "rank"
    names = [f"{word} {place}" for place in shares["place"].to_list()]
    long = shares.rename({column: part for part, column in _PART_COLUMNS.items()}).unpivot(
        index="row", on=list(_PART_COLUMNS), variable_name="part", value_name="value"
    )
    return long, names


def stages_of_ranks(bubble: Bubble) -> dict[int, int]:
    """Rank to stage; ranks that hold several stages are left out."""
    found: dict[int, set[int]] = {}
    for entry in bubble.stages:
        for rank in entry.ranks:
            found.setdefault(rank, set()).update(entry.stage)
    return {rank: stages.pop() for rank, stages in found.items() if len(stages) == 1}


def bubble_chart(bubble: Bubble, table: pl.DataFrame) -> Chart | None:
    """Bubble by stage as stacked bars with the theory's line; None without measured rows."""
    values, names = bubble_shares(table, stages_of_ranks(bubble))
    if values.is_empty():
        return None
    theory = theory_share(bubble)
    used = set(values.filter(pl.col("value") > 0)["part"].to_list())
    line = f" Dashed line: theory, {percent(theory.share)} ({theory.source})." if theory else ""
    return Chart(
        id="bubble-chart",
        draw=lambda: charts.stacked_bars(
            values.with_columns(pl.col("value") * 100),
            names,
            BUBBLE_PARTS,
            x_label="share of the pipeline phase, %",
            unit="% of the phase",
            reference=(100 * theory.share, f"theory {percent(theory.share)}") if theory else None,
        ),
        title="Bubble by stage",
        label="Bubble by stage as a share of the pipeline phase, cut into its parts.",
        caption=f"Mean over {counted(table['step'].n_unique(), 'step')}. Warm-up, steady and drain are waiting for other stages: "
        f"their sum is compared with theory.{line}",
        legend=tuple((part, color) for part, color in BUBBLE_PARTS.items() if part in used),
        third=True,
        half=True,
        numbers=stage_grid(bubble),
    )


def step_chart(bubble: Bubble) -> Chart | None:
    """Measured bubble step by step beside theory; None with fewer than two steps."""
    if len(bubble.steps) < 2:
        return None
    theory = theory_share(bubble)
    known = pl.DataFrame(
        [(float(each.step), 100 * each.measured_share) for each in bubble.steps],
        schema={"x": pl.Float64, "y": pl.Float64},
        orient="row",
    )
    return Chart(
        id="bubble-steps",
        draw=lambda: charts.points(
            known,
            x_label="step",
            y_label="bubble, % of phase",
            color=BUBBLE_PARTS["steady"],
            references={"theory": 100 * theory.share} if theory else {},
            y_unit="%",
        ),
        title="Bubble step by step",
        label="Measured bubble of every step, with theory as a line.",
        caption="Dependency bubble ÷ pipeline phase of each step." + (" Dashed line: theory." if theory else ""),
        legend=(("measured", BUBBLE_PARTS["steady"]),),
        third=True,
        half=True,
        numbers=grid(
            "bubble-steps-numbers",
            "Bubble step by step",
            bubble.steps,
            [
                ("step", lambda s: s.step, None),
                ("pipeline", lambda s: s.pipeline, None),
                ("bubble", lambda s: s.measured_share, "share"),
            ],
            limit=200,
            few=0,
        ),
    )


Form = tuple[str, float | None, float | None, float | None, Unit]
"""A form of the bubble: name, measured, simulated, closed form, unit."""


def forms_grid(bubble: Bubble) -> Grid | None:
    """The bubble in all its forms, each beside what theory says of it."""
    theory = bubble.theory
    simulated = (theory.simulated_share, theory.simulated_ratio, theory.simulated_span_share) if theory else (None,) * 3
    closed = (theory.closed_form_share, theory.closed_form_ratio) if theory else (None,) * 2
    forms: list[Form] = [
        ("share of the pipeline phase", bubble.measured_share, simulated[0], closed[0], "share"),
        (
            "the same, every stage at its own times",
            bubble.measured_share,
            theory.own_times_share if theory else None,
            None,
            "share",
        ),
        ("ratio to compute", bubble.measured_ratio, simulated[1], closed[1], "share"),
        ("share of the ranks' own windows", bubble.span_share, simulated[2], None, "share"),
        ("share of the whole step (theory does not apply)", bubble.share_of_step, None, None, "share"),
        ("exposed transfer, share of the phase", bubble.transfer_share, None, None, "share"),
        ("late starts, share of the phase", bubble.overhead_share, None, None, "share"),
        ("all idle time, share of the phase", bubble.idle_share, None, None, "share"),
        ("pipeline phase", bubble.phase_ms, theory.simulated_phase_ms if theory else None, None, "ms"),
    ]
    known = [form for form in forms if form[1] is not None and (form[2] is not None or "own times" not in form[0])]
    said = [theory.formula, theory.domain, theory.source] if theory and theory.closed_form_share is not None else []
    formula = "; ".join(text for text in said if text)
    return grid(
        "bubble-forms",
        "The bubble in all its forms",
        known,
        [
            ("form", lambda f: f[0], None),
            ("measured", lambda f: quantity(f[1], f[4]), "number"),
            ("simulated", lambda f: "" if f[2] is None else quantity(f[2], f[4]), "number"),
            ("closed form", lambda f: "" if f[3] is None else quantity(f[3], f[4]), "number"),
        ],
        note=f"Closed form: {formula}." if formula else "",
        few=8,
        half=True,
    )


def stage_grid(bubble: Bubble) -> Grid | None:
    """The parts of the bubble by stage, per step."""
    return grid(
        "stage-grid",
        "Bubble by stage",
        bubble.stages,
        [
            ("stage", lambda s: s.stage, None),
            ("ranks", lambda s: s.ranks, None),
            ("chunks", lambda s: s.chunk_ms, "ms"),
            ("dependency", lambda s: s.dependency_ms, "ms"),
            ("warm-up", lambda s: s.warmup_ms, "ms"),
            ("steady", lambda s: s.steady_ms, "ms"),
            ("drain", lambda s: s.drain_ms, "ms"),
            ("transfer", lambda s: s.transfer_ms, "ms"),
            ("overhead", lambda s: s.overhead_ms, "ms"),
        ],
        note="Per step, median over steps.",
        limit=64,
        few=16,
        csv="bubble",
    )
