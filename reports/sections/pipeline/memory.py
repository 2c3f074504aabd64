"""Step times and memory: what a step costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import LOSS, REFERENCE, RESULT
from reports.page.grids import figures, grid
from reports.page.model import Chart, Grid, Section, Terms
from reports.sections.material import Material
from reports.sections.pipeline.over_time import held_chart, metered_chart
from reports.sections.rows import MAX_SINGLE, rows_of
from traceanalyzer.review import Mfu, RankMemory, StepFigures
from traceanalyzer.review.sections.step import spread
from traceanalyzer.review.words import NOTHING, byte_count, counted, milliseconds, times


def steps(material: Material) -> Section:
    """Which steps the figures speak of, how long they last, and what is set apart."""
    step = material.review.step
    known = step.duration_ms.median is not None
    parts = (
        [step_chart(step, _step_numbers(material)), _marks(step), _lengths(step, material.review.mfu), _set_apart(step)]
        if known
        else []
    )
    return material.section("steps", "Steps", parts, "step", lead=_steps_lead(step) if known else "")


def _steps_lead(step: StepFigures) -> str:
    """The pace, its noise, and what is set apart."""
    duration = step.duration_ms
    noise = "" if step.noise_ms is None else f" ± {milliseconds(step.noise_ms)}"
    apart = f"; {counted(len(step.set_apart), 'step')} set apart" if step.set_apart else ""
    what = "A typical step" if duration.num_steps > 1 else "The only step"
    over = f", over {duration.num_steps:,} steps" if duration.num_steps > 1 else ""
    return f"{what} takes {milliseconds(duration.median or 0.0)}{noise}{over}{apart}."


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


def _step_numbers(material: Material) -> list[int]:
    """The number of each typical step, in order; empty where the table of steps holds others."""
    table, step = material.table("steps"), material.review.step
    whole = table.filter(~pl.col("open_end").fill_null(value=False))
    apart = {each.step for each in step.set_apart}
    for steps in (table, whole):
        own = sorted(set(steps["step"].drop_nulls().to_list()) - apart)
        if len(own) == len(step.duration_ms.values):
            return own
    return []


def step_chart(step: StepFigures, numbers: Sequence[int] = ()) -> Chart | None:
    """Duration of every captured step, those set apart as outliers; None with fewer than two.

    `numbers`: of the typical steps; without them they are counted from the first one, and those set apart stand last.
    """
    typical, apart = step.duration_ms.values, step.set_apart
    if len(typical) + len(apart) < 2 or not typical:
        return None
    first = list(zip(numbers or range(1, len(typical) + 1), map(float, typical), strict=True))
    out = [(float(each.step if numbers else len(typical) + at), each.duration_ms) for at, each in enumerate(apart, 1)]
    values = pl.DataFrame([(float(x), y) for x, y in first], schema={"x": pl.Float64, "y": pl.Float64}, orient="row")
    outliers = pl.DataFrame(out, schema={"x": pl.Float64, "y": pl.Float64}, orient="row")
    references = {
        name: level
        for name, level in (("median", step.duration_ms.median), ("without profiler", step.unprofiled_ms))
        if level is not None
    }
    lines = ", ".join(f"{name} {milliseconds(level)}" for name, level in references.items())
    apart_text = f" Set apart: {', '.join(f'step {each.step} ({each.reason})' for each in apart[:6])}." if apart else ""
    return Chart(
        id="step-times",
        draw=lambda: charts.points(
            values, x_label=_order(bool(numbers), bool(out)), y_label="ms",
            color=RESULT, references=references, y_unit="ms", outliers=outliers,
        ),
        title="Step times",
        label=f"Duration of {len(typical)} typical steps and of {len(apart)} that are set apart. {lines}.",
        caption=(f"{'Lines' if len(references) > 1 else 'Dashed line'}: {lines}." if lines else "") + apart_text,
        legend=(
            ("typical step", RESULT),
            *((("set apart", LOSS),) if out else ()),
            *((("median", REFERENCE),) if len(references) == 1 else (("median, and without profiler", REFERENCE),) if references else ()),
        ),
        third=True,
        half=True,
        numbers=grid(
            "step-times-numbers",
            "Step times",
            [
                *((str(at), ms, "typical") for at, ms in first),
                *((str(each.step), each.duration_ms, f"set apart: {each.reason}") for each in apart),
            ],
            [("step" if numbers or not first else "in order", lambda r: r[0], None), ("lasts", lambda r: r[1], "ms"), ("", lambda r: r[2], None)],
            limit=200,
            few=0,
            csv="steps",
        ),
    )  # fmt: skip


def _order(numbered: bool, apart: bool) -> str:  # noqa: FBT001 - of its one call
    """What the axis of steps counts."""
    if numbered:
        return "step"
    return "captured step, in order; those set apart last" if apart else "captured step, in order"


def memory_chart(material: Material, ranks: Sequence[RankMemory]) -> Chart | None:
    """What each rank holds for backward beside theory: bytes where they were metered, else microbatches in flight."""
    if not ranks:
        return None
    metered = all(each.peak_bytes for each in ranks)
    large = metered and max(each.peak_bytes or 0 for each in ranks) > 2**29
    unit, scale = (("GiB", 2.0**-30) if large else ("MiB", 2.0**-20)) if metered else ("microbatches", 1.0)
    held = _by_rank({each.rank: each.peak_bytes if metered else each.in_flight for each in ranks}, scale)
    theory = _by_rank(
        {each.rank: each.predicted_bytes if metered else each.predicted_in_flight for each in ranks}, scale
    )
    rows = rows_of(material, held)
    values = rows.means(held).with_columns(part=pl.lit("held"))
    ticks = list(rows.means(theory).select("row", "value").iter_rows())
    return Chart(
        id="memory-chart",
        draw=lambda: charts.stacked_bars(
            values, rows.names, {"held": RESULT}, x_label=f"held for backward at most, {unit}", unit=unit, ticks=ticks
        ),
        title="Held for backward",
        label=f"Bars of what each rank holds for backward, in {unit}, with a line at what theory says.",
        caption="Line on each bar: the simulation of the order that ran"
        + (" × activation bytes per microbatch." if metered else "; bytes were not metered.")
        + rows.said,
        legend=(("measured", RESULT), *((("theory", REFERENCE),) if ticks else ())),
        half=True,
        third=True,
    )


def _by_rank(values: Mapping[int, float | None], scale: float) -> pl.DataFrame:
    """rank, value; ranks without a value left out."""
    known = [(rank, value * scale) for rank, value in values.items() if value is not None]
    return pl.DataFrame(known, schema={"rank": pl.Int64, "value": pl.Float64}, orient="row")


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
        folded=len(ranks) > MAX_SINGLE,
    )
    parts = [memory_chart(material, ranks), held_chart(material), metered_chart(material), table]
    return material.section("memory", "Memory", parts, "memory", lead=_memory_lead(ranks))


def _memory_lead(ranks: Sequence[RankMemory]) -> str:
    """The rank that holds most, and whether theory agrees."""
    if not ranks:
        return ""
    most = max(ranks, key=lambda each: (each.peak_bytes or 0, each.in_flight))
    held = f"{byte_count(most.peak_bytes)} in " if most.peak_bytes else ""
    beside = "as many as the simulated schedule says"
    if any(each.in_flight != each.predicted_in_flight for each in ranks):
        beside = "and not every rank holds as many as the simulated schedule says"
    elif (fullest := max(ranks, key=_excess)) and abs(_excess(fullest) - 1) >= _REPORTED_EXCESS:
        beside += f"; rank {fullest.rank} keeps {times(_excess(fullest))} the bytes that they take by theory"
    return f"Rank {most.rank} holds most for backward: {held}{counted(most.in_flight, 'microbatch')}, {beside}."


_REPORTED_EXCESS = 0.05
"""Bytes that differ from theory by less agree with it."""


def _excess(rank: RankMemory) -> float:
    """Bytes kept ÷ theory; 1 where either is not known."""
    return rank.peak_bytes / rank.predicted_bytes if rank.peak_bytes and rank.predicted_bytes else 1.0


def _ratio(rank: RankMemory) -> str:
    kept, theory = rank.peak_bytes, rank.predicted_bytes
    return times(kept / theory, 3) if kept and theory else NOTHING
