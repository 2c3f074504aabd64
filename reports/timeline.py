"""The timeline: measured actions above the ideal ones, on one time axis.

Time zero is the start of the shown step's pipeline phase. Ideal actions are laid at the start of every measured
step's phase, so wherever a reader pans, theory stands below its measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.palette import NEUTRAL_INK, PHASE_INKS, PHASE_NAMES, PHASES, REFERENCE
from reports.parts import Button, Chart
from reports.text import quantity

MAX_RECTANGLES = 20_000
"""Drawn bars in all: a canvas redraws this many while panning; more would stall an ordinary laptop."""
BAR_HEIGHT = 0.84
_NS_PER_MS = 1e6
_MAX_LABELLED_ROWS = 24


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


def phases(actions: pl.DataFrame) -> pl.DataFrame:
    """Pipeline phase of every step: step, start_ns, end_ns."""
    timed = actions.drop_nulls(["rank", "step", "phase", "start_ns", "end_ns"])
    return timed.group_by("step").agg(pl.col("start_ns").min(), pl.col("end_ns").max()).sort("step")


def median_step(steps: pl.DataFrame) -> int:
    """The step whose phase lasts the (lower) median: the most ordinary one."""
    ordered = steps.sort(pl.col("end_ns") - pl.col("start_ns"), "step")
    return int(ordered["step"][(len(ordered) - 1) // 2])


def lay_out(actions: pl.DataFrame, ideal: pl.DataFrame, limit: int = MAX_RECTANGLES) -> Timeline | None:
    """Bars of measured and ideal actions, at most `limit`; None without a timed action."""
    actions = actions.drop_nulls(["rank", "step", "phase", "start_ns", "end_ns"])
    if actions.is_empty():
        return None
    windows = phases(actions)
    shown = median_step(windows)
    origin = int(windows.filter(pl.col("step") == shown)["start_ns"][0])
    measured, ideal, left_out = _within(
        actions, ideal.drop_nulls(["rank", "phase", "start_ns", "end_ns"]), shown, limit
    )
    windows = windows.filter(pl.col("step").is_in(measured["step"].unique().to_list()))
    bars = pl.concat([_placed(measured, "measured"), _placed(_at_every_step(ideal, windows), "ideal")])
    ideal_ns = None if ideal.is_empty() else int(ideal["end_ns"].max() - ideal["start_ns"].min())  # type: ignore[operator] - Int64
    return Timeline(
        bars=_on_rows(bars, origin),
        windows=windows.select(
            "step",
            start_ms=(pl.col("start_ns") - origin) / _NS_PER_MS,
            end_ms=(pl.col("end_ns") - origin) / _NS_PER_MS,
            ideal_end_ms=(pl.col("start_ns") - origin + pl.lit(ideal_ns, pl.Int64)) / _NS_PER_MS,
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
    left_out = f"{missing} of {len(steps)} steps are not drawn (at most {limit} bars are)." if missing else ""
    actions = actions.filter(pl.col("step").is_in(kept))
    if len(actions) + len(ideal) * len(kept) <= limit:
        return actions, ideal, left_out
    ranks = sorted(actions["rank"].unique().to_list())
    num_ranks = max(1, len(ranks) * limit // (len(actions) + len(ideal) * len(kept)))
    first = ranks[:num_ranks]
    left_out += (
        f" Ranks 0 to {first[-1]} are drawn, {len(ranks) - len(first)} others are not (at most {limit} bars are)."
    )
    few = [frame.filter(pl.col("rank").is_in(first)).head(limit // 2) for frame in (actions, ideal)]
    return few[0], few[1], left_out.strip()


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
    """Bars in ms since `origin_ns`, one row per rank: measured rows from 0, then a gap, then ideal rows."""
    rows = bars.select("series", "rank").unique().sort(pl.col("series") == "ideal", "rank").with_row_index("row")
    num_measured = rows.filter(pl.col("series") == "measured").height
    row = pl.col("row").cast(pl.Float64)
    rows = rows.with_columns(pl.when(row >= num_measured).then(row + 1.0).otherwise(row))
    return bars.join(rows, on=["series", "rank"]).select(
        "series",
        "rank",
        "step",
        "stage",
        "microbatch",
        "phase",
        "chunk",
        "row",
        start_ms=(pl.col("start_ns") - origin_ns) / _NS_PER_MS,
        end_ms=(pl.col("end_ns") - origin_ns) / _NS_PER_MS,
        idle_before_ms=pl.col("idle_ns") / _NS_PER_MS,
    )


def draw(timeline: Timeline) -> Chart:
    """The timeline as a chart named `timeline` that the page's script zooms, pans and labels."""
    shown = timeline.windows.filter(pl.col("step") == timeline.shown_step).row(0, named=True)
    end_ms = max(shown["end_ms"], shown["ideal_end_ms"] or 0.0)
    figure = _figure(timeline, -0.015 * end_ms, 1.03 * end_ms)
    _add_bars(figure, timeline.bars)
    _add_ends(figure, timeline)
    used = [phase for phase in PHASES if phase in set(timeline.bars["phase"].to_list())]
    return Chart(
        id="timeline",
        figure=figure,
        label=f"Timeline of step {timeline.shown_step}: one row per rank, measured above ideal.",
        caption=_caption(timeline, shown),
        legend=tuple((PHASE_NAMES[phase], PHASES[phase]) for phase in used),
        buttons=tuple(
            Button(
                text=f"step {row['step']}" + (" (median)" if row["step"] == timeline.shown_step else ""),
                start_ms=row["start_ms"] - 0.015 * (row["end_ms"] - row["start_ms"]),
                end_ms=row["end_ms"] + 0.03 * (row["end_ms"] - row["start_ms"]),
            )
            for row in timeline.windows.iter_rows(named=True)
        ),
        zoomable=True,
    )


