"""Charts of a prediction: every schedule's timeline on one axis, its activations in flight, and a sweep's curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from reports.charts.elements import holoviews, render
from reports.charts.palette import NEUTRAL_INK, ODD_CHUNKS, PHASE_NAMES, PHASES, SERIES, ink_on
from reports.charts.sketch import sketch
from reports.page.model import Chart, Grid
from traceanalyzer.review.words import NOTHING, milliseconds, percent
from traceanalyzer.theory.prediction.comparison import Prediction
from traceanalyzer.theory.prediction.record import Sweep
from traceanalyzer.theory.simulator.in_flight import in_flight

MAX_CURVES = len(SERIES)
"""Schedules in one picture of curves: each has a colour of its own."""
MAX_BARS = 20_000
"""Drawn bars in all; schedules beyond it are left out, and the chart says so."""
BAR_HEIGHT = 0.84
ROW_PIXELS = 22
DASHES = ("solid", "dashed")
"""Schedules are distinguished by colour, then by dash."""
_NS_PER_MS = 1e6
_LABEL_ROWS = 1.25
"""Rows between two schedules, for the name of the lower one."""


def bars_of(predictions: Sequence[Prediction], limit: int = MAX_BARS) -> tuple[pl.DataFrame, list[str]]:
    """Bars of as many schedules as fit, and the names of those that do not.

    Columns: schedule, rank, stage, microbatch, phase, color, row, start_ms, end_ms. Every other chunk of a rank has the
    second tone. An overlapped pair's forward is the upper half of its bar, the backward the lower (`offset`, `height`).
    """
    frames: list[pl.DataFrame] = []
    left_out: list[str] = []
    first_row, total = 0.0, 0
    for each in predictions:
        actions = each.simulation.actions
        total += len(actions)
        if total > limit and frames:
            left_out.append(each.title)
            continue
        frames.append(_placed(actions.head(limit), each, first_row))
        first_row += each.simulation.num_ranks + _LABEL_ROWS
    return pl.concat(frames), left_out


def _placed(actions: pl.DataFrame, prediction: Prediction, first_row: float) -> pl.DataFrame:
    odd = pl.col("stage") // prediction.simulation.num_ranks % 2 == 1
    phase = pl.col("phase").cast(pl.String)
    paired = pl.len().over("rank", "start_ns", "end_ns") > 1
    forward = phase == "F"
    return actions.with_columns(paired=paired & (pl.col("end_ns") > pl.col("start_ns"))).select(
        pl.lit(prediction.title).alias("schedule"),
        "rank",
        "stage",
        "microbatch",
        phase,
        color=pl.when(odd).then(phase.replace_strict(ODD_CHUNKS)).otherwise(phase.replace_strict(PHASES)),
        row=pl.col("rank").cast(pl.Float64) + first_row,
        offset=pl.when("paired").then(pl.when(forward).then(-0.25).otherwise(0.25)).otherwise(0.0) * BAR_HEIGHT,
        height=pl.when("paired").then(0.5).otherwise(1.0) * BAR_HEIGHT,
        start_ms=pl.col("start_ns") / _NS_PER_MS,
        end_ms=pl.col("end_ns") / _NS_PER_MS,
    )


def timelines(predictions: Sequence[Prediction]) -> Chart:
    """All schedules, one below the other, on one time axis."""
    bars, left_out = bars_of(predictions)

    def draw() -> Any:  # noqa: ANN401 - Bokeh
        shown = [each for each in predictions if each.title not in left_out]
        figure = _figure(bars, axis_ms(predictions))
        _add_idle(figure, bars, shown)
        _add_bars(figure, bars)
        _add_names(figure, bars, shown)
        return figure

    phases = [phase for phase in PHASES if phase in set(bars["phase"].to_list())]
    end = axis_ms(predictions)
    beyond = [each.title for each in predictions if each.simulation.makespan_ns / _NS_PER_MS > end * 1.001]
    slow = (
        f" The axis ends at {milliseconds(end)}, so that one slow schedule does not hide the others; beyond it: {', '.join(beyond)}."
        if beyond
        else ""
    )
    cut = f" The limit is {MAX_BARS:,} bars, so these are not drawn: {', '.join(left_out)}." if left_out else ""
    return Chart(
        id="timelines",
        draw=draw,
        sketch=lambda width: sketch(predictions, width),
        title="Timelines",
        label="Timeline of every schedule on one time axis: one row per rank.",
        caption=f"Numbers in bars are microbatches. The second tone marks a rank's other chunk. Drag to pan, Ctrl and wheel to zoom.{slow}{cut}",
        legend=(*((PHASE_NAMES[phase], PHASES[phase]) for phase in phases), ("idle", "var(--idle)")),
    )


def axis_ms(predictions: Sequence[Prediction]) -> float:
    """Where the axis ends: at the longest phase, but at most 1.5 times the median one."""
    phases = sorted(each.simulation.makespan_ns / _NS_PER_MS for each in predictions)
    return min(phases[-1], 1.5 * phases[(len(phases) - 1) // 2])


def _figure(bars: pl.DataFrame, longest_ms: float) -> Any:  # noqa: ANN401 - Bokeh has no types
    from bokeh.models import FixedTicker, HoverTool, PanTool, Range1d, WheelZoomTool  # noqa: PLC0415 - lazy: 0.5 s
    from bokeh.plotting import figure  # noqa: PLC0415

    rows = dict(bars.select("row", "rank").unique().sort("row").iter_rows())
    pan, zoom = PanTool(dimensions="width"), WheelZoomTool(dimensions="width", modifiers="ctrl")
    tooltips = [
        ("", "@schedule"),
        ("action", "@action"),
        ("rank", "@rank"),
        ("from", "@start_ms{0.000} ms"),
        ("to", "@end_ms{0.000} ms"),
    ]
    chart: Any = figure(
        x_range=Range1d(start=-0.01 * longest_ms, end=1.02 * longest_ms),
        y_range=Range1d(start=max(rows) + 0.7, end=-1.4),
        height=int(70 + ROW_PIXELS * (max(rows) + 2)),
        sizing_mode="stretch_width",
        tools=[pan, zoom, HoverTool(point_policy="follow_mouse", tooltips=tooltips)],
        toolbar_location=None,
        active_drag=pan,
        active_scroll=zoom,
        x_axis_label="ms since the first forward began",
        output_backend="canvas",
    )
    chart.yaxis.ticker = FixedTicker(ticks=list(rows))
    chart.yaxis.major_label_overrides = {row: f"rank {rank}" for row, rank in rows.items()}
    chart.ygrid.visible = False
    return chart


def _add_idle(figure: Any, bars: pl.DataFrame, shown: Sequence[Prediction]) -> None:  # noqa: ANN401
    """A faint track behind every row for as long as its pipeline phase lasts."""
    ends = {each.title: each.simulation.makespan_ns / _NS_PER_MS for each in shown}
    tracks = bars.select("schedule", "row").unique().sort("row")
    rows, stops = tracks["row"].to_list(), [ends[title] for title in tracks["schedule"]]
    figure.hbar(
        y=rows, left=[0.0] * len(rows), right=stops, height=BAR_HEIGHT,
        fill_color="#8894a3", fill_alpha=0.16, line_color=None,
    )  # fmt: skip


def _add_bars(figure: Any, bars: pl.DataFrame) -> None:  # noqa: ANN401
    from bokeh.models import ColumnDataSource, HoverTool  # noqa: PLC0415 - lazy: 0.5 s

    drawn = bars.with_columns(
        y=pl.col("row") + pl.col("offset"),
        action=pl.format("{}{}{}", "stage", "phase", "microbatch"),
    )
    columns = ("schedule", "action", "rank", "y", "height", "start_ms", "end_ms", "color")
    source = ColumnDataSource({name: drawn[name].to_list() for name in columns})
    renderer = figure.hbar(
        y="y", left="start_ms", right="end_ms", height="height", fill_color="color",
        line_color="#ffffff", line_alpha=0.6, line_width=0.7, source=source,
    )  # fmt: skip
    figure.select_one(HoverTool).renderers = [renderer]
    _add_numbers(figure, drawn)


def _add_numbers(figure: Any, drawn: pl.DataFrame) -> None:  # noqa: ANN401
    """Microbatch numbers in the bars that hold them at the page's full width."""
    pixels_per_ms = 1100 / max(float(drawn["end_ms"].max() or 0.0), 1e-9)  # type: ignore[arg-type] - Float64
    digits = pl.col("microbatch").cast(pl.String).str.len_chars()
    fitting = drawn.filter(
        (pl.col("end_ms") - pl.col("start_ms")) * pixels_per_ms > 3 + 7 * digits, pl.col("height") > BAR_HEIGHT / 2
    ).head(3000)
    if fitting.is_empty():
        return
    figure.text(
        x=((fitting["start_ms"] + fitting["end_ms"]) / 2).to_list(), y=fitting["y"].to_list(),
        text=fitting["microbatch"].cast(pl.String).to_list(),
        text_color=[ink_on(color) for color in fitting["color"]],
        text_align="center", text_baseline="middle", text_font_size="10px",
    )  # fmt: skip


