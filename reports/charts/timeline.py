"""The timeline: measured actions above the ideal ones, on one time axis.

Time zero is the start of the shown step's pipeline phase. Ideal actions are laid at the start of every measured
step's phase, so wherever a reader pans, theory stands below its measurement.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.charts.palette import NEUTRAL_INK, ODD_CHUNKS, PHASE_NAMES, PHASES, REFERENCE, ink_on
from reports.charts.time_axis import AXIS, NS_PER_MS, median_step, name_rows, source_of, time_figure, view
from reports.page.model import Button, Chart
from traceanalyzer.review.words import milliseconds

MAX_RECTANGLES = 20_000
"""Drawn bars in all: a canvas redraws this many while panning; more would stall an ordinary laptop."""
BAR_HEIGHT = 0.84
_INKS = {color: ink_on(color) for tones in (PHASES, ODD_CHUNKS) for color in tones.values()}
SERIES_NAMES = {
    "measured": "measured (solid line: its end)",
    "ideal": "ideal: simulated, uniform stages, nothing late (dashed line: its end)",
}


@dataclass(frozen=True, slots=True)
class Timeline:
    """The bars to draw and what was left out."""

    bars: pl.DataFrame
    """series (measured, ideal), rank, step, stage, microbatch, phase, chunk, row, start_ms, end_ms, idle_before_ms."""
    windows: pl.DataFrame
    """One row per step: step, start_ms and end_ms of the measured phase, ideal_end_ms (null without theory)."""
    shown_step: int
    origin_ns: int
    left_out: str


def lay_out(actions: pl.DataFrame, ideal: pl.DataFrame, limit: int = MAX_RECTANGLES) -> Timeline | None:
    """Bars of measured and ideal actions, at most `limit`; None without a timed action."""
    actions = actions.drop_nulls(["rank", "step", "phase", "start_ns", "end_ns"])
    if actions.is_empty():
        return None
    ideal = ideal.drop_nulls(["rank", "phase", "start_ns", "end_ns"])
    windows = actions.group_by("step").agg(pl.col("start_ns").min(), pl.col("end_ns").max()).sort("step")
    shown = median_step(windows)
    origin = int(windows.filter(pl.col("step") == shown)["start_ns"][0])
    measured, drawn_ideal, left_out = _within(actions, ideal, shown, limit)
    windows = windows.filter(pl.col("step").is_in(measured["step"].unique().to_list()))
    bars = pl.concat([_placed(measured, "measured"), _placed(_at_every_step(drawn_ideal, windows), "ideal")])
    ideal_ns = ideal.select(pl.col("end_ns").max() - pl.col("start_ns").min()).item() if len(ideal) else None
    return Timeline(
        bars=_on_rows(bars, origin),
        windows=windows.select(
            "step",
            start_ms=(pl.col("start_ns") - origin) / NS_PER_MS,
            end_ms=(pl.col("end_ns") - origin) / NS_PER_MS,
            ideal_end_ms=(pl.col("start_ns") - origin + pl.lit(ideal_ns, pl.Int64)) / NS_PER_MS,
        ),
        shown_step=shown,
        origin_ns=origin,
        left_out=left_out,
    )


def _within(
    actions: pl.DataFrame, ideal: pl.DataFrame, shown: int, limit: int
) -> tuple[pl.DataFrame, pl.DataFrame, str]:
    """Whole steps nearest to the shown one, then whole ranks, until no more than `limit` bars are drawn."""
    steps = sorted(actions["step"].unique().to_list(), key=lambda step: (abs(step - shown), step))
    sizes = dict(actions.group_by("step").len().iter_rows())
    kept, total = list[int](), 0
    for step in steps:
        total += sizes[step] + len(ideal)
        if total > limit and kept:
            break
        kept.append(step)
    missing = len(steps) - len(kept)
    left_out = f"{missing} of {len(steps)} steps are not drawn: the limit is {limit:,} bars. " if missing else ""
    actions = actions.filter(pl.col("step").is_in(kept))
    if len(actions) + len(ideal) * len(kept) <= limit:
        return actions, ideal, left_out
    ranks, drawn = sorted(actions["rank"].unique().to_list()), list[int]()
    sizes = dict(pl.concat([actions.select("rank"), ideal.select("rank")]).group_by("rank").len().iter_rows())
    for rank in ranks:
        if sum(sizes[r] for r in drawn) + sizes[rank] > limit:
            break
        drawn.append(rank)
    left_out += f"{len(ranks) - len(drawn)} of {len(ranks)} ranks are not drawn: the limit is {limit:,} bars. "
    few = [frame.filter(pl.col("rank").is_in(drawn or ranks[:1])).head(limit // 2) for frame in (actions, ideal)]
    return few[0], few[1], left_out


def _at_every_step(ideal: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """The ideal actions once per measured step, starting where its phase starts."""
    first = pl.col("start_ns").min()
    zeroed = ideal.with_columns(start_ns=pl.col("start_ns") - first, end_ns=pl.col("end_ns") - first).drop("step")
    starts = windows.select("step", phase_start_ns="start_ns")
    return zeroed.join(starts, how="cross").with_columns(
        pl.col("start_ns") + pl.col("phase_start_ns"), pl.col("end_ns") + pl.col("phase_start_ns")
    )


def _placed(actions: pl.DataFrame, series: str) -> pl.DataFrame:
    """Actions with their idle time before and the number of their chunk on the rank."""
    ordered = actions.sort("rank", "step", "start_ns")
    stages = actions.select("rank", "stage").unique().sort("rank", "stage")
    chunks = stages.with_columns(chunk=pl.int_range(pl.len()).over("rank").cast(pl.Int32))
    return ordered.join(chunks, on=["rank", "stage"], how="left", nulls_equal=True).select(
        pl.lit(series).alias("series"),
        *[pl.col(name).cast(pl.Int32) for name in ("rank", "step", "stage", "microbatch", "chunk")],
        pl.col("phase").cast(pl.String),
        "start_ns",
        "end_ns",
        idle_ns=(pl.col("start_ns") - pl.col("end_ns").shift(1).over("rank", "step")).clip(0),
    )


def _on_rows(bars: pl.DataFrame, origin_ns: int) -> pl.DataFrame:
    """Bars in ms since `origin_ns`, one row per rank: measured rows from 0, then a gap for a name, then ideal rows."""
    rows = bars.select("series", "rank").unique().sort(pl.col("series") == "ideal", "rank").with_row_index("row")
    num_measured = rows.filter(pl.col("series") == "measured").height
    row = pl.col("row").cast(pl.Float64)
    rows = rows.with_columns(pl.when(row >= num_measured).then(row + name_rows(rows.height)).otherwise(row))
    return bars.join(rows, on=["series", "rank"]).select(
        *("series", "rank", "step", "stage", "microbatch", "phase", "chunk", "row"),
        start_ms=(pl.col("start_ns") - origin_ns) / NS_PER_MS,
        end_ms=(pl.col("end_ns") - origin_ns) / NS_PER_MS,
        idle_before_ms=pl.col("idle_ns") / NS_PER_MS,
    )


def chart(timeline: Timeline, *, ordered: bool = True) -> Chart:
    """The timeline as a chart named `timeline` that the page's script zooms, pans and labels.

    `ordered`: the schedule is known, so that bars are numbered by microbatch; else they only count.
    """
    windows = timeline.windows.with_columns(
        last_ms=pl.max_horizontal("end_ms", "ideal_end_ms"), name=pl.format("step {}", "step")
    )

    @functools.cache
    def draw() -> Any:  # noqa: ANN401 - Bokeh; once: the all-to-alls share its axis
        figure = _figure(timeline, windows)
        _add_idle_rows(figure, timeline)
        _add_bars(figure, timeline.bars)
        _add_ends(figure, timeline)
        return figure

    used = [phase for phase in PHASES if phase in set(timeline.bars["phase"].to_list())]
    return Chart(
        id="timeline",
        draw=draw,
        label=f"Timeline of step {timeline.shown_step}: one row per rank, measured above ideal.",
        caption=_caption(timeline, ordered=ordered),
        legend=(*((PHASE_NAMES[phase], PHASES[phase]) for phase in used), ("idle", "var(--idle)")),
        buttons=tuple(
            Button(
                text=row["name"] + (" (median)" if row["step"] == timeline.shown_step else ""),
                start_ms=view(row["start_ms"], row["last_ms"])[0],
                end_ms=view(row["start_ms"], row["last_ms"])[1],
            )
            for row in windows.iter_rows(named=True)
        ),
        time_axis=AXIS,
    )


def _caption(timeline: Timeline, *, ordered: bool) -> str:
    shown = timeline.windows.filter(pl.col("step") == timeline.shown_step).row(0, named=True)
    measured = shown["end_ms"] - shown["start_ms"]
    text = f"Pipeline phase of step {timeline.shown_step}: {milliseconds(measured)} measured"
    if shown["ideal_end_ms"] is not None:
        ideal = shown["ideal_end_ms"] - shown["start_ms"]
        apart = f"{milliseconds(abs(measured - ideal))} {'longer' if measured > ideal else 'shorter'}"
        text += f", {milliseconds(ideal)} ideal: {apart if measured != ideal else 'the same'}"
    chunked = (timeline.bars["chunk"].cast(pl.Float64).max() or 0.0) != 0.0
    shades = " The second tone marks every other chunk of a rank." if chunked else ""
    numbers = "are microbatches" if ordered else "count a rank's chunks; their microbatches are not known"
    return f"{text}. Numbers in bars {numbers}.{shades} {timeline.left_out}".strip()


def _figure(timeline: Timeline, windows: pl.DataFrame) -> Any:  # noqa: ANN401 - Bokeh's figures have no useful type
    shown = windows.filter(pl.col("step") == timeline.shown_step).row(0, named=True)
    rows = timeline.bars.select("row", "rank").unique().sort("row").iter_rows()
    return time_figure(
        "timeline",
        view(shown["start_ms"], shown["last_ms"]),
        dict(rows),
        x_label=f"ms since the pipeline phase of step {timeline.shown_step} began",
        tooltips=[
            ("action", "@action"),
            ("rank", "@rank, step @step"),
            ("start", "@start_ms{0.000} ms"),
            ("duration", "@duration_ms{0.000} ms"),
            ("idle before", "@idle"),
        ],
        named=True,
    )


def _add_idle_rows(figure: Any, timeline: Timeline) -> None:  # noqa: ANN401
    """A faint track behind every row for as long as the phase lasts: what shows through is idle time."""
    rows = timeline.bars.select("series", "row").unique().sort("row")
    tracks = rows.join(timeline.windows, how="cross").with_columns(
        end_ms=pl.when(pl.col("series") == "ideal").then("ideal_end_ms").otherwise("end_ms")
    )
    drawn = figure.hbar(
        y="row", left="start_ms", right="end_ms", height=BAR_HEIGHT, fill_color="#8894a3", fill_alpha=0.16,
        line_color=None, source=source_of(tracks, ("row", "start_ms", "end_ms")),
    )  # fmt: skip
    drawn.nonselection_glyph = None


def _add_bars(figure: Any, bars: pl.DataFrame) -> None:  # noqa: ANN401
    from bokeh.models import ColumnDataSource, HoverTool, Text  # noqa: PLC0415 - lazy: 0.5 s

    idle = pl.col("idle_before_ms").map_elements(milliseconds, return_dtype=pl.String)
    frame = bars.with_columns(
        action=pl.format("{}{}{}", pl.col("stage").cast(pl.String).fill_null("?"), "phase", "microbatch"),
        duration_ms=pl.col("end_ms") - pl.col("start_ms"),
        idle=idle.fill_null("first of the step"),
        microbatch=pl.col("microbatch").fill_null(-1),
        color=pl.when(pl.col("chunk") % 2 == 1)
        .then(pl.col("phase").replace_strict(ODD_CHUNKS))
        .otherwise(pl.col("phase").replace_strict(PHASES)),
    ).with_columns(ink=pl.col("color").replace_strict(_INKS))
    columns = ("action", "idle", "color", "ink", "rank", "step", "microbatch", "row", "start_ms", "end_ms")
    renderer = figure.hbar(
        y="row", left="start_ms", right="end_ms", height=BAR_HEIGHT, fill_color="color",
        line_color=None, source=source_of(frame, (*columns, "duration_ms"), name="timeline-bars"),
    )  # fmt: skip
    figure.select_one(HoverTool).renderers = [renderer]
    numbers = ColumnDataSource({"x": [], "y": [], "text": [], "ink": []}, name="timeline-numbers")
    glyph = Text(x="x", y="y", text="text", text_color="ink", text_align="center", text_baseline="middle")
    glyph.update(text_font_size="11px")
    figure.add_glyph(numbers, glyph)


def _add_ends(figure: Any, timeline: Timeline) -> None:  # noqa: ANN401
    """Where each phase ends, measured and ideal, across both halves; and the two halves' names."""
    from bokeh.models import Label  # noqa: PLC0415 - lazy: 0.5 s

    bottom = max(timeline.bars["row"].to_list()) + 0.6
    for column, dash in (("end_ms", "solid"), ("ideal_end_ms", "dashed")):
        ends = timeline.windows[column].drop_nulls().to_list()
        figure.segment(
            x0=ends, x1=ends, y0=[-0.6] * len(ends), y1=[bottom] * len(ends),
            line_dash=dash, line_color=REFERENCE, line_width=1.5,
        )  # fmt: skip
    for series, name in SERIES_NAMES.items():
        rows = timeline.bars.filter(pl.col("series") == series)["row"].to_list()
        if rows:
            label = Label(x=4, x_units="screen", y=min(rows) - 0.52, text=name, text_baseline="bottom", tags=["ink"])
            label.update(text_font_size="12px", text_color=NEUTRAL_INK)
            figure.add_layout(label)
