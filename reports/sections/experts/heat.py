"""Maps of experts: load by layer and expert, bytes from rank to rank, and who waits for whom at all-to-alls."""

from __future__ import annotations

import math

import polars as pl

from reports.charts.palette import DIVERGING, GREY_CELL, blend, diverge
from reports.charts.plots.matrix import Matrix, matrix_figure
from reports.charts.token_flow import routed
from reports.page.grids import grid
from reports.page.model import Chart
from reports.sections.waits import waiting_chart
from traceanalyzer.review.words import byte_count, percent, times

MAX_EXPERTS = 256
MAX_LAYERS = 96
MAX_RANKS = 64
_LEAST_EXPERTS = 2


def layer_loads(routing: pl.DataFrame) -> pl.DataFrame:
    """Load ÷ mean of every expert in every layer, pooled over steps: layer, expert, ratio, chance, copies.

    `chance` is two standard deviations of the ratio when the layer's copies choose evenly and independently:
    sqrt((n − 1) / N) for N copies and n experts, as of one binomial.
    """
    known = routed(routing).drop_nulls(["expert", "layer"])
    sums = known.group_by("layer", "expert").agg(pl.col("tokens").sum())
    experts = known["expert"].unique().sort()
    whole = pl.DataFrame({"expert": experts}).join(sums.select("layer").unique(), how="cross")
    placed = whole.join(sums, on=["layer", "expert"], how="left").with_columns(pl.col("tokens").fill_null(0))
    total, number = pl.col("tokens").sum().over("layer"), max(1, len(experts))
    return placed.with_columns(
        ratio=pl.when(total > 0).then(pl.col("tokens") * number / total),
        chance=pl.when(total > 0).then(2.0 * ((number - 1) / total).sqrt()),
        copies="tokens",
    ).drop_nulls("ratio")


def expert_heat(routing: pl.DataFrame) -> Chart | None:
    """Experts across, layers down: grey within chance, red above it and blue below; None without routing by layer."""
    loads = layer_loads(routing)
    if loads.is_empty() or loads["expert"].n_unique() < _LEAST_EXPERTS:
        return None
    layers = sorted(loads["layer"].unique().to_list())[:MAX_LAYERS]
    experts = sorted(loads["expert"].unique().to_list())[:MAX_EXPERTS]
    shown = loads.filter(pl.col("layer").is_in(layers) & pl.col("expert").is_in(experts))
    beyond = (pl.col("ratio") - 1).abs() > pl.col("chance")
    cells = shown.with_columns(beyond=beyond).with_columns(
        row=pl.col("layer").replace_strict({layer: at for at, layer in enumerate(layers)}, return_dtype=pl.Int64),
        column=pl.col("expert").replace_strict({name: at for at, name in enumerate(experts)}, return_dtype=pl.Int64),
        color=pl.struct("ratio", "beyond").map_elements(
            lambda cell: diverge(cell["ratio"]) if cell["beyond"] else GREY_CELL, return_dtype=pl.String
        ),
        text=pl.col("ratio").map_elements(times, return_dtype=pl.String),
        name=pl.format("layer {}, expert {}", "layer", "expert"),
    )
    hot = cells.filter(beyond & (pl.col("ratio") > 1))
    largest = hot.sort("ratio", descending=True).group_by("row", maintain_order=True).first()
    drawn = Matrix(
        cells=cells,
        rows=[str(layer) for layer in layers],
        columns=[str(expert) for expert in experts],
        row_label="layer",
        column_label="expert",
        marked=largest.select("row", "column"),
    )
    band = percent(float(shown["chance"].median() or math.nan))  # type: ignore[arg-type] - Float64
    cut = loads["expert"].n_unique() - len(experts) + loads["layer"].n_unique() - len(layers)
    return Chart(
        id="expert-heat",
        draw=lambda: matrix_figure(drawn),
        title="Load ÷ mean, by layer and expert",
        label=f"Heat map of {len(layers)} layers by {len(experts)} experts. {_note(hot)}",
        caption=f"All captured steps. Grey: within chance, ±{band} of the mean for a median layer. Outlined: the hottest expert "
        f"of a layer, if it is beyond chance.{' Some experts or layers are not drawn.' if cut else ''}",
        legend=(("below chance", DIVERGING[0]), ("within chance", GREY_CELL), ("hot: above chance", DIVERGING[1])),
        half=len(experts) <= 2 * MAX_RANKS,
        numbers=grid(
            "expert-heat-numbers",
            "Load by layer and expert",
            shown.sort("ratio", descending=True).to_dicts(),
            [
                ("layer", lambda r: r["layer"], None),
                ("expert", lambda r: r["expert"], None),
                ("token copies", lambda r: r["copies"], "count"),
                ("load ÷ mean", lambda r: r["ratio"], "ratio"),
                ("beyond chance", lambda r: "hot" if r["ratio"] - 1 > r["chance"] else "", None),
            ],
            limit=64,
            few=0,
            csv="routing",
        ),
    )


