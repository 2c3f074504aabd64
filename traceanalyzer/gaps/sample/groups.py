"""Which ranks belong together: the pipeline, the expert group and the replicas of every captured rank."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.pipeline.actions import pipelines
from traceanalyzer.job import Job
from traceanalyzer.layout import Layout
from traceanalyzer.tables import Tables
from traceanalyzer.tables.groups.listed import described_roles, process_groups

Members = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RankGroups:
    """The groups of one rank, each with the rank itself; empty if unknown or of one rank."""

    pipeline: Members = ()
    """First stage first."""
    experts: Members = ()
    replicas: Members = ()
    """Ranks that hold the same stage and tensor slice."""
    sharing: Members = ()
    """The largest group of any kind whose collectives the rank takes part in."""


def rank_groups(tables: Tables, job: Job | None) -> dict[int, RankGroups]:
    """Groups by captured rank: from the job's layout, else from process groups and the messages sent over them."""
    present = sorted(tables.ranks["rank"].unique())
    if job is not None and job.layout is not None:
        return {rank: _of_layout(job.layout, rank) for rank in present}
    found: dict[int, dict[str, Members]] = {rank: {} for rank in present}
    for rank, role, group in _recorded(tables).iter_rows():
        members = tuple(int(member) for member in group.split(","))
        if rank in found and rank in members and len(members) > len(found[rank].get(role, ())):
            found[rank][role] = members
    shared: dict[int, Members] = dict.fromkeys(present, ())
    used = tables.collectives.select("rank", "group").drop_nulls().unique()
    for rank, group in used.sort("group").iter_rows():
        members = tuple(int(member) for member in group.split(",") if member)
        shared[rank] = max(shared.get(rank, ()), members, key=len)
    if not any("pp" in of for of in found.values()):
        for rank, members in _labelled_pipelines(tables).items():
            found[rank]["pp"] = members
    return {
        rank: RankGroups(
            pipeline=of.get("pp", ()),
            experts=of.get("ep", ()),
            replicas=of.get("dp", ()),
            sharing=shared[rank],
        )
        for rank, of in found.items()
    }


def _labelled_pipelines(tables: Tables) -> dict[int, Members]:
    """Whole pipelines that nothing but labelled actions shows, by rank, first stage first."""
    known = pipelines(tables, None).filter(pl.col("is_whole").fill_null(value=False))
    first = tables.actions.group_by("rank").agg(pl.col("stage").min())
    held = known.join(first, on="rank").sort("pipeline", "stage", "rank")
    distinct = pl.col("stage").n_unique().over("pipeline") == pl.len().over("pipeline")  # replicas hold one stage alike
    rows = held.filter(distinct).group_by("pipeline", maintain_order=True).agg("rank")
    return {rank: tuple(members) for _, members in rows.iter_rows() if len(members) > 1 for rank in members}


def _of_layout(layout: Layout, rank: int) -> RankGroups:
    groups = (layout.pipeline(rank), layout.expert_group(rank), layout.replicas(rank))
    return RankGroups(*(members if len(members) > 1 else () for members in groups))


def _recorded(tables: Tables) -> pl.DataFrame:
    """`rank`, `role`, `group` as process groups are described, then as they are used."""
    listed = process_groups(tables.ranks)
    described = listed.join(described_roles(listed), on=["group", "pg_name"])
    parts = [
        frame.select("rank", pl.col("role").cast(pl.String), "group")
        .drop_nulls()
        .unique()
        .sort("rank", "role", "group")
        for frame in (described, tables.p2p, tables.collectives)
    ]
    return pl.concat(parts).unique(maintain_order=True)
