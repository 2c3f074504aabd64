"""Which dumps of flight recorders beside traces are of another run than these."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRun:
    """What traces say of the run that they are of."""

    job_ids: Collection[str] = ()
    """Ids that our recorder wrote into them and into `run.json`; none in traces of others."""
    world_size: int | None = None
    """Ranks of the job, where all traces say the same."""


def other_run(listed: pl.DataFrame, traced: TracedRun) -> str | None:
    """Why the dump of these rows (`DUMPS`) cannot be of the traced run; None if it can. One that names neither id nor size can."""
    for rank, job_id, description, group in listed.select("rank", "job_id", "pg_desc", "group").rows():
        size = len(group.split(",")) if group and description == "default_pg" else None
        if (why := _why(job_id, size, rank, traced)) is not None:
            return why
    return None


def _why(job_id: str | None, size: int | None, rank: int | None, traced: TracedRun) -> str | None:
    if job_id and traced.job_ids:  # ids decide alone
        others = ", ".join(sorted(traced.job_ids))
        return None if job_id in traced.job_ids else f"it is of run {job_id}, the traces are of {others}"
    if traced.world_size is None:
        return None
    if size is not None and size != traced.world_size:
        return f"its default group has {size} ranks, the traced job has {traced.world_size}"
    if rank is not None and rank >= traced.world_size:
        return f"it is of rank {rank}, and the traced job has {traced.world_size} ranks"
    return None
