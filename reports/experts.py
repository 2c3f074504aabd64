"""The all-to-all's charts: who sends to whom, how even the load is, who waits, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from reports import charts
from reports.heat import matrix_figure
from reports.loads import Loads, load_figure
from reports.palette import COLLECTIVE_PARTS, LOSS, REFERENCE, SEQUENTIAL
from reports.parts import Button, Chart, Grid
from reports.text import at, number, quantity, records, safe_text
from reports.time_axis import NS_PER_MS, median_step, source_of, time_figure, view

MAX_BARS = 10_000
"""Bars of the all-to-all timeline, two for each all-to-all."""
MAX_MATRIX_RANKS = 64
LOADED = ("dispatch",)
"""The direction whose rows are routed tokens."""
_SAMPLE = ("step", "layer", "group")
"""What one observation of the load is: one layer of one step in one expert group."""


def all_to_alls(collectives: pl.DataFrame) -> pl.DataFrame:
    """The timed all-to-alls among the collectives."""
    return collectives.filter(pl.col("kind") == "all_to_all").drop_nulls(["rank", "step", "start_ns", "end_ns"])


def routed(routing: pl.DataFrame) -> pl.DataFrame:
    """The routing rows to use: the side file's where there are any, else those inferred from split sizes."""
    if "group" not in routing.columns:
        routing = routing.with_columns(group=pl.lit("", pl.String))
    known = routing.filter(pl.col("tokens").is_not_null())
    recorded = known.filter(pl.col("source") == "side_file")
    return known if recorded.is_empty() else recorded


def exchanges(routing: pl.DataFrame, collectives: pl.DataFrame) -> pl.DataFrame:
    """Token copies sent from rank to rank: step, layer, group, source, destination, tokens.

    From the routing table; where there is none, from the split sizes of the dispatch all-to-alls.
    """
    known = routed(routing).drop_nulls(["rank", "expert_rank"])
    if not known.is_empty():
        return known.group_by(*_SAMPLE, source="rank", destination="expert_rank").agg(pl.col("tokens").sum())
    split = (
        all_to_alls(collectives)
        .filter(pl.col("direction").cast(pl.String).is_in(LOADED))
        .drop_nulls(["send_splits", "group"])
        .with_columns(members=pl.col("group").str.split(",").list.eval(pl.element().cast(pl.Int32, strict=False)))
        .filter(pl.col("members").list.len() == pl.col("send_splits").list.len())
        .explode("members", "send_splits")
    )
    return split.group_by(*_SAMPLE, source="rank", destination="members").agg(tokens=pl.col("send_splits").sum())


def rank_loads(exchanged: pl.DataFrame) -> Loads | None:
    """Received token copies of every rank, as load over the mean of its expert group."""
    return _loads(exchanged.group_by(*_SAMPLE, place="destination").agg(pl.col("tokens").sum()), "rank")


def expert_loads(routing: pl.DataFrame) -> Loads | None:
    """Token copies of every expert over all groups, as load over the mean of its layer."""
    known = routed(routing).drop_nulls("expert").with_columns(group=pl.lit("", pl.String))
    return _loads(known.group_by(*_SAMPLE, place="expert").agg(pl.col("tokens").sum()), "expert")


def _loads(received: pl.DataFrame, word: str) -> Loads | None:
    """Mean, lowest and highest ratio of each place over its layers and steps, and the band that chance gives.

    The band is ±2 standard deviations of one place's ratio in one layer of one step when N token copies choose
    among n places evenly and independently: sqrt((n − 1) / N), the binomial's.
    """
    samples = received.group_by(*_SAMPLE).agg(total=pl.col("tokens").sum()).filter(pl.col("total") > 0)
    places = received.select("group", "place").unique().with_columns(num_places=pl.len().over("group"))
    if samples.is_empty() or places["num_places"].min() == 1:
        return None
    ratios = (
        samples.join(places, on="group")
        .join(received, on=[*_SAMPLE, "place"], how="left", nulls_equal=True)
        .with_columns(ratio=pl.col("tokens").fill_null(0) * pl.col("num_places") / pl.col("total"))
    )
    copies = sum(samples["total"].to_list()) / samples.height
    num_places = max(places["num_places"].to_list())
    return Loads(
        word=word,
        ratios=ratios.group_by("place")
        .agg(mean=pl.col("ratio").mean(), low=pl.col("ratio").min(), high=pl.col("ratio").max())
        .sort("place"),
        chance=2.0 * math.sqrt((num_places - 1) / copies),
        copies=round(copies),
        num_samples=samples.select("step", "layer").unique().height,
    )


