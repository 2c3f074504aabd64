"""Memory over time: microbatches held in the typical step beside the simulated order, and metered peaks step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import REFERENCE, SERIES
from reports.page.grids import grid
from reports.page.model import Chart, Grid
from reports.sections.material import Material
from reports.sections.rows import stages
from reports.timeline.steps import shown, timed_steps
from traceanalyzer.theory.simulator.in_flight import in_flight

_NS_PER_MS = 1e6
_GIB, _MIB = 2.0**30, 2.0**20
_METERED = {
    "peak_allocated_bytes": "in tensors, by the device's allocator",
    "peak_saved_bytes": "kept for backward, by autograd's hooks",
}
"""Columns of the loop's records, the wider first, and what they count."""


def held_chart(material: Material) -> Chart | None:
    """Microbatches that each stage holds over the typical step, measured and simulated; None without either."""
    measured, simulated = _held_in_step(material), _held(material.table("ideal_actions"))
    lines = {name: measured[name] for name in _spread(sorted(measured)) if name in simulated}
    if not lines:
        return None
    theory = {name: simulated[name] for name in lines}
    colors = {f"stage {name}": SERIES[at] for at, name in enumerate(lines)}
    left_out = f" Stages {', '.join(map(str, lines))} of {len(measured)}." if len(lines) < len(measured) else ""
    return Chart(
        id="held-over-time",
        draw=lambda: _curves(lines, theory, "ms since the pipeline phase began", "microbatches held"),
        title="Held over time",
        label=f"Microbatches whose activations {len(lines)} stages hold over a step: measured solid, simulated dashed.",
        caption="One rank of each stage in the typical step. Solid: recorded actions. Dashed: the simulation of the same order. "
        f"Held from the start of a forward to the end of its backward.{left_out}",
        legend=(*colors.items(), ("simulated", REFERENCE)),
        half=True,
        third=True,
        numbers=_peaks_grid(lines, theory),
    )


def _held_in_step(material: Material) -> dict[int, pl.DataFrame]:
    """Stage to what one of its ranks held in the step that the timeline opens on."""
    steps = timed_steps(material.tables)
    actions, ideal = material.table("actions"), material.table("ideal_actions")
    if not steps or actions.is_empty() or ideal.is_empty():
        return {}
    own = actions.filter(pl.col("step") == steps[shown(steps, material.set_apart)].step)
    same = own.filter(pl.col("rank").is_in(ideal["rank"].unique().to_list()))
    return _held(same if same["stage"].n_unique() == own["stage"].n_unique() else own)


def _held(actions: pl.DataFrame) -> dict[int, pl.DataFrame]:
    """First stage of a rank to corners (x in ms since the first action, y) of what the lowest such rank holds."""
    if actions.is_empty():
        return {}
    first = dict(actions.group_by("rank").agg(pl.col("stage").min()).sort("rank", descending=True).iter_rows())
    changes = in_flight(actions)
    start = actions["start_ns"].min()
    at, held = (pl.col("at_ns") - start) / _NS_PER_MS, pl.col("rank_in_flight").cast(pl.Float64)
    found: dict[int, pl.DataFrame] = {}
    for rank, stage in first.items():
        own = changes.filter(pl.col("rank") == rank).select(x=at, low=held.shift(1).fill_null(0.0), y=held)
        before, after = own.select("x", y="low").with_row_index(), own.select("x", "y").with_row_index()
        corners = pl.concat([before.with_columns(side=pl.lit(0)), after.with_columns(side=pl.lit(1))])
        found[stage] = corners.sort("index", "side").select("x", "y")
    return found


def _spread(names: Sequence[int]) -> list[int]:
    """At most as many as there are colours, evenly from first to last."""
    most = len(SERIES)
    if len(names) <= most:
        return list(names)
    return [names[round(at * (len(names) - 1) / (most - 1))] for at in range(most)]


def _peaks_grid(lines: Mapping[int, pl.DataFrame], theory: Mapping[int, pl.DataFrame]) -> Grid | None:
    return grid(
        "held-over-time-numbers",
        "Held over time",
        list(lines),
        [
            ("stage", lambda s: s, "count"),
            ("held at most", lambda s: _most(lines[s]), "count"),
            ("simulated", lambda s: _most(theory[s]), "count"),
            ("mean over the phase", lambda s: _mean(lines[s]), "number"),
            ("simulated mean", lambda s: _mean(theory[s]), "number"),
        ],
        few=0,
    )


def _most(corners: pl.DataFrame) -> int:
    return int(max(corners["y"].to_list()))


