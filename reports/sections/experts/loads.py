"""How even the loads of ranks and experts are: charts from the tables, figures from the review."""

from __future__ import annotations

import polars as pl

from reports.charts import elements as charts
from reports.charts.heat import matrix_figure
from reports.charts.loads import Loads, load_figure
from reports.charts.palette import COLLECTIVE_PARTS, DIVERGING, REFERENCE, SEQUENTIAL
from reports.charts.time_axis import NS_PER_MS
from reports.charts.token_flow import all_to_alls
from reports.page.grids import grid
from reports.page.model import Chart, Grid, Part
from reports.sections.material import Material
from reports.sections.rows import rows_of
from traceanalyzer.review import AllToAll, HotSpot
from traceanalyzer.review.words import counted, digits, percent, quantity, times

MAX_MATRIX_RANKS = 64


def matrix_chart(exchanged: pl.DataFrame) -> Chart | None:
    """Tokens from rank to rank as a heat map: mean of one layer of one step; None without routing or splits."""
    if exchanged.is_empty():
        return None
    samples = exchanged.select("step", "layer").unique().height
    cells = exchanged.group_by("source", "destination").agg(tokens=pl.col("tokens").sum() / samples)
    ranks = sorted({*cells["source"].to_list(), *cells["destination"].to_list()})
    drawn = ranks[:MAX_MATRIX_RANKS]
    cells = cells.filter(pl.col("source").is_in(drawn) & pl.col("destination").is_in(drawn))
    cut = f" {len(ranks) - len(drawn)} more ranks are not drawn." if len(drawn) < len(ranks) else ""
    return Chart(
        id="token-matrix",
        draw=lambda: matrix_figure(cells, drawn),
        title="Tokens from rank to rank",
        label="Heat map of token copies sent from every rank to every rank.",
        caption=f"Token copies per layer and step, mean over {samples} of them. Rows send, columns receive; "
        f"the diagonal stays on its rank.{cut}",
        legend=(("few", SEQUENTIAL[0]), ("many", SEQUENTIAL[1])),
        third=True,
        half=True,
        numbers=grid(
            "token-matrix-numbers",
            "Tokens from rank to rank",
            cells.sort("tokens", descending=True).to_dicts(),
            [
                ("from rank", lambda r: r["source"], "count"),
                ("to rank", lambda r: r["destination"], "count"),
                ("token copies", lambda r: r["tokens"], "count"),
            ],
            limit=64,
            few=0,
            csv="routing",
        ),
    )


def load_chart(loads: Loads | None, measured: AllToAll | None) -> Chart | None:
    """Load over mean around 1, with the band that chance gives."""
    if loads is None:
        return None
    ratio = _ratios(measured, loads.word)[0] if measured else None
    said = ""
    if measured and ratio is not None:
        chance = by_chance(measured, loads.word)
        said = f" Max ÷ mean, averaged over layers and steps: {times(ratio)}" + (f"; {chance}." if chance else ".")
    return Chart(
        id=f"{loads.word}-load",
        draw=lambda: load_figure(loads),
        title=f"Load of every {loads.word}",
        label=f"Token copies received by every {loads.word}, divided by the mean.",
        caption=f"Bar: mean over {loads.num_samples} layers and steps. Whisker: their range. Band: 95% of the bars would lie "
        f"in it if {quantity(loads.copies, 'count')} copies chose evenly and independently.{said}",
        legend=(("below chance", DIVERGING[0]), ("within chance", REFERENCE), ("hot: above chance", DIVERGING[1])),
        third=True,
        half=True,
        numbers=grid(
            f"{loads.word}-load-numbers",
            f"Load of every {loads.word}",
            loads.ratios.to_dicts(),
            [
                (loads.word, lambda r: r["place"], "count"),
                ("mean", lambda r: r["mean"], "ratio"),
                ("lowest", lambda r: r["low"], "ratio"),
                ("highest", lambda r: r["high"], "ratio"),
                ("", lambda r: _standing(r["mean"], loads.chance), None),
            ],
            limit=512,
            few=0,
        ),
    )


def _standing(mean: float, chance: float) -> str:
    return "hot" if mean - 1 > chance else "below chance" if 1 - mean > chance else "within chance"


def _ratios(measured: AllToAll, word: str) -> tuple[float | None, float | None, float | None, float | None]:
    """Measured max ÷ mean of ranks or experts, what chance gives, and the interval of that."""
    theory = measured.theory
    if word == "rank":
        found = measured.rank_load_max_over_mean
        if theory is None or theory.chance_rank is None:
            return found, measured.chance_max_over_mean, None, None
        return found, theory.chance_rank, theory.chance_rank_low, theory.chance_rank_high
    found = measured.expert_load_max_over_mean
    if theory is None:
        return found, None, None, None
    return found, theory.chance_expert, theory.chance_expert_low, theory.chance_expert_high


def by_chance(measured: AllToAll, word: str) -> str:
    """What chance alone would give for the load of ranks or experts, with its interval if it is known."""
    _, expected, low, high = _ratios(measured, word)
    if expected is None:
        return ""
    interval = "" if low is None or high is None else f" ({times(low)} to {times(high)})"
    return f"by chance {times(expected)}{interval}"


def load_fact(measured: AllToAll, word: str) -> str:
    """Max ÷ mean of ranks or experts beside what chance gives; empty if it was not measured."""
    ratio = _ratios(measured, word)[0]
    return "" if ratio is None else "; ".join(text for text in (times(ratio), by_chance(measured, word)) if text)


