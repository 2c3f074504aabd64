"""The mesh: ranks on their hosts or stages, how much each computes, and who is late."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from reports.charts.palette import DIVERGING, SEQUENTIAL, blend
from reports.charts.plots.matrix import Matrix, matrix_figure
from reports.page.grids import grid
from reports.page.model import Chart
from reports.page.text import chart_text
from reports.sections.material import Material
from reports.sections.rows import stages
from traceanalyzer.review import Review
from traceanalyzer.review.words import percent, spaced

MAX_RANKS = 4096
MAX_LISTED = 256
"""Ranks in the table below the chart; the CSV has more."""
FEW_LISTED = 8
"""Ranks in a terminal."""
_PER_ROW = 32
_MOST_ROWS = 48
"""Ranks of a row where neither hosts nor stages are known."""
_BUSY = SEQUENTIAL


@dataclass(frozen=True, slots=True)
class Rows:
    """Ranks in rows, and what a row is."""

    names: list[str]
    ranks: list[list[int]]
    label: str
    per_row: int = 1
    """Hosts or stages side by side in a row."""

    @property
    def caption(self) -> str:
        """What stands in a row."""
        if self.label == "ranks":
            return "Ranks in order."
        several = f"{self.per_row} {self.label}s, named by the first" if self.per_row > 1 else self.label
        return f"One row per {several}."

    def drawn_together(self) -> Rows:
        """The same with few enough rows that each can be seen."""
        size = -(-len(self.names) // _MOST_ROWS)
        if size == 1:
            return self
        starts = range(0, len(self.names), size)
        together = [[rank for row in self.ranks[at : at + size] for rank in row] for at in starts]
        return Rows([self.names[at] for at in starts], together, self.label, size)


def late_ranks(review: Review) -> dict[int, str]:
    """Ranks that hold up others, with the cause in words: slow ones, and those that findings name as a fault."""
    found = {each.rank: spaced(each.cause) for each in review.culprits if (each.ms or 0.0) > 0}
    for each in review.stragglers:
        found.setdefault(each.rank, spaced(each.cause))
    for each in review.findings:
        if each.rank is not None and each.remedy == "fault" and not each.passed:
            found.setdefault(each.rank, each.title[:1].lower() + each.title[1:])
    return dict(sorted(found.items()))


def mesh_chart(material: Material) -> Chart | None:
    """One cell per rank, coloured by the share of its step that it computes; late ranks are outlined."""
    summary = material.table("rank_summary").drop_nulls(["rank", "compute_share"])
    ranks = sorted(summary["rank"].to_list())
    if len(ranks) < 2 or len(ranks) > MAX_RANKS:
        return None
    rows, late = placed(material, ranks).drawn_together(), late_ranks(material.review)
    place = {rank: (at, column) for at, row in enumerate(rows.ranks) for column, rank in enumerate(row)}
    shares = dict(summary.select("rank", "compute_share").iter_rows())
    least, most = min(shares.values()), max(shares.values())
    cells = pl.DataFrame(
        [
            (*place[rank], _color(shares[rank], least, most), _text(rank, late), _name(rank, shares[rank], late))
            for rank in ranks
        ],
        schema={"row": pl.Int64, "column": pl.Int64, "color": pl.String, "text": pl.String, "name": pl.String},
        orient="row",
    )
    marked = pl.DataFrame(
        [place[rank] for rank in late if rank in place], schema={"row": pl.Int64, "column": pl.Int64}, orient="row"
    )
    widest = max(map(len, rows.ranks))
    drawn = Matrix(
        cells=cells,
        rows=rows.names,
        columns=[str(at) for at in range(widest)],
        row_label=rows.label,
        column_label="place in the row",
        marked=marked,
    )
    said = f"Outlined: {', '.join(f'rank {rank} ({cause})' for rank, cause in list(late.items())[:6])}." if late else ""
    return Chart(
        id="mesh-chart",
        draw=lambda: matrix_figure(drawn),
        title="Share of the step that each rank computes",
        label=f"Grid of {len(ranks)} ranks by {rows.label}, from {percent(least)} to {percent(most)} computing. {said}",
        caption=f"{rows.caption} {said or 'No rank stands out from its peers.'}",
        legend=((f"computes {percent(least)}", _BUSY[0]), (f"computes {percent(most)}", _BUSY[1]), *((("late", DIVERGING[1]),) if late else ())),
        half=widest <= 16 or rows.per_row > 1,
        third=widest <= 8 or rows.per_row > 1,
        numbers=grid(
            "mesh-numbers",
            "Ranks",
            summary.sort("rank").to_dicts(),
            [
                ("rank", lambda r: r["rank"], "count"),
                ("computes", lambda r: r["compute_share"], "share"),
                ("waits", lambda r: r["wait_share"], "share"),
                ("transfers", lambda r: r["transfer_share"], "share"),
                ("waits for host", lambda r: r["host_share"], "share"),
                ("late", lambda r: late.get(r["rank"], ""), None),
            ],
            limit=MAX_LISTED,
            few=FEW_LISTED,
            csv="rank_summary",
        ),
    )  # fmt: skip


def _color(share: float, least: float, most: float) -> str:
    return blend((share - least) / (most - least) if most > least else 0.5, _BUSY)


def _text(rank: int, late: dict[int, str]) -> str:
    return f"{rank} late" if rank in late else str(rank)


def _name(rank: int, share: float, late: dict[int, str]) -> str:
    cause = f", {late[rank]}" if rank in late else ""
    return f"rank {rank}: computes {percent(share)}{cause}"


def placed(material: Material, ranks: list[int]) -> Rows:
    """Ranks by host where all are recorded, else by stage where every rank has one, else in plain rows."""
    table = material.table("ranks")
    hosts = dict(table.drop_nulls(["rank", "host"]).select("rank", "host").iter_rows())
    if set(ranks) <= set(hosts) and len({hosts[rank] for rank in ranks}) > 1:
        names = list(dict.fromkeys(hosts[rank] for rank in ranks))
        return Rows(
            [chart_text(name, 16) for name in names], [[r for r in ranks if hosts[r] == n] for n in names], "host"
        )
    places = stages(material)
    if set(ranks) <= set(places):
        numbers = sorted({places[rank] for rank in ranks})
        return Rows([str(n) for n in numbers], [[r for r in ranks if places[r] == n] for n in numbers], "stage")
    cut = [ranks[at : at + _PER_ROW] for at in range(0, len(ranks), _PER_ROW)]
    return Rows([f"{row[0]}–" if len(cut) > 1 else "" for row in cut], cut, "ranks")