def matrix_chart(exchanged: pl.DataFrame) -> Chart | None:
    """Tokens from rank to rank as a heat map: mean of one layer of one step; None without routing or splits."""
    if exchanged.is_empty():
        return None
    samples = exchanged.select("step", "layer").unique().height
    cells = exchanged.group_by("source", "destination").agg(tokens=pl.col("tokens").sum() / samples)
    ranks = sorted({*cells["source"].to_list(), *cells["destination"].to_list()})
    drawn = ranks[:MAX_MATRIX_RANKS]
    cells = cells.filter(pl.col("source").is_in(drawn) & pl.col("destination").is_in(drawn))
    cut = f" {len(ranks) - len(drawn)} further ranks are not drawn." if len(drawn) < len(ranks) else ""
    return Chart(
        id="token-matrix",
        figure=matrix_figure(cells, drawn),
        title="Tokens from rank to rank",
        label="Heat map of token copies sent from every rank to every rank.",
        caption=f"Token copies per layer and step, mean over {samples} of them. Row sends, column receives; "
        f"the diagonal stays on its rank.{cut}",
        legend=(("few", SEQUENTIAL[0]), ("many", SEQUENTIAL[1])),
        half=True,
    )


def load_chart(loads: Loads | None, review: Mapping[str, Any]) -> Chart | None:
    """Load over mean around 1, with the band that chance gives."""
    if loads is None:
        return None
    name = f"{loads.word}_load_max_over_mean"
    measured = number(at(review, "all_to_all", name))
    chance = number(at(review, "all_to_all", "chance_max_over_mean"))
    facts = (
        [f"Most loaded over mean, averaged over layers and steps: {quantity(measured, 'ratio')}"] if measured else []
    )
    facts += [f"by chance {quantity(chance, 'ratio')}"] if chance and measured and loads.word == "rank" else []
    return Chart(
        id=f"{loads.word}-load",
        figure=load_figure(loads),
        title=f"Load of every {loads.word}",
        label=f"Token copies received by every {loads.word}, divided by the mean.",
        caption=f"Bar: mean over {loads.num_samples} layers and steps; whisker: their range. Band: where 95 % would lie if "
        f"{quantity(loads.copies, 'count')} copies chose evenly and independently. {', '.join(facts)}".strip()
        + ("." if facts else ""),
        legend=(("outside chance", LOSS), ("within chance", REFERENCE)),
        half=True,
    )


def split_chart(collectives: pl.DataFrame) -> Chart | None:
    """Wait and transfer inside all-to-alls by rank, per step; None where no split is known."""
    known = all_to_alls(collectives).drop_nulls(["wait_ns", "transfer_ns"])
    if known.is_empty():
        return None
    steps = known["step"].n_unique()
    sums = known.group_by("rank").agg(
        wait=pl.col("wait_ns").sum() / steps / NS_PER_MS, transfer=pl.col("transfer_ns").sum() / steps / NS_PER_MS
    )
    sums = sums.sort("rank").head(charts.MAX_ROWS).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    values = sums.unpivot(index="row", on=["wait", "transfer"], variable_name="part", value_name="value")
    bases = ", ".join(sorted(known["basis"].cast(pl.String).drop_nulls().unique().to_list()))
    return Chart(
        id="wait-transfer",
        figure=charts.stacked_bars(
            values,
            [f"rank {rank}" for rank in sums["rank"].to_list()],
            COLLECTIVE_PARTS,
            x_label="ms per step",
            unit="ms per step",
        ),
        title="Wait and transfer by rank",
        label="Time inside all-to-alls by rank, split into waiting for the last member and transfer.",
        caption=f"Mean over {steps} steps, all layers and directions. The rank that waits least is the one others wait for. "
        f"Basis: {bases or 'not stated'}.",
        legend=tuple(COLLECTIVE_PARTS.items()),
        half=True,
    )


