"""The all-to-all's charts: who sends to whom, how even the load is, and who waits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from reports.charts import elements as charts
from reports.charts.heat import matrix_figure
from reports.charts.loads import Loads, load_figure
from reports.charts.palette import COLLECTIVE_PARTS, LOSS, REFERENCE, SEQUENTIAL
from reports.charts.time_axis import NS_PER_MS
from reports.page.parts import Chart, Grid, Terms
from reports.page.text import WITHHELD, Unit, at, listed, number, quantity, records, safe_text, shown

MAX_GROUPS = 200
MAX_MATRIX_RANKS = 64
LOADED = ("dispatch",)
"""The direction whose rows are routed tokens."""
_GROUP_RATIOS = {
    "rank_load_max_over_mean": "rank load",
    "rank_load_max_over_mean_from_splits": "rank load from splits",
    "expert_load_max_over_mean": "expert load",
}
_GROUP_TIMES = {"combine_wait_ms": "wait at combine", "wait_ms": "wait", "transfer_ms": "transfer"}
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
    measured = number(at(review, "all_to_all", f"{loads.word}_load_max_over_mean"))
    said = ""
    if measured is not None:
        said = f" Max ÷ mean, averaged over layers and steps: {quantity(measured, 'ratio')}; {by_chance(review, loads.word)}."
    return Chart(
        id=f"{loads.word}-load",
        figure=load_figure(loads),
        title=f"Load of every {loads.word}",
        label=f"Token copies received by every {loads.word}, divided by the mean.",
        caption=f"Bar: mean over {loads.num_samples} layers and steps; whisker: their range. Band: where 95 % would lie if "
        f"{quantity(loads.copies, 'count')} copies chose evenly and independently.{said}",
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


def group_grid(review: Mapping[str, Any]) -> Grid | None:
    """The review's expert groups as a table."""
    rows = tuple(
        (
            safe_text(listed(group, "ranks"), 80),
            quantity(group.get("num_all_to_all"), "count"),
            *(quantity(group.get(name), "ratio") for name in _GROUP_RATIOS),
            *(quantity(group.get(name), "ms") for name in _GROUP_TIMES),
        )
        for group in records(review, "all_to_all", "groups")
    )
    if not rows:
        return None
    return Grid(
        id="groups",
        title="Expert groups, load as max ÷ mean, times per step summed over the group",
        columns=("ranks", "all-to-alls", *_GROUP_RATIOS.values(), *_GROUP_TIMES.values()),
        rows=rows[:MAX_GROUPS],
        numeric=frozenset(range(1, 8)),
        note=f"{len(rows) - MAX_GROUPS} further groups are in review.json." if len(rows) > MAX_GROUPS else "",
        csv="collectives",
    )


def facts(review: Mapping[str, Any]) -> Terms:
    """The all-to-all's figures, each beside what balance or chance would give."""

    def of(unit: Unit, *path: str) -> str:
        return shown(review, unit, "all_to_all", *path)

    slowest = number(at(review, "all_to_all", "slowest_rank"))
    combine = [number(group.get("combine_wait_ms")) for group in records(review, "all_to_all", "groups")]
    waited = None if None in combine or not combine else sum(ms for ms in combine if ms is not None)
    return Terms(
        title="In numbers",
        entries=(
            ("Rank load, max ÷ mean", f"{of('ratio', 'rank_load_max_over_mean')}; {by_chance(review, 'rank')}"),
            ("Expert load, max ÷ mean", f"{of('ratio', 'expert_load_max_over_mean')}; {by_chance(review, 'expert')}"),
            ("Most waited-for rank", WITHHELD if slowest is None else f"rank {slowest:.0f}"),
            ("Cost of the imbalance, per step", of("ms", "imbalance_cost_ms")),
            ("Wait at combine, measured", quantity(waited, "ms") if waited is not None else of("ms", "groups")),
            ("Wait at combine, from loads", of("ms", "theory", "combine_wait_ms")),
            ("Waiting, share of rank time", of("share", "wait_share")),
            ("Transfer, share of rank time", of("share", "transfer_share")),
            ("Exposed, share of rank time", of("share", "exposed_share")),
            *_overheads(review),
        ),
        half=True,
    )


_OVERHEADS: tuple[tuple[str, str, Unit], ...] = (
    ("Choosing experts, per step over ranks", "router_ms", "ms"),
    ("Permutation, per step over ranks", "permutation_ms", "ms"),
    ("Exchange of counts, per step over ranks", "count_exchange_ms", "ms"),
    ("Dropped, of routed token copies", "dropped_share", "share"),
    ("Padding, of computed rows", "padded_share", "share"),
    ("Expert time on padding, per step over ranks", "padding_ms", "ms"),
    ("Dispatch, longest member's transfer", "dispatch_transfer_us", "us"),
    ("Dispatch at its links' peak, no latency", "dispatch_at_peak_us", "us"),
)


def _overheads(review: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What routing costs besides the experts, as far as the run tells."""
    return [
        (title, quantity(at(review, "all_to_all", name), unit))
        for title, name, unit in _OVERHEADS
        if number(at(review, "all_to_all", name)) is not None
    ]


def by_chance(review: Mapping[str, Any], word: str) -> str:
    """What chance alone would give for the load of ranks or experts, with its interval where it is known."""
    expected, low, high = (
        number(at(review, "all_to_all", "theory", f"chance_{word}{end}")) for end in ("", "_low", "_high")
    )
    if expected is None:
        return f"by chance {shown(review, 'ratio', 'all_to_all', 'chance_max_over_mean')}"
    interval = "" if low is None or high is None else f" ({quantity(low, 'ratio')} to {quantity(high, 'ratio')})"
    return f"by chance {quantity(expected, 'ratio')}{interval}"
