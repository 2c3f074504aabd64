"""Messages → the pipelines that they really run through.

Loops that send over the default group name no pipeline: the group is the whole job, however many pipelines it holds. The
ranks that exchange messages with each other are one, in the order in which forwards pass through it: the first place is
the rank whose step begins with a send, and every rank's first send of a step goes to the place after it.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl


def with_own_pipelines(messages: pl.DataFrame) -> pl.DataFrame:
    """`P2P` whose messages on a group that only their use shows to be a pipeline's (`role_source` use) name their own.

    A set of ranks with one that was not captured stays as it is: what that one exchanged with further ranks is unknown.
    """
    used = (pl.col("role") == "pp") & (pl.col("role_source") == "use") & pl.col("peer").is_not_null()
    found = messages.filter(used.fill_null(value=False))
    if found.is_empty():
        return messages
    edges = found.select("rank", "peer").unique().sort("rank", "peer")
    captured = set(messages["rank"].unique())
    first = _first_peers(found)
    rows: list[tuple[int, str]] = []
    for members in _components(list(edges.iter_rows())):
        if members <= captured:
            text = ",".join(map(str, _in_order(members, first)))
            rows += [(rank, text) for rank in members]
    own = pl.DataFrame(rows, schema={"rank": pl.Int32, "_own": pl.String}, orient="row")
    joined = messages.join(own, on="rank", how="left", maintain_order="left")
    group = pl.when(used).then(pl.coalesce("_own", "group")).otherwise("group").alias("group")
    return joined.with_columns(group).drop("_own").select(messages.columns)


def _components(edges: list[tuple[int, int]]) -> list[set[int]]:
    """Sets of ranks that messages join, directly or through others."""
    found: list[set[int]] = []
    for rank, peer in edges:
        joined = [each for each in found if rank in each or peer in each]
        found = [each for each in found if each not in joined]
        found.append({rank, peer}.union(*joined))
    return sorted(found, key=min)


def _first_peers(messages: pl.DataFrame) -> dict[int, tuple[bool, int | None]]:
    """By rank, in its first step: whether a send comes before any receive, and where its first send goes."""
    first = messages.filter(pl.col("step").is_not_null())
    first = first.filter(pl.col("step") == pl.col("step").min().over("rank")).sort("rank", "start_ns")
    sends = pl.col("direction") == "send"
    rows = first.group_by("rank").agg(sends.first().alias("begins"), pl.col("peer").filter(sends).first().alias("to"))
    return {rank: (begins, to) for rank, begins, to in rows.iter_rows()}


def _in_order(members: set[int], first: Mapping[int, tuple[bool, int | None]]) -> list[int]:
    """The ranks along their pipeline; in ascending order where messages show no line from one first place."""
    begins = [rank for rank in sorted(members) if first.get(rank, (False, None))[0]]
    if len(begins) != 1:
        return sorted(members)
    line = [begins[0]]
    while len(line) < len(members):
        following = first.get(line[-1], (False, None))[1]
        if following is None or following in line:
            return sorted(members)
        line.append(following)
    return line