def split_chart(material: Material) -> Chart | None:
    """Wait and transfer inside all-to-alls by rank, per step; None if no split is known."""
    known = all_to_alls(material.table("collectives")).drop_nulls(["wait_ns", "transfer_ns"])
    if known.is_empty():
        return None
    steps = known["step"].n_unique()
    sums = known.group_by("rank").agg(
        wait=pl.col("wait_ns").sum() / steps / NS_PER_MS, transfer=pl.col("transfer_ns").sum() / steps / NS_PER_MS
    )
    sums = sums.sort("rank")
    slowest = material.review.all_to_all.slowest_rank if material.review.all_to_all else None
    rows = rows_of(material, sums.select("rank", value="wait"), [] if slowest is None else [slowest])
    parts = sums.unpivot(index="rank", on=["wait", "transfer"], variable_name="part", value_name="value")
    values = rows.means(parts, ["part"])
    bases = ", ".join(sorted(known["basis"].cast(pl.String).drop_nulls().unique().to_list()))
    return Chart(
        id="wait-transfer",
        draw=lambda: charts.stacked_bars(
            values,
            rows.names,
            COLLECTIVE_PARTS,
            x_label="ms per step",
            unit="ms per step",
        ),
        title="Wait and transfer by rank",
        label="Time inside all-to-alls by rank, split into waiting for the last member and transfer.",
        caption=f"Mean over {counted(steps, 'step')}, all layers and directions. The rank that waits least is the one others wait for. "
        f"Basis: {bases or 'not stated'}.{rows.said}",
        legend=tuple(COLLECTIVE_PARTS.items()),
        third=True,
        half=True,
        numbers=grid(
            "wait-transfer-numbers",
            "Wait and transfer by rank, per step",
            sums.to_dicts(),
            [
                ("rank", lambda r: r["rank"], "count"),
                ("wait", lambda r: r["wait"], "ms"),
                ("transfer", lambda r: r["transfer"], "ms"),
            ],
            limit=256,
            few=0,
            csv="collectives",
        ),
    )


def load_grids(measured: AllToAll) -> list[Part | None]:
    """Measures of imbalance, who is hottest in each layer, and what single ranks say of their own."""
    loads = grid(
        "loads",
        "Rows exchanged" if measured.loads_source == "unpaired_splits" else "Expert load",
        measured.loads,
        [
            ("token copies", lambda r: f"{r.side} per {r.unit}", None),
            ("max ÷ mean", lambda r: r.max_over_mean, "ratio"),
            ("CV", lambda r: r.cv, "number"),
            ("Gini", lambda r: r.gini, "number"),
            ("entropy", lambda r: r.entropy_share, "number"),
            ("idle", lambda r: r.num_idle, "number"),
        ],
        note="CV: standard deviation ÷ mean. Entropy: 1 is even. Idle: members without a token. Means over layers and steps.",
        half=True,
    )
    own = grid(
        "own-loads",
        "Loads that single ranks recorded of themselves",
        measured.own_loads,
        [
            ("rank", lambda r: r.rank, None),
            ("all-to-alls", lambda r: r.num_all_to_all, "count"),
            ("sent", lambda r: r.sent_bytes, "bytes"),
            ("received", lambda r: r.received_bytes, "bytes"),
            ("largest part sent ÷ mean part", lambda r: r.sent_max_over_mean, "ratio"),
        ],
        note=_own_note(measured),
        half=True,
    )
    return [loads, hot_grid(measured), own]


def _own_note(measured: AllToAll) -> str:
    if not measured.own_loads:
        return ""
    first = measured.own_loads[0]
    return f"From execution traces of {first.num_ranks_known} of {first.num_ranks} ranks. No ratio over ranks follows from them."


def hot_grid(measured: AllToAll) -> Grid | None:
    """Who is hottest in each layer, and whether it stays so."""
    return grid(
        "hot-spots",
        "Hot spots",
        sorted(measured.hot_spots, key=lambda spot: spot.unit == "expert"),
        [
            ("layer", lambda s: s.layer, None),
            ("hottest", _hottest, None),
            ("over steps", lambda s: s.pattern, None),
            ("imbalance that stays in place", lambda s: s.persistent_share, "share"),
        ],
        few=4,
        half=True,
    )


def _hottest(spot: HotSpot) -> str:
    return f"{spot.unit} {spot.hottest}"


def placement_text(measured: AllToAll) -> str:
    """What another placement of the experts would do; empty without advice."""
    advice = measured.placement
    if advice is None:
        return ""
    basis = (
        "judged on other steps than those it was made from"
        if advice.held_out
        else "judged on the steps it was made from"
    )
    saved = "" if advice.saved_ms is None else f" and save {quantity(advice.saved_ms, 'ms')} per step"
    return (
        f"Placing experts by load would take the fullest rank from {times(advice.rank_load_before)} to "
        f"{times(advice.rank_load_after)} the mean{saved} ({basis}). It moves {advice.num_moved:,} experts and copies "
        f"{advice.num_redundant:,}."
    )


def overhead_texts(measured: AllToAll) -> list[tuple[str, str]]:
    """Dropped copies and padding; nothing if there are none."""
    texts: list[tuple[str, str]] = []
    if measured.dropped_tokens:
        share = "" if measured.dropped_share is None else f" ({percent(measured.dropped_share)} of those routed)"
        texts.append(("Dropped token copies", f"{measured.dropped_tokens:,}{share}"))
    if measured.padded_rows:
        share = "" if measured.padded_share is None else f" ({percent(measured.padded_share)} of all rows)"
        texts.append(("Padding, rows that no token fills, per step", f"{digits(measured.padded_rows)}{share}"))
    return texts
