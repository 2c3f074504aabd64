"""The all-to-alls in time: one row per rank, waiting apart from transfer, on the same axis as the pipeline."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.charts.palette import COLLECTIVE_PARTS
from reports.charts.time_axis import AXIS, NS_PER_MS, median_step, source_of, time_figure, view
from reports.charts.token_flow import all_to_alls
from reports.page.model import Button, Chart

MAX_BARS = 10_000
"""Bars of the all-to-all timeline, two for each all-to-all."""


@dataclass(frozen=True, slots=True)
class Exchanges:
    """The bars to draw and what was left out."""

    bars: pl.DataFrame
    """row, rank, step, layer (-1: unknown), direction, part (wait, transfer), color, start_ms, end_ms."""
    windows: dict[int, tuple[float, float]]
    """Step to the first arrival and last end in it, in ms."""
    shown_step: int
    origin_ns: int
    left_out: str


def lay_out(
    collectives: pl.DataFrame, origin_ns: int | None, limit: int = MAX_BARS, apart: Collection[int] = ()
) -> Exchanges | None:
    """Bars of the timed all-to-alls of the steps nearest to the median one; None without any.

    `origin_ns` is the pipeline timeline's zero if there is one; else the shown step's first arrival is zero. No step set `apart` is
    shown first.
    """
    timed = all_to_alls(collectives)
    if timed.is_empty():
        return None
    windows = timed.group_by("step").agg(pl.col("start_ns").min(), pl.col("end_ns").max()).sort("step")
    shown = median_step(windows, apart)
    near = windows.sort((pl.col("step") - shown).abs(), "step")["step"].to_list()
    sizes, kept = dict(timed.group_by("step").len().iter_rows()), list[int]()
    while near and (not kept or 2 * sum(sizes[step] for step in [*kept, near[0]]) <= limit):
        kept.append(near.pop(0))
    drawn = timed.filter(pl.col("step").is_in(kept)).sort("start_ns").head(limit // 2)
    zero = origin_ns if origin_ns is not None else int(windows.filter(pl.col("step") == shown)["start_ns"][0])
    left_out = f" {len(near)} more steps are not drawn: the limit is {limit:,} bars." if near else ""
    cut = sum(sizes[step] for step in kept) - drawn.height
    left_out += (
        f" The last {cut} all-to-alls of step {shown} are not drawn: the limit is {limit:,} bars." if cut else ""
    )
    bars = _bars(drawn, zero)
    if bars.is_empty():  # all of them end where they begin
        return None
    return Exchanges(
        bars=bars,
        windows={
            step: ((start - zero) / NS_PER_MS, (end - zero) / NS_PER_MS)
            for step, start, end in windows.filter(pl.col("step").is_in(kept)).iter_rows()
        },
        shown_step=shown,
        origin_ns=zero,
        left_out=left_out,
    )


def _bars(timed: pl.DataFrame, zero_ns: int) -> pl.DataFrame:
    """Two bars for each all-to-all: wait, then transfer; one where the split is unknown."""
    ranks = timed.select("rank").unique().sort("rank").with_row_index("row")
    placed = timed.join(ranks, on="rank").with_columns(
        pl.col("row").cast(pl.Float64),
        pl.col("layer").fill_null(-1),
        pl.col("direction").cast(pl.String).fill_null("other"),
        turn=pl.col("start_ns") + pl.col("wait_ns").fill_null(0),
    )
    parts = [
        placed.select(
            *("row", "rank", "step", "layer", "direction"),
            part=pl.lit(part),
            color=pl.lit(COLLECTIVE_PARTS[part]),
            start_ms=(pl.col(start) - zero_ns) / NS_PER_MS,
            end_ms=(pl.col(end) - zero_ns) / NS_PER_MS,
        )
        for part, start, end in (("wait", "start_ns", "turn"), ("transfer", "turn", "end_ns"))
    ]
    return pl.concat(parts).filter(pl.col("end_ms") > pl.col("start_ms"))


def chart(exchanges: Exchanges, pipeline: Chart | None = None) -> Chart:
    """The all-to-all timeline; it moves together with the `pipeline` timeline if there is one."""
    shown = exchanges.shown_step
    steps = () if pipeline is not None else sorted(exchanges.windows)
    return Chart(
        id="all-to-all-timeline",
        draw=lambda: _figure(exchanges, pipeline),
        title="All-to-alls",
        label="Timeline of all-to-alls: one row per rank, waiting apart from transfer.",
        caption="Each all-to-all lasts from a rank's arrival to its end. A rank waits for the last member, then data moves; a rank "
        f"that does not wait arrived last. Between all-to-alls the rank does other work.{exchanges.left_out}",
        legend=tuple(COLLECTIVE_PARTS.items()),
        buttons=tuple(
            Button(
                text=f"step {step}" + (" (median)" if step == shown else ""),
                start_ms=view(*exchanges.windows[step])[0],
                end_ms=view(*exchanges.windows[step])[1],
            )
            for step in steps
        ),
        time_axis=AXIS,
    )


def _figure(exchanges: Exchanges, pipeline: Chart | None) -> Any:  # noqa: ANN401 - Bokeh
    shown = exchanges.shown_step
    zero = "the first all-to-all" if pipeline is None else "the pipeline phase"
    figure = time_figure(
        "all-to-all",
        view(*exchanges.windows[shown]),
        dict(exchanges.bars.select("row", "rank").unique().sort("row").iter_rows()),
        x_label=f"ms since {zero} of step {shown} began",
        tooltips=[
            ("", "@part, @direction"),
            ("rank", "@rank, step @step, layer @layer"),
            ("start", "@start_ms{0.000} ms"),
            ("duration", "@duration_ms{0.000} ms"),
        ],
        beside=None if pipeline is None else pipeline.draw(),
    )
    frame = exchanges.bars.with_columns(duration_ms=pl.col("end_ms") - pl.col("start_ms"))
    columns = ("part", "direction", "color", "rank", "step", "layer", "row", "start_ms", "end_ms", "duration_ms")
    figure.hbar(
        y="row", left="start_ms", right="end_ms", height=0.8, color="color", line_width=0.4,
        source=source_of(frame, columns),
    )  # fmt: skip
    return figure