def exchange_timeline(collectives: pl.DataFrame, origin_ns: int | None) -> Chart | None:
    """When every rank was in an all-to-all, wait apart from transfer; None without timed all-to-alls.

    `origin_ns` is the timeline's zero where there is one; else the shown step's first arrival.
    """
    timed = all_to_alls(collectives)
    if timed.is_empty():
        return None
    windows = timed.group_by("step").agg(pl.col("start_ns").min(), pl.col("end_ns").max()).sort("step")
    shown = median_step(windows)
    near = windows.sort((pl.col("step") - shown).abs())["step"].to_list()
    sizes, kept = dict(timed.group_by("step").len().iter_rows()), list[int]()
    while near and (not kept or 2 * sum(sizes[s] for s in [*kept, near[0]]) <= MAX_BARS):
        kept.append(near.pop(0))
    timed = timed.filter(pl.col("step").is_in(kept)).head(MAX_BARS // 2)
    windows = windows.filter(pl.col("step").is_in(kept))
    zero = origin_ns if origin_ns is not None else int(windows.filter(pl.col("step") == shown)["start_ns"][0])
    bars = _exchange_bars(timed, zero)
    spans = {
        step: view((start - zero) / NS_PER_MS, (end - zero) / NS_PER_MS) for step, start, end in windows.iter_rows()
    }
    cut = f" {len(near)} further steps are not drawn (at most {MAX_BARS} bars are)." if near else ""
    return Chart(
        id="all-to-all-timeline",
        figure=_exchange_figure(bars, spans[shown], shown, shared=origin_ns is not None),
        title="All-to-alls in time",
        label="Timeline of all-to-alls: one row per rank, waiting apart from transfer.",
        caption=f"Each all-to-all from a rank's arrival to its end; the rank without red arrived last.{cut}",
        legend=tuple(COLLECTIVE_PARTS.items()),
        buttons=tuple(
            Button(text=f"step {step}" + (" (median)" if step == shown else ""), start_ms=start, end_ms=end)
            for step, (start, end) in spans.items()
        ),
        time_axis="all-to-all-x",
    )


def _exchange_bars(timed: pl.DataFrame, zero_ns: int) -> pl.DataFrame:
    """Two bars for each all-to-all: wait, then transfer; one where the split is unknown."""
    ranks = (
        timed.select("rank").unique().sort("rank").with_row_index("row").with_columns(pl.col("row").cast(pl.Float64))
    )
    wait = pl.col("wait_ns").fill_null(0)
    common = (
        "row",
        "rank",
        "step",
        pl.col("layer").fill_null(-1),
        pl.col("direction").cast(pl.String).fill_null("other"),
    )
    placed = timed.join(ranks, on="rank").with_columns(turn=pl.col("start_ns") + wait)
    parts = [
        placed.select(
            *common,
            part=pl.lit(part),
            color=pl.lit(COLLECTIVE_PARTS[part]),
            start_ms=(pl.col(start) - zero_ns) / NS_PER_MS,
            end_ms=(pl.col(end) - zero_ns) / NS_PER_MS,
        )
        for part, start, end in (("wait", "start_ns", "turn"), ("transfer", "turn", "end_ns"))
    ]
    return pl.concat(parts).filter(pl.col("end_ms") > pl.col("start_ms"))


def _exchange_figure(bars: pl.DataFrame, window: tuple[float, float], shown: int, *, shared: bool) -> Any:  # noqa: ANN401
    zero = "the pipeline phase" if shared else "the first all-to-all"
    figure = time_figure(
        "all-to-all",
        window,
        dict(bars.select("row", "rank").unique().sort("row").iter_rows()),
        x_label=f"ms since {zero} of step {shown} began",
        tooltips=[
            ("", "@part, @direction"),
            ("rank", "@rank, step @step, layer @layer"),
            ("start", "@start_ms{0.000} ms"),
            ("duration", "@duration_ms{0.000} ms"),
        ],
    )
    frame = bars.with_columns(duration_ms=pl.col("end_ms") - pl.col("start_ms"))
    columns = ("part", "direction", "color", "rank", "step", "layer", "row", "start_ms", "end_ms", "duration_ms")
    figure.hbar(
        y="row", left="start_ms", right="end_ms", height=0.8, color="color", line_width=0.4,
        source=source_of(frame, columns),
    )  # fmt: skip
    figure.y_range.end = -0.75
    return figure


def group_grid(review: Mapping[str, Any]) -> Grid | None:
    """The review's expert groups as a table."""
    rows = tuple(
        (
            safe_text(", ".join(str(rank) for rank in group.get("ranks") or ()), 80),
            quantity(group.get("num_all_to_all"), "count"),
            *(
                quantity(group.get(name), "ratio")
                for name in ("rank_load_max_over_mean", "expert_load_max_over_mean", "chance_max_over_mean")
            ),
        )
        for group in records(review, "all_to_all", "groups")
    )
    if not rows:
        return None
    return Grid(
        id="groups",
        title="Expert groups",
        columns=("ranks", "all-to-alls", "rank load, max ÷ mean", "expert load, max ÷ mean", "by chance"),
        rows=rows[:200],
        numeric=frozenset(range(1, 5)),
        note=f"{len(rows) - 200} further groups are in the review." if len(rows) > 200 else "",
        csv="collectives",
    )
