"""What the members of a process group did between its collectives: the same stretch of work, rank by rank.

A *stretch* of a rank lies between the points at which it posted two collectives of one group that follow each other; what
follows the last one is the tail. Members that do the same work in the same order can be set against each other stretch by
stretch: each one's *usual* is the median of the others. Between two exchanges of tokens that mirror each other (what one
receives the next sends back) work follows the rows a rank holds, so there the others' time per row counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.measurements.rank_pieces import RankPieces, Vector

MIN_MEMBERS = 2
KINDS = ("computing", "host", "idle")
"""What a stretch consists of; host and idle are times in which nothing ran."""
Table = npt.NDArray[np.float64]
"""Ranks × stretches, nanoseconds."""


@dataclass(frozen=True, slots=True)
class GroupWork:
    """The captured members of one group, stretch by stretch."""

    group: str
    roles: frozenset[str]
    ranks: tuple[int, ...]
    matches: tuple[int, ...]
    """The collective that ends each stretch; the tail has none."""
    steps: Vector
    """Of every stretch."""
    spent: Mapping[str, Table]
    """By kind."""
    rows: Table
    """Relative amount of work: rows held, 1 where work does not follow them."""
    pieces: tuple[tuple[tuple[int, int], ...], ...]
    """By rank and stretch, the first piece and the one after the last."""
    operations: tuple[tuple[tuple[int, ...], ...], ...]
    """By rank and stretch, the operations whose late start belongs to it."""

    def usual(self, kind: str) -> Table:
        """Of every rank and stretch, the median of the others."""
        relative = self.spent[kind] / self.rows
        others = [np.median(np.delete(relative, at, axis=0), axis=0) for at in range(len(self.ranks))]
        return np.stack(others) * self.rows


def group_work(ranks: Sequence[RankPieces], splits: pl.DataFrame, groups: Collection[str]) -> list[GroupWork]:
    """The work of `groups` from `COLLECTIVE_SPLITS`, those with most collectives first."""
    by_rank = {each.rank: each for each in ranks}
    known = splits.filter(
        pl.col("group").is_in(list(groups)) & pl.col("match").is_not_null() & pl.col("index").is_not_null()
        & pl.col("rank").is_in(list(by_rank)) & pl.col("step").is_not_null()
    )  # fmt: skip
    found: list[GroupWork] = []
    for (group,), rows in sorted(known.partition_by("group", as_dict=True).items()):
        work = _of_group(str(group), rows, by_rank)
        if work is not None:
            found.append(work)
    return sorted(found, key=lambda work: (-len(work.matches), work.group))


def _of_group(group: str, rows: pl.DataFrame, by_rank: Mapping[int, RankPieces]) -> GroupWork | None:
    ranks = sorted(rows["rank"].unique().to_list())
    if len(ranks) < MIN_MEMBERS:
        return None
    shared = rows.unique(["rank", "match"], keep="first", maintain_order=True).filter(
        pl.col("rank").n_unique().over("match") == len(ranks)
    )
    ordered = [shared.filter(pl.col("rank") == rank).sort("start_ns", "index") for rank in ranks]
    matches = ordered[0]["match"].to_list()
    if not matches or any(part["match"].to_list() != matches for part in ordered):
        return None
    cut = [_stretches(by_rank[rank], part["index"].to_list()) for rank, part in zip(ranks, ordered, strict=True)]
    spans, operations = tuple(each[0] for each in cut), tuple(each[1] for each in cut)
    spent = {kind: np.stack([_spent(by_rank[rank], kind, *each) for rank, each in zip(ranks, cut, strict=True)]) for kind in KINDS}
    steps = ordered[0]["step"].to_numpy().astype(np.int64)
    return GroupWork(
        group=group,
        roles=frozenset(str(role) for role in rows["role"].drop_nulls().unique()),
        ranks=tuple(ranks),
        matches=tuple(matches),
        steps=np.concatenate([steps, steps[-1:]]),
        spent=spent,
        rows=np.stack([_rows(part) for part in ordered]),
        pieces=spans,
        operations=operations,
    )


_Spans = tuple[tuple[int, int], ...]
_Late = tuple[tuple[int, ...], ...]


def _stretches(each: RankPieces, indices: list[int]) -> tuple[_Spans, _Late]:
    """Pieces and late operations of every stretch of a rank."""
    place = {index: at for at, index in enumerate(each.operations.index.tolist())}
    own = [place[index] for index in indices if index in place]
    if len(own) != len(indices):
        own = [place.get(index, -1) for index in indices]
    posts = each.operations.post.tolist()
    ends = np.maximum.accumulate([posts[at] + 1 if at >= 0 else 0 for at in own])
    spans = tuple(zip([0, *ends.tolist()], [*ends.tolist(), len(each.end_ns)], strict=True))
    late: list[list[int]] = [[] for _ in spans]
    mine = {at: stretch for stretch, at in enumerate(own)}
    for at, post in enumerate(posts):
        stretch = mine.get(at, int(np.searchsorted(ends, post + 1, "left")))
        late[stretch].append(at)
    return spans, tuple(tuple(part) for part in late)


def _spent(each: RankPieces, kind: str, spans: _Spans, late: _Late) -> npt.NDArray[np.float64]:
    own: Vector = getattr(each, f"{kind}_ns")
    before = np.concatenate([[0], np.cumsum(own)])
    inside = [int(before[last] - before[first]) for first, last in spans]
    if kind != "computing":
        waiting: Vector = getattr(each.operations, f"{kind}_ns")
        inside = [ns + int(waiting[list(part)].sum()) for ns, part in zip(inside, late, strict=True)]
    return np.array(inside, dtype=np.float64)


def _rows(part: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Rows held between an exchange and its mirror image; 1 elsewhere."""
    sent, received = (
        part.select(pl.when(pl.col("kind") == "all_to_all").then(pl.col(f"{way}_splits").list.sum()).alias("rows"))["rows"]
        for way in ("send", "receive")
    )
    held = np.ones(part.height + 1)
    for at, (opened, closed) in enumerate(zip(received[:-1].to_list(), sent[1:].to_list(), strict=True), 1):
        if opened and opened == closed:
            held[at] = opened
    return held
