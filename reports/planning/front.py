"""Time of a step against memory of a device: what less memory costs."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from reports.charts.elements import time_scale
from reports.charts.palette import REFERENCE, RESULT
from reports.charts.plots.scatter import Scatter, scatter_figure
from reports.page.model import Chart
from traceanalyzer.review.words import byte_count, milliseconds
from traceanalyzer.theory.planning.found import Ranked
from traceanalyzer.theory.planning.plan import Plan

_COLORS = {"other": REFERENCE, "front": RESULT}
_GIB = 2**30


def front_chart(planned: Plan) -> Chart | None:
    """The front and the other fast configurations as dots; None if there is nothing to choose from."""
    front, ranked = planned.found.pareto, planned.found.ranked
    if len(front) < 2:
        return None
    best = {id(each) for each in front}
    others = [each for each in ranked if id(each) not in best]
    dots = pl.DataFrame(
        [*_dots(others, "other"), *_dots(front, "front")],
        schema={"x": pl.Float64, "y": pl.Float64, "kind": pl.String, "name": pl.String, "text": pl.String},
        orient="row",
    )
    scale, unit = time_scale(max(each.step_ns for each in front) / 1e6)
    dots = dots.with_columns(pl.col("y") * scale)
    line = [(each.memory_bytes / _GIB, scale * each.step_ns / 1e6) for each in front]
    drawn = Scatter(
        dots=dots, colors=_COLORS, lines=[line], x_label="memory of the fullest device, GiB", y_label=f"step, {unit}"
    )
    return Chart(
        id="front-chart",
        draw=lambda: scatter_figure(drawn),
        title="Step time by memory",
        label=f"Scatter of {len(front)} configurations that no other beats in both, and of {len(others)} more, by memory and time.",
        caption="Further left needs less memory, further down is faster. Names show on hover.",
        legend=(
            ("no other is both as fast and smaller", RESULT),
            *((("other fast ones", REFERENCE),) if others else ()),
        ),
    )


def _dots(several: Iterable[Ranked], kind: str) -> Iterable[tuple[float, float, str, str, str]]:
    for each in several:
        said = f"{milliseconds(each.step_ns / 1e6)}, {byte_count(each.memory_bytes)}"
        yield each.memory_bytes / _GIB, each.step_ns / 1e6, kind, each.configuration.text(), said
