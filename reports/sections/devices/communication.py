"""Communication: what computation hides of it, and what its links give at each size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import polars as pl

from reports.charts import elements as charts
from reports.charts.palette import OWNERS, SERIES
from reports.charts.plots.scatter import Scatter, scatter_figure
from reports.page.grids import grid
from reports.page.model import Chart, Grid
from reports.page.text import chart_text
from traceanalyzer.review import Communication, CommunicationGroup
from traceanalyzer.review.words import byte_count, digits, milliseconds, percent

MAX_GROUPS = 16
"""Bars that are drawn, most exposed first; all groups are in the table below."""
MAX_SINGLE_GROUPS = 8
"""Groups that have a bar each."""
_APART, _MOST_APART = 0.1, 2
"""Groups whose exposed time differs by this share from that of their like keep a bar, at most so many."""
HIDDEN = "hidden behind computation"
EXPOSED = "exposed"
PARTS = {HIDDEN: OWNERS["compute"], EXPOSED: OWNERS["wait"]}
_COLORS = SERIES[:-1]
_LEAST_SIZES = 3
"""Sizes of one kind of operation that a line needs."""
_LEAST_DOTS = 2
"""Dots that a picture needs: one is enough for its table."""
_LEAST_SPAN = 4.0
"""Largest over smallest size that a line needs."""


def overlap_chart(communication: Communication) -> Chart | None:
    """Hidden and exposed time of each mesh dimension's groups; None if exposure is not known."""
    groups = [group for group in communication.groups if group.exposed_ms is not None]
    if not groups:
        return None
    alike = _alike(groups)
    names = [_called(own) for own in alike]
    rows = [
        (at, part, value)
        for at, own in enumerate(alike)
        for part, value in (
            (HIDDEN, fmean(max(0.0, group.duration_ms - (group.exposed_ms or 0.0)) for group in own)),
            (EXPOSED, fmean(group.exposed_ms or 0.0 for group in own)),
        )
    ]
    values = pl.DataFrame(rows, schema={"row": pl.Int64, "part": pl.String, "value": pl.Float64}, orient="row")
    share = communication.overlapped_share
    said = "" if share is None else f" {percent(share)} of all exchange is hidden."
    means = " Groups alike share a bar, their mean." if len(alike) < len(groups) else ""
    return Chart(
        id="overlap-chart",
        draw=lambda: charts.stacked_bars(values, names, PARTS, x_label="ms per rank and step", unit="ms"),
        title="What computation hides",
        term="Exposed",
        label="Communication time of every group, split into what runs under computation and what is exposed.",
        caption=f"Groups that communicate at once each count their time.{means}{said}",
        legend=tuple(PARTS.items()),
        third=True,
        numbers=_overlap_numbers(groups),
    )


def _alike(groups: Sequence[CommunicationGroup]) -> list[list[CommunicationGroup]]:
    """Groups of one dimension and size together where there are many; those whose exposed time differs stay alone."""
    if len(groups) <= MAX_SINGLE_GROUPS:
        return [[group] for group in groups]
    together: dict[tuple[str | None, int | None], list[CommunicationGroup]] = {}
    for group in groups:
        together.setdefault((group.dimension, group.num_ranks), []).append(group)
    found: list[list[CommunicationGroup]] = []
    for own in together.values():
        usual = median(group.exposed_ms or 0.0 for group in own)
        apart = [group for group in own if abs((group.exposed_ms or 0.0) - usual) > _APART * usual]
        apart = sorted(apart, key=lambda group, usual=usual: -abs((group.exposed_ms or 0.0) - usual))[:_MOST_APART]
        rest = [group for group in own if group not in apart]
        found += [rest] if rest else []
        found += [[group] for group in apart]
    return found[:MAX_GROUPS]


def _called(groups: Sequence[CommunicationGroup]) -> str:
    first = groups[0]
    size = f"{first.num_ranks} ranks" if first.num_ranks else "unknown size"
    name = first.dimension or "unnamed"
    return f"{name} · {size}" if len(groups) == 1 else f"{name} · {len(groups)} groups of {size}"


