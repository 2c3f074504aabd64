"""Which transfers take longer or shorter, and whose link it is.

An *exchange* is a set of ranks that exchange data: the two ends of messages, or a group of collectives. A rank's links are
named if all exchanges that it takes part in changed, nearly all that changed is in them, and no other rank fits as well.
In all-to-alls the rank with the slow link takes longest itself. Else the exchange is named, else its kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.comparison.record import ChangeKind

MIN_RATIO = 0.1
"""A transfer that changed by less is as it was."""
_MOST = 0.8
"""Share of time that counts as nearly all."""
_DOMINANT = 1.5
"""The member of an all-to-all with the slow link grows by so much more than the median of the others."""
MAX_FOUND = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Transfers that changed together."""

    kind: ChangeKind
    ranks: tuple[int, ...]
    operation: str
    role: str | None
    members: str | None
    before_ns: int
    after_ns: int
    """Summed over ranks, per step."""
    places: pl.DataFrame
    """`rank`, `place` of its operations."""


def link_changes(transfers: pl.DataFrame) -> list[Moved]:
    """What changed of transfers, largest first.

    `transfers` has `rank`, `place`, `kind`, `role`, `members` (ranks, ascending, by commas), `before_ns`, `after_ns`.
    """
    found: list[Moved] = []
    left = transfers.filter(pl.col("members").is_not_null())
    while len(found) < MAX_FOUND and not left.is_empty():
        sets = _exchanges(left)
        changed = sets.filter("is_changed")
        if changed.is_empty():
            break
        of_rank = _rank_of(sets, changed)
        best = _exchange_of(changed) if of_rank is None else of_rank
        chosen = left.join(best, on=["kind", "members"], how="semi")
        found.append(_described(chosen, sets.join(best, on=["kind", "members"], how="semi"), changed))
        left = left.join(best, on=["kind", "members"], how="anti")
    return found


def _exchanges(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per kind and set of members, with `culprits`: members whose link it can be."""
    by_rank = rows.group_by("kind", "members", "rank").agg(pl.col("before_ns", "after_ns").sum())
    ratio = (pl.col("after_ns") / pl.col("before_ns") - 1).alias("ratio")
    sums = rows.group_by("kind", "members").agg(
        pl.col("role").first(), pl.col("before_ns", "after_ns").sum(),
        (pl.col("after_ns") - pl.col("before_ns")).sum().alias("change_ns"),
    )  # fmt: skip
    culprits = {
        (kind, members): _culprits(str(kind), str(members), part.with_columns(ratio))
        for (kind, members), part in by_rank.partition_by("kind", "members", as_dict=True).items()
    }
    keys = sums.select("kind", "members").rows()
    grown = (pl.col("after_ns") - pl.col("before_ns")).abs() > MIN_RATIO * pl.col("before_ns")
    return sums.with_columns(
        pl.Series("culprits", [culprits[key] for key in keys], dtype=pl.List(pl.Int64)), grown.alias("is_changed")
    ).sort("kind", "members")


def _culprits(kind: str, members: str, by_rank: pl.DataFrame) -> list[int]:
    ranks = [int(rank) for rank in members.split(",") if rank]
    if kind != "all_to_all" or by_rank.height < 3:
        return ranks
    ordered = by_rank.sort(pl.col("ratio").abs(), descending=True)
    others = ordered["ratio"][1:].median()
    most = float(ordered["ratio"][0])
    usual = float(others) if isinstance(others, (int, float)) else 0.0
    return [int(ordered["rank"][0])] if abs(most) >= _DOMINANT * abs(usual) and abs(most) > MIN_RATIO else ranks


def _rank_of(sets: pl.DataFrame, changed: pl.DataFrame) -> pl.DataFrame | None:
    """The exchanges of the one rank whose links explain nearly all that changed; None if it is nobody, or several fit."""
    whole = float(changed["change_ns"].abs().sum())
    fits: list[int] = []
    for rank in sorted({rank for culprits in changed["culprits"] for rank in culprits}):
        own = sets.filter(pl.col("culprits").list.contains(rank))
        touched = own.filter("is_changed")
        all_own = float(touched["before_ns"].sum()) >= _MOST * float(own["before_ns"].sum())
        if all_own and float(touched["change_ns"].abs().sum()) >= _MOST * whole:
            fits.append(rank)
    if len(fits) != 1:
        return None
    own = changed.filter(pl.col("culprits").list.contains(fits[0]))
    return own.select("kind", "members", pl.lit(fits[0], pl.Int64).alias("culprit"))


def _exchange_of(changed: pl.DataFrame) -> pl.DataFrame:
    """The exchanges of the kind and dimension that changed most; one exchange alone where it is most of them."""
    kinds = changed.group_by("kind", "role").agg(pl.col("change_ns").abs().sum().alias("_size"))
    kind, role, size = kinds.sort("_size", "kind", descending=[True, False]).row(0)
    own = changed.filter((pl.col("kind") == kind) & pl.col("role").eq_missing(pl.lit(role, pl.String)))
    largest = own.sort(pl.col("change_ns").abs(), "members", descending=[True, False]).head(1)
    one = float(largest["change_ns"].abs().sum()) >= _MOST * float(size)
    return (largest if one else own).select("kind", "members", pl.lit(None, pl.Int64).alias("culprit"))


def _described(rows: pl.DataFrame, sets: pl.DataFrame, changed: pl.DataFrame) -> Moved:
    culprits = _named(sets, changed)
    members = sets["members"].unique().to_list()
    ends = [int(rank) for rank in members[0].split(",")] if len(members) == 1 else []
    roles = sets["role"].drop_nulls().unique().to_list()
    return Moved(
        kind="link" if culprits or (len(ends) == 2 and rows["kind"][0] == "send_recv") else "communication",
        ranks=tuple(culprits or ends),
        operation=" and ".join(sorted(sets["kind"].unique())),
        role=str(roles[0]) if len(roles) == 1 else None,
        members=members[0] if len(members) == 1 else None,
        before_ns=int(rows["before_ns"].sum()),
        after_ns=int(rows["after_ns"].sum()),
        places=rows.select("rank", "place"),
    )


def _named(sets: pl.DataFrame, changed: pl.DataFrame) -> list[int]:
    """The rank whose links they are: in all of them, where there are several or an all-to-all tells it."""
    several: list[set[int]] = [set(culprits) for culprits in sets["culprits"]]
    common = several[0].intersection(*several[1:])
    is_shared = len(common) == 1 and sets.height == len(set(_keys(sets)) & set(_keys(changed)))
    return sorted(common) if is_shared else []


def _keys(rows: pl.DataFrame) -> Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]:
    return rows.select("kind", "members").rows()