def _note(hot: pl.DataFrame) -> str:
    if hot.is_empty():
        return "No expert is above what chance gives."
    most = hot.sort("ratio", descending=True).row(0, named=True)
    return f"Hottest: expert {most['expert']} of layer {most['layer']}, {times(most['ratio'])} the mean."


def bytes_matrix(traffic: pl.DataFrame, ranks: pl.DataFrame) -> Chart | None:
    """Bytes a rank sends another per step, with lines between hosts; None if bytes are not known."""
    known = traffic.drop_nulls("bytes")
    if known.is_empty() or not known["bytes"].sum():
        return None
    steps = max(1, known["step"].n_unique())
    sums = known.group_by("source", "target").agg(bytes=pl.col("bytes").sum() / steps)
    names = sorted({*sums["source"].to_list(), *sums["target"].to_list()})[:MAX_RANKS]
    sums = sums.filter(pl.col("source").is_in(names) & pl.col("target").is_in(names))
    place, most = {rank: at for at, rank in enumerate(names)}, max(sums["bytes"].to_list())
    cells = sums.with_columns(
        row=pl.col("source").replace_strict(place, return_dtype=pl.Int64),
        column=pl.col("target").replace_strict(place, return_dtype=pl.Int64),
        color=pl.col("bytes").map_elements(lambda number: blend(number / most), return_dtype=pl.String),
        text=pl.col("bytes").map_elements(byte_count, return_dtype=pl.String),
        name=pl.format("rank {} to rank {}", "source", "target"),
    )
    hosts, lines = host_lines(ranks, names)
    drawn = Matrix(
        cells=cells,
        rows=[str(rank) for rank in names],
        columns=[str(rank) for rank in names],
        row_label="from rank",
        column_label="to rank",
        lines=lines,
    )
    return Chart(
        id="bytes-matrix",
        draw=lambda: matrix_figure(drawn),
        title="Bytes from rank to rank",
        label=f"Heat map of bytes sent from every rank to every rank per step; {hosts}.",
        caption=f"All exchanges of expert layers, mean over {steps} steps; {hosts}.",
        legend=(("few", blend(0.0)), ("many", blend(1.0))),
        third=True,
        half=True,
        numbers=grid(
            "bytes-matrix-numbers",
            "Bytes from rank to rank, per step",
            cells.sort("bytes", descending=True).to_dicts(),
            [
                ("from rank", lambda r: r["source"], "count"),
                ("to rank", lambda r: r["target"], "count"),
                ("per step", lambda r: r["bytes"], "bytes"),
            ],
            limit=64,
            few=0,
            csv="traffic",
        ),
    )


def host_lines(ranks: pl.DataFrame, names: list[int]) -> tuple[str, list[int]]:
    """What is known of hosts, in words, and the positions at which the host changes along `names`."""
    known = (
        dict(ranks.drop_nulls(["rank", "host"]).select("rank", "host").iter_rows()) if "host" in ranks.columns else {}
    )
    if not set(names) <= set(known):
        return "the ranks' hosts are not recorded", []
    lines = [at for at in range(1, len(names)) if known[names[at]] != known[names[at - 1]]]
    number = len({known[rank] for rank in names})
    return ("all on one host" if number == 1 else f"lines stand between the {number} hosts"), lines


def exchange_waits(blame: pl.DataFrame, least_ms: float) -> Chart | None:
    """Who waits for whom at all-to-alls, per step; None without waits."""
    steps = max(1, blame["step"].n_unique()) if not blame.is_empty() else 1
    sums = blame.drop_nulls(["waiter", "culprit"]).group_by("waiter", "culprit").agg(
        ms=pl.col("duration_ns").sum() / steps / 1e6
    )  # fmt: skip
    return waiting_chart(sums, "exchange-waits", "Who waits for whom at all-to-alls", "expert_blame", least_ms)
