"""The pipeline's charts: bubble by stage, bubble step by step, step times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import BUBBLE_PARTS, REFERENCE, RESULT
from reports.page.parts import Chart, Grid
from reports.page.text import WITHHELD, at, listed, number, quantity, records, safe_text, withheld_reason

_PART_COLUMNS = {
    "warm-up": "warmup_ns",
    "steady": "steady_ns",
    "drain": "drain_ns",
    "transfer": "transfer_ns",
    "overhead": "overhead_ns",
}
MAX_INDEX = 10**7
"""Numbers of ranks and stages beyond it are none; nor are JSON's true and false."""


def bubble_shares(bubble: pl.DataFrame, stage_of_rank: Mapping[int, int]) -> tuple[pl.DataFrame, list[str]]:
    """Share of the pipeline phase by part, mean over steps: columns row, part, value; and the rows' names.

    One row per stage where every rank's stage is known (mean over its ranks), else one per rank.
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


def stages_of_ranks(review: Mapping[str, Any]) -> dict[int, int]:
    """Rank to stage, from the review's stages; ranks that hold several stages are left out."""
    found: dict[int, set[int]] = {}
    for entry in records(review, "bubble", "stages"):
        for rank in listed(entry, "ranks"):
            if _is_index(rank):
                found.setdefault(rank, set()).update(_stages(entry))
    return {rank: stages.pop() for rank, stages in found.items() if len(stages) == 1}


def _stages(entry: Mapping[str, Any]) -> list[int]:
    stage = entry.get("stage")
    return [s for s in (stage if isinstance(stage, list) else [stage]) if _is_index(s)]


def _is_index(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < MAX_INDEX


def theory_share(review: Mapping[str, Any]) -> tuple[float | None, str]:
    """The bubble's theory to draw, and what it is: the closed form inside its domain, else the simulated order."""
    closed = number(at(review, "bubble", "theory", "closed_form_share"))
    if closed is not None:
        return closed, "closed form"
    return number(at(review, "bubble", "theory", "simulated_share")), "simulation of the measured order"


def bubble_chart(review: Mapping[str, Any], bubble: pl.DataFrame) -> Chart | None:
    """Bubble by stage as stacked bars with the theory's line; None without measured rows."""
    values, names = bubble_shares(bubble, stages_of_ranks(review))
    if values.is_empty():
        return None
    theory, basis = theory_share(review)
    percent = values.with_columns(pl.col("value") * 100)
    figure = charts.stacked_bars(
        percent, names, BUBBLE_PARTS,
        x_label="share of the pipeline phase, %", unit="% of the phase",
        reference=None if theory is None else (100 * theory, f"theory {quantity(theory, 'share')}"),
    )  # fmt: skip
    used = set(values.filter(pl.col("value") > 0)["part"].to_list())
    steps = bubble["step"].n_unique()
    line = f" Dashed line: theory, {quantity(theory, 'share')} ({basis})." if theory is not None else ""
    return Chart(
        id="bubble-chart",
        figure=figure,
        title="Bubble by stage",
        label="Bubble by stage as a share of the pipeline phase, cut into its parts.",
        caption=f"Mean over {steps} steps. Only warm-up, steady and drain are waiting for other stages: "
        f"together they are set against theory.{line}",
        legend=tuple((part, color) for part, color in BUBBLE_PARTS.items() if part in used),
    )


def bubble_step_chart(review: Mapping[str, Any]) -> Chart | None:
    """Measured bubble step by step beside theory; None with fewer than two steps."""
    found = [(number(s.get("step")), number(s.get("measured_share"))) for s in records(review, "bubble", "steps")]
    known = [(step, 100 * share) for step, share in found if step is not None and share is not None]
    if len(known) < 2:
        return None
    theory, _ = theory_share(review)
    references = {} if theory is None else {"theory": 100 * theory}
    figure = charts.points(
        pl.DataFrame(known, schema={"x": pl.Float64, "y": pl.Float64}, orient="row"),
        x_label="step", y_label="bubble, % of phase", color=BUBBLE_PARTS["steady"], references=references, y_unit="%",
    )  # fmt: skip
    return Chart(
        id="bubble-steps",
        figure=figure,
        title="Bubble step by step",
        label="Measured bubble of every step, with theory as a line.",
        caption="Dependency bubble ÷ pipeline phase of each step." + (" Dashed: theory." if references else ""),
        legend=(("measured", BUBBLE_PARTS["steady"]),),
        half=True,
    )


def step_chart(review: Mapping[str, Any]) -> Chart | None:
    """Duration of every measured step; None with fewer than two."""
    values = [number(value) for value in listed(review, "step", "duration_ms", "values")]
    known = [(float(i), value) for i, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return None
    references = {
        name: level
        for name, level in (
            ("median", number(at(review, "step", "duration_ms", "median"))),
            ("without profiler", number(at(review, "step", "unprofiled_ms"))),
        )
        if level is not None
    }
    figure = charts.points(
        pl.DataFrame(known, schema={"x": pl.Float64, "y": pl.Float64}, orient="row"),
        x_label="measured step, in order", y_label="ms", color=RESULT, references=references, y_unit="ms",
    )  # fmt: skip
    lines = ", ".join(f"{name} {quantity(level, 'ms')}" for name, level in references.items())
    return Chart(
        id="step-times",
        figure=figure,
        title="Step times",
        label="Duration of every measured step.",
        caption=f"Lines: {lines}." if lines else "",
        legend=(("step", RESULT), *((("reference", REFERENCE),) if references else ())),
        half=True,
    )


def stage_grid(review: Mapping[str, Any]) -> Grid | None:
    """The review's stages as a table."""
    fields = ("dependency_ms", "warmup_ms", "steady_ms", "drain_ms", "transfer_ms", "overhead_ms")
    rows = [
        (
            safe_text(_stages(stage)) or "?",
            safe_text(listed(stage, "ranks")),
            *(quantity(stage.get(field), "ms") for field in fields),
        )
        for stage in records(review, "bubble", "stages")
    ]
    if not rows:
        return None
    return Grid(
        id="stage-grid",
        title="Bubble by stage",
        columns=("stage", "ranks", "dependency", "warm-up", "steady", "drain", "transfer", "overhead"),
        rows=tuple(rows),
        numeric=frozenset(range(2, 8)),
        note=f"transfer {WITHHELD}: {withheld_reason(review, 'bubble.stages.transfer_ms')}."
        if any(WITHHELD in row for row in rows)
        else "",
        csv="bubble",
    )