def _mean(corners: pl.DataFrame) -> float:
    """Mean height over time."""
    xs, ys = corners["x"].to_list(), corners["y"].to_list()
    return sum((b - a) * y for a, b, y in zip(xs, xs[1:], ys, strict=False)) / ((xs[-1] - xs[0]) or 1.0)


def metered_chart(material: Material) -> Chart | None:
    """The most that the loop metered in each step, by stage; None with fewer than two metered steps."""
    records = material.table("step_records")
    column = next((name for name in _METERED if records[name].is_not_null().any()), None)
    places = stages(material)
    if column is None:
        return None
    word, of = ("stage", places) if places else ("rank", {rank: rank for rank in records["rank"].unique()})
    known = records.drop_nulls(column).filter(pl.col("rank").is_in(list(of)))
    if known["step"].n_unique() < 2:
        return None
    unit, scale = ("GiB", _GIB) if (known[column].max() or 0) > _GIB / 2 else ("MiB", _MIB)  # type: ignore[operator] - Int64
    most = known.group_by(place=pl.col("rank").replace_strict(of), x=pl.col("step").cast(pl.Float64)).agg(
        y=pl.col(column).max() / scale
    )
    lines = {name: most.filter(pl.col("place") == name).sort("x").select("x", "y") for name in _spread(sorted(set(of.values())))}  # fmt: skip
    theory = _theory(material, places, scale, known["step"].to_list()) if column == "peak_saved_bytes" else {}
    return Chart(
        id="metered-by-step",
        draw=lambda: _curves(lines, theory, "step", unit, from_zero=True),
        title="Metered peak by step",
        label=f"The most bytes in each step by {word}, in {unit}.",
        caption=f"The most at once {_METERED[column]}; of several ranks the fullest."
        + (" Dashed: theory." if theory else " A line that climbs is memory that is not given back."),
        legend=(*((f"{word} {name}", SERIES[at]) for at, name in enumerate(lines)), *((("theory", REFERENCE),) if theory else ())),
        half=True,
        third=True,
        numbers=grid(
            "metered-by-step-numbers",
            "Metered peak by step",
            most.sort("place", "x").to_dicts(),
            [
                (word, lambda r: r["place"], "count"),
                ("step", lambda r: int(r["x"]), "count"),
                ("most", lambda r: r["y"] * scale, "bytes"),
            ],
            limit=200,
            few=0,
            csv="step_records",
        ),
    )  # fmt: skip


def _theory(
    material: Material, places: Mapping[int, int], scale: float, steps: Sequence[int]
) -> dict[int, pl.DataFrame]:
    """Stage to a level line at what theory says that it keeps."""
    held = material.review.memory
    ends = [float(min(steps)), float(max(steps))]
    known = {places[each.rank]: each.predicted_bytes for each in (held.stages if held else ()) if each.rank in places}
    return {
        stage: pl.DataFrame({"x": ends, "y": [num_bytes / scale] * 2})
        for stage, num_bytes in known.items()
        if num_bytes
    }


def _curves(
    lines: Mapping[int, pl.DataFrame],
    theory: Mapping[int, pl.DataFrame],
    x_label: str,
    y_label: str,
    *,
    from_zero: bool = False,
) -> Any:  # noqa: ANN401 - Bokeh
    """Measured lines solid, theory's dashed in the same colour below them."""
    hv = charts.holoviews()
    top = max(y for source in (lines, theory) for frame in source.values() for y in frame["y"].to_list())
    drawing: Any = None
    for source, dash, width in ((theory, "dashed", 1.5), (lines, "solid", 2)):
        pieces = [_pieces(source[name], SERIES[at]) for at, name in enumerate(lines) if name in source]
        if pieces:
            drawn = hv.Segments(pl.concat(pieces), kdims=["x", "y", "x1", "y1"], vdims=["color"]).opts(
                color="color", line_width=width, line_dash=dash
            )
            drawing = drawn if drawing is None else drawing * drawn
    limits = {"ylim": (0.0, 1.12 * top or 1.0)} if from_zero else {}
    return charts.render(drawing, height=260, x_label=x_label, y_label=y_label, **limits)


def _pieces(corners: pl.DataFrame, color: str) -> pl.DataFrame:
    """The line from corner to corner: one element draws all lines, which takes a fraction of the time of one each."""
    ends = corners.select("x", "y", x1=pl.col("x").shift(-1), y1=pl.col("y").shift(-1), color=pl.lit(color))
    return ends.drop_nulls()
