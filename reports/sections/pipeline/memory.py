"""Step times and memory: what a step costs."""

from __future__ import annotations

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import REFERENCE, RESULT
from reports.page.grids import figures, grid
from reports.page.model import Chart, Grid, Section, Terms
from reports.sections.material import Material
from traceanalyzer.review import Mfu, RankMemory, StepFigures
from traceanalyzer.review.sections.step import spread
from traceanalyzer.review.words import NOTHING, milliseconds, times


def steps(material: Material) -> Section:
    """Which steps the figures speak of, how long they last, and what is set apart."""
    step = material.review.step
    known = step.duration_ms.median is not None
    parts = [step_chart(step), _marks(step), _lengths(step, material.review.mfu), _set_apart(step)] if known else []
    return material.section("steps", "Steps", parts, "step")


def _marks(step: StepFigures) -> Terms | None:
    """How many steps there are, and what separates one from the next."""
    num_typical = step.duration_ms.num_steps
    return figures(
        "Which steps",
        [
            ("Typical", f"{num_typical} of {step.num_captured or num_typical} captured"),
            ("Marked by", step.basis or "nothing: the whole capture is one step"),
            ("But", step.basis_conflict or ""),
            ("Before the first", _outside(step.before_ms, "begins inside a step")),
            ("After the last", _outside(step.after_ms, "ends inside a step")),
            ("End", "open: no following step bounds it, so it has no spread" if step.open_end else ""),
        ],
    )


def _outside(ms: float | None, capture: str) -> str:
    return "" if ms is None else f"{milliseconds(ms)} lie outside any step: the capture {capture}, or holds other work"


def _lengths(step: StepFigures, mfu: Mfu) -> Terms | None:
    """Lengths of the typical steps, and what they make per second."""
    duration = step.duration_ms
    basis = f" ({step.noise_basis})" if step.noise_basis else ""
    noise = "" if step.noise_ms is None else f"± {milliseconds(step.noise_ms)}{basis}"
    differing = spread(duration)
    over_all = bool(step.set_apart_cost_ms)
    return figures(
        "In numbers",
        [
            ("Median", duration.median, "ms"),
            ("5th percentile", duration.p05, "ms"),
            ("95th percentile", duration.p95, "ms"),
            ("Spread", f"{differing}: the median does not represent all of them" if differing else ""),
            ("Noise of the median", noise),
            ("Steps set apart add, per step", step.set_apart_cost_ms, "ms"),
            ("Mean of all whole steps", step.mean_all_ms if over_all else None, "ms"),
            ("Tokens per second", mfu.tokens_per_second, "count"),
            ("Tokens per second, all whole steps", mfu.tokens_per_second_all_steps if over_all else None, "count"),
            ("By the loop's clock, same steps", step.wall_clock_ms, "ms"),
            ("Without the profiler", step.unprofiled_ms, "ms"),
        ],
    )


def _set_apart(step: StepFigures) -> Grid | None:
    """Captured steps that no figure speaks of."""
    return grid(
        "steps-apart",
        "Set apart: figures leave these steps out",
        step.set_apart,
        [
            ("step", lambda s: s.step, "count"),
            ("lasts", lambda s: s.duration_ms, "ms"),
            ("beyond the median", lambda s: s.excess_ms, "ms"),
            ("why", lambda s: s.reason, None),
        ],
        half=True,
    )


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