def _caption(timeline: Timeline, shown: dict[str, Any]) -> str:
    measured = shown["end_ms"] - shown["start_ms"]
    text = f"Pipeline phase of step {timeline.shown_step}: {quantity(measured, 'ms')} measured"
    if shown["ideal_end_ms"] is not None:
        ideal = shown["ideal_end_ms"] - shown["start_ms"]
        text += f", {quantity(ideal, 'ms')} ideal ({quantity(measured - ideal, 'ms')} apart)"
    chunked = int(timeline.bars["chunk"].max() or 0) > 0  # type: ignore[arg-type] - Int32
    shades = " Paler bars are a rank's later chunks." if chunked else ""
    return f"{text}. White between bars is idle time.{shades} {timeline.left_out}".strip()


def _figure(timeline: Timeline, start_ms: float, end_ms: float) -> Any:  # noqa: ANN401 - Bokeh has no types
    from bokeh.models import FixedTicker, HoverTool, PanTool, Range1d, WheelZoomTool  # noqa: PLC0415 - lazy: 0.5 s
    from bokeh.plotting import figure  # noqa: PLC0415

    last_row = float(timeline.bars["row"].max())  # type: ignore[arg-type] - Float64
    pan, zoom = PanTool(dimensions="width"), WheelZoomTool(dimensions="width", modifiers="ctrl")
    hover = HoverTool(
        name="timeline-hover",
        point_policy="follow_mouse",
        tooltips=[
            ("action", "@action"),
            ("rank", "@rank, step @step"),
            ("start", "@start_ms{0.000} ms"),
            ("duration", "@duration_ms{0.000} ms"),
            ("idle before", "@idle"),
        ],
    )
    chart = figure(
        name="timeline",
        x_range=Range1d(start_ms, end_ms, name="timeline-x"),
        y_range=Range1d(last_row + 0.75, -1.25),
        height=int(min(760, max(240, 70 + 24 * (last_row + 2)))),
        sizing_mode="stretch_width",
        tools=[pan, zoom, hover],
        toolbar_location=None,
        active_drag=pan,
        active_scroll=zoom,
        x_axis_label=f"ms since the pipeline phase of step {timeline.shown_step} began",
    )
    ticks = _row_labels(timeline.bars)
    chart.yaxis.ticker = FixedTicker(ticks=list(ticks))
    chart.yaxis.major_label_overrides = ticks
    chart.ygrid.visible = False
    return chart


