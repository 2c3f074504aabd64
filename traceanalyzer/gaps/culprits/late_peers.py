"""Waiting inside chunks is blamed on the peer that comes last, where the comparison of peers proves who that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
from msgspec.structs import replace

from traceanalyzer.review import Bubble, Culprit, RankFault, WaiterBlame

_CAUSE = "chunk_comm"


def late_peers(faults: Sequence[RankFault]) -> dict[int, int]:
    """The rank that each rank waits for inside its chunks: a priced fault's peers wait for it.

    Ranks that are late themselves, and peers of several late ranks, are left out.
    """
    priced = [fault for fault in faults if fault.ms is not None and fault.cause != "link"]
    late = {fault.rank for fault in priced}
    found: dict[int, set[int]] = {}
    for fault in priced:
        for peer in set(fault.peers) - late:
            found.setdefault(peer, set()).add(fault.rank)
    return {peer: min(ranks) for peer, ranks in found.items() if len(ranks) == 1}


def blamed_on_peers(
    bubble: Bubble | None, late: Mapping[int, int], stages: Mapping[int, Sequence[int]]
) -> Bubble | None:
    """`bubble` with its communication inside chunks blamed on `late` peers; sums stay what they were."""
    if bubble is None or not late:
        return bubble
    culprits: dict[tuple[str, int | None], Culprit] = {}
    for each in bubble.culprits:
        who = _whom(each.cause, each.culprit, late)
        held = each.stages if who == each.culprit or who is None else list(stages.get(who, ()))
        known = culprits.get((each.cause, who))
        ms = each.ms + (known.ms if known else 0.0)
        culprits[each.cause, who] = replace(each, culprit=who, stages=held, ms=ms)
    blame: dict[tuple[int, int | None, str], WaiterBlame] = {}
    for row in bubble.blame:
        who = _whom(row.cause, row.culprit, late)
        key = (row.waiter, who, row.cause)
        blame[key] = replace(row, culprit=who, ms=row.ms + (blame[key].ms if key in blame else 0.0))
    return replace(
        bubble,
        culprits=sorted(culprits.values(), key=lambda each: -each.ms),
        blame=sorted(blame.values(), key=lambda each: -each.ms),
    )


def rows_on_peers(rows: pl.DataFrame, late: Mapping[int, int]) -> pl.DataFrame:
    """`BLAME` or `ATTRIBUTION`, likewise."""
    if not late or rows.is_empty():
        return rows
    moved = pl.when(pl.col("cause") == _CAUSE).then(pl.col("culprit").replace(dict(late))).otherwise("culprit")
    keys = [name for name in rows.columns if name != "duration_ns"]
    summed = rows.with_columns(moved.alias("culprit")).group_by(keys, maintain_order=True)
    return summed.agg(pl.col("duration_ns").sum()).select(rows.columns)


def _whom(cause: str, culprit: int | None, late: Mapping[int, int]) -> int | None:
    return late.get(culprit, culprit) if cause == _CAUSE and culprit is not None else culprit
