"""Ranks that events tell, where `distributedInfo` does not."""

from __future__ import annotations

import polars as pl

_GROUP_RANKS = r'"Process Group Ranks"\s*:\s*"?\[([\d, ]+)\]'
_MEMBER = r'"Rank"\s*:\s*"?(\d+)'
_OWN_RANK = r'"(?:pp_rank|global_rank)"\s*:\s*(\d{1,9})\s*[,}]'
_SAMPLE = 256


class EventRanks:
    """Collects the ranks that events tell, by process: a pipeline or global rank, or a member's place in its group."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, set[int]] = {}

    def add(self, frame: pl.DataFrame) -> None:
        """Look at a frame of `ROW_SCHEMA`."""
        self._own(frame)
        if not self._found:
            self._members(frame)

    def _own(self, frame: pl.DataFrame) -> None:
        args = pl.col("args")
        stated = frame.filter(args.str.contains('_rank"', literal=True)).select(
            pl.col("process").cast(pl.String), args.str.extract(_OWN_RANK).cast(pl.Int64, strict=False).alias("rank")
        )
        for process, rank in stated.drop_nulls().unique().iter_rows():
            self._found.setdefault(process, set()).add(rank)

    def _members(self, frame: pl.DataFrame) -> None:
        args = pl.col("args")
        stated = frame.filter(
            (pl.col("name") == "record_param_comms") & args.str.contains('"Process Group Ranks"', literal=True)
        ).head(_SAMPLE)
        rows = stated.select(
            pl.col("process").cast(pl.String),
            args.str.extract(_GROUP_RANKS).alias("group"),
            args.str.extract(_MEMBER).alias("place"),
        )
        for process, group, place in rows.drop_nulls().unique().iter_rows():
            members = [int(rank) for rank in group.split(",") if rank.strip()]
            if len(members) > 1 and int(place) < len(members):
                self._found.setdefault(process, set()).add(members[int(place)])

    def found(self) -> dict[str, int]:
        """Rank by process, where every process tells one rank; nothing where one contradicts itself."""
        if any(len(ranks) != 1 for ranks in self._found.values()):
            return {}
        return {process: next(iter(ranks)) for process, ranks in sorted(self._found.items())}