def _overlap_numbers(groups: Sequence[CommunicationGroup]) -> Grid | None:
    return grid(
        "overlap-grid",
        "Hidden and exposed communication",
        groups,
        [
            ("group", lambda g: _called([g]), None),
            ("time", lambda g: g.duration_ms, "ms"),
            ("exposed", lambda g: g.exposed_ms, "ms"),
            ("hidden", lambda g: g.overlapped_share, "share"),
        ],
        limit=64,
        few=0,
    )


@dataclass(frozen=True, slots=True)
class Line:
    """Transfer time of one kind of operation by its size: α + bytes ÷ β."""

    name: str
    alpha_us: float
    beta: float
    """Bytes per second."""
    smallest: float
    largest: float

    def microseconds(self, size: float) -> float:
        """Transfer time of an operation of this many bytes."""
        return self.alpha_us + 1e6 * size / self.beta


def sized(bandwidths: pl.DataFrame) -> pl.DataFrame:
    """Operations by kind and size: kind, bytes, us, bus (bytes per second), link (share or null), number."""
    known = bandwidths.drop_nulls(["mean_bytes", "median_transfer_ns"]).filter(
        (pl.col("mean_bytes") > 0) & (pl.col("median_transfer_ns") > 0)
    )
    return known.select(
        kind=pl.concat_str(
            pl.col("dimension").cast(pl.String).fill_null("unknown"),
            pl.col("kind").str.replace_all("_", " ").map_elements(chart_text, return_dtype=pl.String),
            pl.format("{} ranks", pl.col("num_ranks").cast(pl.String).fill_null("?")),
            separator=" · ",
        )
        + pl.when(pl.col("between_hosts").fill_null(value=False))
        .then(pl.lit(" · between hosts"))
        .otherwise(pl.lit("")),
        bytes="mean_bytes",
        us=pl.col("median_transfer_ns") / 1e3,
        bus="bus_bytes_per_second",
        link="link_share",
        number="num_operations",
    )


def fitted(sizes: pl.DataFrame) -> list[Line]:
    """The line of every kind that was measured at enough sizes: least squares of relative errors, α ≥ 0."""
    lines: list[Line] = []
    for (kind,), own in sizes.group_by("kind", maintain_order=True):
        size, time = own["bytes"].to_list(), own["us"].to_list()
        if len(size) < _LEAST_SIZES or max(size) < _LEAST_SPAN * min(size):
            continue
        line = _line(str(kind), size, time)
        lines += [line] if line else []
    return lines


def _line(kind: str, size: list[float], time: list[float]) -> Line | None:
    weights = [1 / value**2 for value in time]
    total = sum(weights)
    mean_size = sum(w * x for w, x in zip(weights, size, strict=True)) / total
    mean_time = sum(w * y for w, y in zip(weights, time, strict=True)) / total
    spread = sum(w * (x - mean_size) ** 2 for w, x in zip(weights, size, strict=True))
    joint = sum(w * (x - mean_size) * (y - mean_time) for w, x, y in zip(weights, size, time, strict=True))
    slope = joint / spread
    alpha = mean_time - slope * mean_size
    if alpha < 0:  # no negative latency: the best line through zero
        alpha = 0.0
        slope = sum(w * x * y for w, x, y in zip(weights, size, time, strict=True)) / sum(
            w * x * x for w, x in zip(weights, size, strict=True)
        )
    return Line(kind, alpha, 1e6 / slope, min(size), max(size)) if slope > 0 else None


