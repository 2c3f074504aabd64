"""Step times and memory: what a step costs."""

from __future__ import annotations

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import REFERENCE, RESULT
from reports.page.grids import figures, grid
from reports.page.model import Chart, Section
from reports.sections.material import Material
from traceanalyzer.review import RankMemory, StepFigures
from traceanalyzer.review.words import NOTHING, milliseconds, times


def steps(material: Material) -> Section:
    """Every measured step, and the same step without the profiler."""
    step = material.review.step
    duration = step.duration_ms
    facts = figures(
        "In numbers",
        [
            ("Median", duration.median, "ms"),
            ("5th percentile", duration.p05, "ms"),
            ("95th percentile", duration.p95, "ms"),
            ("Typical steps", duration.num_steps, "count"),
            ("Captured steps", step.num_captured, "count"),
            ("Told by", step.basis or "nothing: the whole capture is one step"),
            ("Noise of the median, ±", step.noise_ms, "ms"),
            *((f"Step {each.step}, set apart: {each.reason}", each.duration_ms, "ms") for each in step.set_apart[:8]),
            ("Price of steps set apart, per step", step.set_apart_cost_ms, "ms"),
            ("By the loop's clock, same steps", step.wall_clock_ms, "ms"),
            ("Without the profiler", step.unprofiled_ms, "ms"),
            ("End", "open: no following step bounds it, so it has no spread" if step.open_end else ""),
        ],
    )
    known = duration.median is not None
    return material.section("steps", "Steps", [step_chart(step), facts] if known else [], "step")


def step_chart(step: StepFigures) -> Chart | None:
    """Duration of every measured step; None with fewer than two."""
    if len(step.duration_ms.values) < 2:
        return None
    values = pl.DataFrame(
        list(enumerate(step.duration_ms.values)), schema={"x": pl.Float64, "y": pl.Float64}, orient="row"
    )
    references = {
        name: level
        for name, level in (("median", step.duration_ms.median), ("without profiler", step.unprofiled_ms))
        if level is not None
    }
    lines = ", ".join(f"{name} {milliseconds(level)}" for name, level in references.items())
    return Chart(
        id="step-times",
        draw=lambda: charts.points(
            values, x_label="measured step, in order", y_label="ms", color=RESULT, references=references, y_unit="ms"
        ),
        title="Step times",
        label="Duration of every measured step.",
        caption=f"Lines: {lines}." if lines else "",
        legend=(("step", RESULT), *((("reference", REFERENCE),) if references else ())),
        half=True,
    )


def memory(material: Material) -> Section:
    """What ranks hold for backward, beside what theory says."""
    held = material.review.memory
    ranks = held.stages if held else []
    theory = f" × {held.formula}" if held and held.formula else ""
    table = grid(
        "memory-grid",
        "Held for backward, by rank",
        ranks,
        [
            ("rank", lambda r: r.rank, "count"),
            ("stages", lambda r: r.stage, None),
            ("microbatches in flight", lambda r: r.in_flight, "count"),
            ("simulated", lambda r: r.predicted_in_flight, "count"),
            ("kept for backward", lambda r: r.peak_bytes, "bytes"),
            ("theory", lambda r: r.predicted_bytes, "bytes"),
            ("kept ÷ theory", _ratio, "ratio"),
            ("allocated, all tensors", lambda r: r.peak_allocated_bytes, "bytes"),
        ],
        note=f"The most at any time. Theory: microbatches in flight of the simulated order{theory}.",
        limit=64,
        few=16,
    )
    return material.section("memory", "Memory", [table], "memory")


def _ratio(rank: RankMemory) -> str:
    kept, theory = rank.peak_bytes, rank.predicted_bytes
    return times(kept / theory, 3) if kept and theory else NOTHING
