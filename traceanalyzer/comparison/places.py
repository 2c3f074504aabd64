"""Which rank of one run does the work of which rank of the other.

In worlds of one size a rank is itself, if both runs captured it and it holds the same stages in both. Else ranks are matched by
their place in the mesh: the stages they hold and their order among the captured ranks that hold them; without stages, their
position in their expert group and their order there.
"""

from __future__ import annotations

from collections import defaultdict

import polars as pl

from traceanalyzer.comparison.side import Side

Place = tuple[tuple[int, ...], int]


def stages_by_rank(side: Side) -> dict[int, tuple[int, ...]]:
    """Stages that each rank holds; empty if none is known."""
    actions = side.table("actions").filter(pl.col("stage").is_not_null())
    if not actions.is_empty():
        held = actions.group_by("rank").agg(pl.col("stage").unique().sort())
        return {int(rank): tuple(stages) for rank, stages in held.sort("rank").iter_rows()}
    bubble = side.review.bubble
    stages = bubble.stages if bubble is not None else []
    return {rank: tuple(each.stage) for each in stages for rank in each.ranks}


def matched_ranks(base: Side, new: Side) -> dict[int, int]:
    """Rank of the base by rank of the new run, of those that do the same work."""
    if world_size(base) == world_size(new) and (both := _in_both(base, new)):
        return {rank: rank for rank in both}
    there = {place: rank for rank, place in _places(base).items()}
    return {rank: there[place] for rank, place in _places(new).items() if place in there}


def _in_both(base: Side, new: Side) -> list[int]:
    """Ranks that both runs captured; none where ranks of a number hold other stages, or other ranks of an unknown world are here."""
    both = [rank for rank in new.ranks if rank in set(base.ranks)]
    if base.ranks == new.ranks:
        return both
    held = [stages_by_rank(side) for side in (base, new)]
    same = all(held[0][rank] == held[1][rank] for rank in both if rank in held[0] and rank in held[1])
    return both if same and world_size(new) is not None else []


def world_size(side: Side) -> int | None:
    """Ranks of the whole job; None if not known."""
    fact = side.review.job.world_size
    return fact.value if fact is not None else side.review.quality.num_ranks_expected


def _places(side: Side) -> dict[int, Place]:
    held = stages_by_rank(side)
    position = {} if held else _expert_positions(side)
    seen: defaultdict[tuple[int, ...], int] = defaultdict(int)
    places: dict[int, Place] = {}
    for rank in side.ranks:
        group = held.get(rank) or position.get(rank, ())
        places[rank] = (group, seen[group])
        seen[group] += 1
    return places


def _expert_positions(side: Side) -> dict[int, tuple[int, ...]]:
    calls = side.table("collectives").filter(pl.col("role").cast(pl.String) == "ep").select("rank", "group").unique()
    found: dict[int, tuple[int, ...]] = {}
    for rank, group in calls.sort("rank", "group").iter_rows():
        members = [int(member) for member in group.split(",")] if group else []
        if rank in members:
            found.setdefault(int(rank), (members.index(rank),))
    return found