def _add_names(figure: Any, bars: pl.DataFrame, shown: Sequence[Prediction]) -> None:  # noqa: ANN401
    from bokeh.models import Label  # noqa: PLC0415 - lazy: 0.5 s

    tops = dict(bars.group_by("schedule").agg(pl.col("row").min()).iter_rows())
    for each in shown:
        text = f"{each.title}: bubble {percent(each.simulation.bubble_share)}"
        label = Label(x=4, x_units="screen", y=tops[each.title] - 0.5, text=text, text_baseline="bottom")
        label.update(text_font_size="12px", text_color=NEUTRAL_INK)
        figure.add_layout(label)


def _style(index: int) -> dict[str, Any]:
    dash = DASHES[index // len(SERIES) % len(DASHES)]
    return {"color": SERIES[index % len(SERIES)], "line_dash": dash, "line_width": 2.2}


def _legend(titles: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((title, SERIES[index % len(SERIES)]) for index, title in enumerate(titles))


def memory_over_time(predictions: Sequence[Prediction]) -> Chart:
    """Activations in flight on the rank of every schedule that holds the most; the shortest schedules if there are many."""
    shown, end = predictions[:MAX_CURVES], axis_ms(predictions)
    said = [
        f"The {len(shown)} shortest schedules." if len(shown) < len(predictions) else "",
        f"The axis ends at {milliseconds(end)}."
        if any(each.simulation.makespan_ns / _NS_PER_MS > 1.001 * end for each in shown)
        else "",
    ]

    def draw() -> Any:  # noqa: ANN401 - Bokeh
        hv = holoviews()
        drawing: Any = None
        for index, each in enumerate(shown):
            worst = max(range(each.simulation.num_ranks), key=each.peak_in_flight.__getitem__)
            changes = in_flight(each.simulation.actions).filter(pl.col("rank") == worst)
            curve = hv.Curve(_staircase(changes, each.num_chunks), kdims=["ms"], vdims=["held"]).opts(**_style(index))
            drawing = curve if drawing is None else drawing * curve
        return render(
            drawing,
            height=260,
            x_label="ms since the first forward began",
            y_label="microbatches in flight",
            xlim=(-0.01 * end, 1.02 * end),
        )

    return Chart(
        id="memory",
        draw=draw,
        title="Activations in flight over time",
        label="Microbatches whose activations are held, over time, on the rank that holds most.",
        caption=" ".join(
            ("In a rank's share of the model, on the rank that holds the most at any time.", *filter(None, said))
        ),
        legend=_legend([each.title for each in shown]),
    )


def _staircase(changes: pl.DataFrame, num_chunks: int) -> pl.DataFrame:
    """Two points per change: what was held until then, and from then on."""
    at, held = pl.col("at_ns") / _NS_PER_MS, pl.col("rank_in_flight") / num_chunks
    corners = changes.select(ms=at, before=held.shift(1).fill_null(0.0), held=held).with_row_index("position")
    before = corners.select("position", "ms", side=pl.lit(0), held="before")
    after = corners.select("position", "ms", side=pl.lit(1), held="held")
    return pl.concat([before, after]).sort("position", "side").select("ms", "held")


def sweep_chart(swept: Sweep) -> Chart:
    """Bubble of every schedule over what was varied; dots are closed forms."""
    titles = swept.table["schedule"].unique(maintain_order=True).to_list()
    what = swept.varied.removeprefix("num_")
    return Chart(
        id="sweep",
        draw=lambda: _sweep_figure(swept, titles, what),
        title=f"Bubble over {what}",
        label=f"Bubble of every schedule over {what}.",
        caption="Lines: simulation (equal ones cover each other). Dots: the closed form, if one holds.",
        legend=_legend(titles),
        numbers=_sweep_grid(swept, titles, what),
    )


def _sweep_grid(swept: Sweep, titles: Sequence[str], what: str) -> Grid:
    """Bubble of every schedule (columns) at every point (rows)."""
    shares = {(row["schedule"], row[swept.varied]): row["bubble_share"] for row in swept.table.iter_rows(named=True)}
    points = sorted({point for _, point in shares})
    return Grid(
        id="sweep-grid",
        title=f"Bubble over {what}",
        columns=(what, *titles),
        rows=tuple(
            (str(point), *(percent(shares[t, point]) if (t, point) in shares else NOTHING for t in titles))
            for point in points
        ),
        numeric=frozenset(range(1 + len(titles))),
        folded=True,
        few=len(points),
    )


def _sweep_figure(swept: Sweep, titles: Sequence[str], what: str) -> Any:  # noqa: ANN401 - Bokeh
    hv = holoviews()
    drawing: Any = None
    for index, title in enumerate(titles):
        points = (
            swept.table.filter(pl.col("schedule") == title)
            .sort(swept.varied)
            .select(
                x=pl.col(swept.varied).cast(pl.Float64),
                simulated=100 * pl.col("bubble_share"),
                formula=100 * pl.col("closed_form_share"),
            )
        )
        layers = hv.Curve(points, kdims=["x"], vdims=["simulated"]).opts(**_style(index))
        known = points.drop_nulls("formula")
        if len(known):
            dots = hv.Scatter(known, kdims=["x"], vdims=["formula"])
            layers = layers * dots.opts(color=SERIES[index % len(SERIES)], size=7)
        drawing = layers if drawing is None else drawing * layers
    top = 100 * float(swept.table["bubble_share"].max() or 0.0)  # type: ignore[arg-type] - Float64
    return render(drawing, height=320, x_label=what, y_label="bubble, % of phase", ylim=(0, 1.08 * top or 1.0))
