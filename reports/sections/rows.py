"""Rows of bars over ranks: every rank of a small job; of a large one the ranks of a stage together, with outliers kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from reports.sections.material import Material
from traceanalyzer.review.words import counted

MAX_SINGLE = 16
"""Ranks that have a row each."""
MAX_GROUPS = 12
"""Rows of groups: of more stages, neighbours share a row."""
MAX_OUTLIERS = 6
"""Ranks that keep a row of their own beside the groups."""
_SIGMAS = 6.0
_LEAST_SHARE = 0.1
"""An outlier differs from its group's median by this many robust standard deviations and by this share of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """Ranks that share a bar."""

    name: str
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is drawn, first row on top, and in words what a row is."""

    rows: tuple[Row, ...]
    said: str
    """Empty if every rank has its row."""

    @property
    def names(self) -> list[str]:
        """Names of the rows, first on top."""
        return [row.name for row in self.rows]

    def means(self, values: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
        """Mean of `value` over the ranks of each row: row, `by`, value. A rank without a value counts as zero."""
        place = pl.DataFrame(
            [(rank, at, len(row.ranks)) for at, row in enumerate(self.rows) for rank in row.ranks],
            schema={"rank": pl.Int64, "row": pl.Int64, "size": pl.Int64},
            orient="row",
        )
        placed = values.with_columns(pl.col("rank").cast(pl.Int64)).join(place, on="rank")
        return placed.group_by("row", *by).agg(value=pl.col("value").sum() / pl.col("size").first()).sort("row", *by)


def rows_of(material: Material, values: pl.DataFrame, named: Iterable[int] = ()) -> Rows:
    """Rows for `values` (rank, value; one row per rank): what an outlier is, is judged by them; `named` ranks are outliers."""
    ranks = sorted(values["rank"].to_list())
    if len(ranks) <= MAX_SINGLE:
        return Rows(tuple(Row(f"rank {rank}", (rank,)) for rank in ranks), "")
    groups = grouped(material, ranks)
    apart = _outliers(dict(values.select("rank", "value").iter_rows()), groups, named)
    rows: list[Row] = []
    for group in groups:
        rest = tuple(rank for rank in group.ranks if rank not in apart)
        if rest:
            rows.append(Row(f"{group.name} · {counted(len(rest), 'rank')}", rest))
        rows += [Row(f"rank {rank}", (rank,)) for rank in group.ranks if rank in apart]
    own = " Ranks that stand out have their own." if apart else ""
    return Rows(tuple(rows), f" A bar is the mean over the ranks of its row.{own}")


def grouped(material: Material, ranks: Sequence[int]) -> tuple[Row, ...]:
    """The ranks by stage, else by host, else in blocks; neighbours are drawn together until there are `MAX_GROUPS` rows."""
    places = stages(material)
    table = material.table("ranks")
    hosts = dict(table.drop_nulls(["rank", "host"]).select("rank", "host").iter_rows())
    if set(ranks) <= set(places):
        return _drawn_together([(places[rank], rank) for rank in ranks], "stage")
    order = {name: at for at, name in enumerate(dict.fromkeys(hosts[rank] for rank in ranks if rank in hosts))}
    if set(ranks) <= set(hosts) and len(order) > 1:
        return _drawn_together([(order[hosts[rank]], rank) for rank in ranks], "host")
    size = -(-len(ranks) // MAX_GROUPS)
    blocks = [ranks[at : at + size] for at in range(0, len(ranks), size)]
    return tuple(Row(f"ranks {block[0]} to {block[-1]}", tuple(block)) for block in blocks)


def stages(material: Material) -> dict[int, int]:
    """First stage of every rank whose stages are known."""
    bubble = material.review.bubble
    return {rank: row.stage[0] for row in (bubble.stages if bubble else ()) for rank in row.ranks if row.stage}


def _drawn_together(placed: Sequence[tuple[int, int]], word: str) -> tuple[Row, ...]:
    numbers = sorted({number for number, _ in placed})
    size = -(-len(numbers) // MAX_GROUPS)
    rows: list[Row] = []
    for at in range(0, len(numbers), size):
        own = numbers[at : at + size]
        name = f"{word} {own[0]}" if len(own) == 1 else f"{word}s {own[0]} to {own[-1]}"
        rows.append(Row(name, tuple(rank for number, rank in placed if own[0] <= number <= own[-1])))
    return tuple(rows)


def _outliers(values: Mapping[int, float], groups: Sequence[Row], named: Iterable[int]) -> frozenset[int]:
    """The ranks that differ most from their group, those that the review names first."""
    far: dict[int, float] = {}
    for group in groups:
        own = pl.Series([float(values[rank]) for rank in group.ranks])
        median = _median(own)
        spread = 1.4826 * _median((own - median).abs())
        for rank in group.ranks:
            away = abs(float(values[rank]) - median)
            if away > _SIGMAS * spread and away > _LEAST_SHARE * max(abs(median), 1e-12):
                far[rank] = away
    listed = [rank for rank in dict.fromkeys(named) if rank in values]
    furthest = [rank for rank in sorted(far, key=lambda rank: -far[rank]) if rank not in listed]
    return frozenset([*listed, *furthest][:MAX_OUTLIERS])


def _median(values: pl.Series) -> float:
    found = values.median()
    return float(found) if isinstance(found, int | float) else 0.0