def _row_labels(bars: pl.DataFrame) -> dict[float, str]:
    rows = bars.select("row", "rank", "series").unique().sort("row")
    every = max(1, -(-rows.height // (2 * _MAX_LABELLED_ROWS)))
    return {row: f"rank {rank}" for row, rank, _ in rows.iter_rows() if int(rank) % every == 0}


def _add_bars(figure: Any, bars: pl.DataFrame) -> None:  # noqa: ANN401
    from bokeh.models import ColumnDataSource, HoverTool, Text  # noqa: PLC0415

    idle = pl.col("idle_before_ms").map_elements(lambda ms: quantity(ms, "ms"), return_dtype=pl.String)
    frame = bars.with_columns(
        action=pl.format("{}{}{}", "stage", "phase", "microbatch"),
        duration_ms=pl.col("end_ms") - pl.col("start_ms"),
        idle=idle.fill_null("first of the step"),
        color=pl.col("phase").replace_strict(PHASES),
        ink=pl.col("phase").replace_strict(PHASE_INKS),
        alpha=(1.0 - 0.22 * pl.col("chunk").fill_null(0)).clip(0.4),
    )
    columns = ("action", "idle", "color", "ink", "alpha", "rank", "step", "microbatch", "row", "start_ms", "end_ms")
    source = ColumnDataSource(
        {name: frame[name].to_list() if frame[name].dtype == pl.String else frame[name].to_numpy() for name in columns}
        | {"duration_ms": frame["duration_ms"].to_numpy()},
        name="timeline-bars",
    )
    renderer = figure.hbar(
        y="row", left="start_ms", right="end_ms", height=BAR_HEIGHT, source=source,
        fill_color="color", fill_alpha="alpha", line_color="color", line_width=0.5,
    )  # fmt: skip
    figure.select_one(HoverTool).renderers = [renderer]
    numbers = ColumnDataSource({"x": [], "y": [], "text": [], "ink": []}, name="timeline-numbers")
    figure.add_glyph(
        numbers,
        Text(x="x", y="y", text="text", text_color="ink", text_align="center", text_baseline="middle",
             text_font_size="11px"),
    )  # fmt: skip


def _add_ends(figure: Any, timeline: Timeline) -> None:  # noqa: ANN401
    """Where each phase ends, measured and ideal, across both halves; and the two halves' names."""
    from bokeh.models import Label  # noqa: PLC0415

    bottom = float(timeline.bars["row"].max()) + 0.6  # type: ignore[arg-type] - Float64
    for column, dash in (("end_ms", "solid"), ("ideal_end_ms", "dashed")):
        ends = timeline.windows[column].drop_nulls().to_list()
        figure.segment(
            x0=ends, x1=ends, y0=[-0.6] * len(ends), y1=[bottom] * len(ends),
            line_dash=dash, line_color=REFERENCE, line_width=1.5,
        )  # fmt: skip
    names = {
        "measured": "measured (solid line: its end)",
        "ideal": "ideal: simulated, uniform stages, nothing late (dashed line: its end)",
    }
    for series, name in names.items():
        rows = timeline.bars.filter(pl.col("series") == series)["row"]
        if rows.is_empty():
            continue
        figure.add_layout(
            Label(
                x=4, x_units="screen", y=float(rows.min()) - 0.52, text=name, text_font_size="12px",  # type: ignore[arg-type] - Float64
                text_color=NEUTRAL_INK, text_baseline="bottom", tags=["ink"],
            )
        )  # fmt: skip
