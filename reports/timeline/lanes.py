"""Which ranks have a lane of their own, and in which groups a reader may look at them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

MAX_LANES = 64
"""Lanes of one view, and captured ranks up to which every rank has one: more lanes would be thinner than a line of text is high."""
MAX_EMBEDDED = 96
"""Ranks with a lane in any view, in a larger job."""
MAX_GROUPS = 80
PLACES = {"rank": pl.Int32, "stage": pl.Int32, "pipeline": pl.Int32, "busy_ns": pl.Int64}
"""One row per captured rank: its first stage, its pipeline (both null if unknown) and how long it computes."""


@dataclass(frozen=True, slots=True)
class Group:
    """A view: its name and its ranks from top to bottom."""

    name: str
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lanes:
    """The ranks that are drawn."""

    ranks: tuple[int, ...]
    groups: tuple[Group, ...]
    """The first one is what the page opens with."""
    num_ranks: int
    """Captured ranks, drawn or not."""

    @property
    def left_out(self) -> str:
        """What is not drawn, as a sentence; empty if every rank is."""
        if len(self.ranks) == self.num_ranks:
            return ""
        return (
            f"{len(self.ranks)} of {self.num_ranks:,} ranks have lanes: of each stage the most ordinary and the busiest one, "
            "and what findings name with its pipeline and its replicas; the busy map above holds all of them."
        )


def choose(places: pl.DataFrame, named: Collection[int]) -> Lanes:
    """Lanes of the ranks in `places`; of more than `MAX_LANES` the ordinary and the busiest rank of every stage and the `named` ones."""
    known = places.sort("stage", "pipeline", "rank", nulls_last=True)
    ranks = known["rank"].to_list()
    if len(ranks) <= MAX_LANES:
        whole = Group("all ranks" if len(ranks) > 1 else f"rank {ranks[0]}", tuple(sorted(ranks)))
        return Lanes(tuple(sorted(ranks)), (whole, *_parts(known, whole.ranks)), len(ranks))
    culprits = [rank for rank in named if rank in set(ranks)][: MAX_LANES // 4]
    typical = _of_each_stage(known, MAX_LANES - len(culprits))
    first = Group(
        "of each stage the most ordinary and the busiest rank", _in_order(ranks, {*typical, *culprits})[:MAX_LANES]
    )
    drawn = list(first.ranks)
    for rank in culprits:
        near = [*_same(known, rank, "pipeline"), *_same(known, rank, "stage")]
        drawn += [each for each in near if each not in drawn][: max(0, MAX_EMBEDDED - len(drawn))]
    kept = _in_order(ranks, set(drawn))
    return Lanes(kept, (first, *_parts(known.filter(pl.col("rank").is_in(list(kept))), first.ranks)), len(ranks))


def _in_order(ranks: Sequence[int], kept: set[int]) -> tuple[int, ...]:
    return tuple(rank for rank in ranks if rank in kept)


def _of_each_stage(known: pl.DataFrame, limit: int) -> list[int]:
    """Of every stage the rank of median and the one of most computation; every n-th stage if there are too many."""
    stages = [frame.sort("busy_ns", "rank") for frame in known.partition_by("stage", maintain_order=True)]
    every = max(1, -(-2 * len(stages) // max(1, limit)))
    if len(stages) == 1:  # replicas of one stage: spread over how long they compute
        order = stages[0]["rank"].to_list()
        return order[:: max(1, -(-len(order) // limit))]
    found = [frame["rank"][place] for frame in stages[::every] for place in ((len(frame) - 1) // 2, len(frame) - 1)]
    return list(dict.fromkeys(found))


def _same(known: pl.DataFrame, rank: int, column: str) -> list[int]:
    """Ranks of the same pipeline or stage, those nearest in number first."""
    of = known.filter(pl.col("rank") == rank)[column][0]
    found = [] if of is None else known.filter(pl.col(column) == of)["rank"].to_list()
    return sorted(found, key=lambda each: abs(each - rank))[: MAX_LANES // 2]


def _parts(known: pl.DataFrame, whole: tuple[int, ...]) -> Iterable[Group]:
    """Every pipeline and every stage with more than one drawn rank, if it is not the whole."""
    for column in ("pipeline", "stage"):
        numbers = known[column].drop_nulls().unique().sort().to_list()
        for number in numbers[: MAX_GROUPS // 2] if len(numbers) > 1 else []:
            ranks = tuple(known.filter(pl.col(column) == number)["rank"].to_list()[:MAX_LANES])
            if len(ranks) > 1 and ranks != whole:
                name = f"pipeline {number}" if column == "pipeline" else f"stage {number}, its replicas"
                yield Group(name, ranks)