def transfer_chart(sizes: pl.DataFrame) -> Chart | None:
    """Transfer time by size, with the α–β line of each kind; None with fewer than two sizes."""
    if sizes.height < _LEAST_DOTS:
        return None
    lines = fitted(sizes)
    drawn = Scatter(
        dots=_dots(sizes, pl.col("us")),
        colors=_colors(sizes),
        lines=[
            [(x, line.microseconds(x)) for x in _between(line.smallest, line.largest)]
            for line in lines
        ],
        dashed=True,
        x_label="bytes of one operation",
        y_label="transfer, µs",
    )  # fmt: skip
    said = "; ".join(
        f"{line.name}: α {milliseconds(line.alpha_us / 1e3)}, β {digits(line.beta / 1e9)} GB/s" for line in lines[:4]
    )
    return Chart(
        id="transfer-by-size",
        draw=lambda: scatter_figure(drawn),
        title="Transfer by size against α–β",
        term="α–β",
        label="Scatter of median transfer time by size of collectives, with a fitted line of latency and bandwidth.",
        caption=f"Medians. Dashed: {said}." if said else "Medians. Too few sizes of one kind for a line.",
        legend=_legend(sizes),
        third=True,
        half=True,
        numbers=_numbers("transfer-sizes", sizes),
    )


def bandwidth_chart(sizes: pl.DataFrame) -> Chart | None:
    """Bus bandwidth by size beside the links' peak; None if it is not known."""
    known = sizes.drop_nulls("bus").filter(pl.col("bus") > 0)
    if known.height < _LEAST_DOTS:
        return None
    linked = known.drop_nulls("link").filter(pl.col("link") > 0)
    peaks = sorted({round(bus / share / 1e9, 1) for bus, share in linked.select("bus", "link").iter_rows()})
    ends = (min(known["bytes"].to_list()) / 1.5, max(known["bytes"].to_list()) * 1.5)
    drawn = Scatter(
        dots=_dots(known, pl.col("bus") / 1e9),
        colors=_colors(sizes),
        lines=[[(ends[0], peak), (ends[1], peak)] for peak in peaks[:3]],
        x_label="bytes of one operation",
        y_label="bus bandwidth, GB/s",
    )
    peak = f" Line: peak of the link, {', '.join(f'{digits(each)} GB/s' for each in peaks[:3])}." if peaks else ""
    return Chart(
        id="bandwidth-by-size",
        draw=lambda: scatter_figure(drawn),
        title="Bus bandwidth by size",
        term="Bus bandwidth",
        label="Scatter of bus bandwidth by size of collectives.",
        caption=f"Means by size; waiting for late members is not counted.{peak}",
        legend=_legend(sizes),
        third=True,
        half=True,
        numbers=_numbers("bandwidth-sizes", known),
    )


def _between(low: float, high: float, num: int = 24) -> list[float]:
    return [low * (high / low) ** (at / (num - 1)) for at in range(num)]


def _dots(sizes: pl.DataFrame, value: pl.Expr) -> pl.DataFrame:
    return sizes.select(
        x="bytes",
        y=value,
        kind="kind",
        name="kind",
        text=pl.struct("bytes", "us").map_elements(
            lambda row: f"{byte_count(row['bytes'])} in {milliseconds(row['us'] / 1e3)}", return_dtype=pl.String
        ),
    )


def _colors(sizes: pl.DataFrame) -> dict[str, str]:
    kinds = sizes["kind"].unique(maintain_order=True).to_list()
    return {kind: _COLORS[at % len(_COLORS)] for at, kind in enumerate(kinds)}


def _legend(sizes: pl.DataFrame) -> tuple[tuple[str, str], ...]:
    return tuple(list(_colors(sizes).items())[:8])


def _numbers(grid_id: str, sizes: pl.DataFrame):  # noqa: ANN202 - Grid | None
    return grid(
        grid_id,
        "Operations by size",
        sizes.to_dicts(),
        [
            ("operation", lambda r: r["kind"], None),
            ("size", lambda r: r["bytes"], "bytes"),
            ("times", lambda r: r["number"], "count"),
            ("transfer, median", lambda r: r["us"], "us"),
            ("bus bandwidth", lambda r: None if r["bus"] is None else f"{digits(r['bus'] / 1e9)} GB/s", "number"),
            ("of the link", lambda r: r["link"], "share"),
        ],
        limit=200,
        few=0,
        csv="bandwidths",
    )
