"""Who waits for whom as a matrix."""

from __future__ import annotations

import polars as pl

from reports.charts.palette import COLLECTIVE_PARTS, blend
from reports.charts.plots.matrix import Matrix, matrix_figure
from reports.page.grids import grid
from reports.page.model import Chart
from traceanalyzer.review.words import milliseconds

MAX_RANKS = 32
"""Ranks of a side: those with most waiting."""


def waiting_chart(sums: pl.DataFrame, chart_id: str, title: str, table: str, least_ms: float) -> Chart | None:
    """`sums` (waiter, culprit, ms per step) as a matrix; None without waiting.

    Ranks that neither wait nor are waited for have no row and no column. A rank that somebody waits for longer than
    `least_ms` is marked as late.
    """
    known = sums.filter(pl.col("ms") > 0)
    if known.is_empty():
        return None
    waiters, culprits = (_most(known, side) for side in ("waiter", "culprit"))
    shown = known.filter(pl.col("waiter").is_in(waiters) & pl.col("culprit").is_in(culprits))
    most = max(shown["ms"].to_list())
    cells = shown.with_columns(
        row=pl.col("waiter").replace_strict({rank: at for at, rank in enumerate(waiters)}, return_dtype=pl.Int64),
        column=pl.col("culprit").replace_strict({rank: at for at, rank in enumerate(culprits)}, return_dtype=pl.Int64),
        color=pl.col("ms").map_elements(
            lambda ms: blend(ms / most, ("#efcbc6", COLLECTIVE_PARTS["wait"])), return_dtype=pl.String
        ),
        text=pl.col("ms").map_elements(milliseconds, return_dtype=pl.String),
        name=pl.format("rank {} waits for rank {}", "waiter", "culprit"),
    )
    by_culprit = known.group_by("culprit").agg(pl.col("ms").sum()).sort("ms", descending=True)
    first, caused = by_culprit.row(0)
    late = first if max(known.filter(pl.col("culprit") == first)["ms"].to_list()) > least_ms else None
    drawn = Matrix(
        cells=cells,
        rows=[str(rank) for rank in waiters],
        columns=[f"▲{rank}" if rank == late else str(rank) for rank in culprits],
        row_label="rank that waits",
        column_label="rank waited for",
        marked=None if late is None else cells.filter(pl.col("culprit") == late).select("row", "column"),
    )
    cut = known["waiter"].n_unique() + known["culprit"].n_unique() - len(waiters) - len(culprits)
    sentence = f"Most waiting is for rank {first}: {milliseconds(caused)} per step, summed over those that wait."
    return Chart(
        id=chart_id,
        draw=lambda: matrix_figure(drawn),
        title=title,
        term="Wait",
        label=f"Matrix of ranks that wait by ranks that they wait for. {sentence}",
        caption=sentence + (" Only the ranks with most waiting are drawn." if cut else ""),
        third=True,
        half=True,
        numbers=grid(
            f"{chart_id}-numbers",
            title,
            known.sort("ms", descending=True).to_dicts(),
            [
                ("waits", lambda r: r["waiter"], "count"),
                ("for", lambda r: r["culprit"], "count"),
                ("per step", lambda r: r["ms"], "ms"),
            ],
            limit=64,
            few=0,
            csv=table,
        ),
    )


def _most(sums: pl.DataFrame, side: str) -> list[int]:
    most = sums.group_by(side).agg(pl.col("ms").sum()).sort("ms", side, descending=[True, False])
    return sorted(most[side].head(MAX_RANKS).to_list())
