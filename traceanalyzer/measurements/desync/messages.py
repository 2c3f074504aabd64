"""Messages between two ranks of which one end is missing or of another size, from flight-recorder dumps.

Only messages that have not ended are compared: the ends of one message are unfinished together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.desync.signatures import not_ended

_ENDS = re.compile(r"(send|recv) (\d+)(?:->|<-)(\d+)")
_TENSOR = re.compile(r"(\w*)\[([\d×]*)\]")


@dataclass(frozen=True, slots=True)
class MessageApart:
    """A message of which the two ends do not fit."""

    kind: str
    """not_received, not_sent, both_send, both_receive, size, no_dump; nobody can be named: left_out, not_reached; under_way"""
    group: str
    source: int
    target: int
    size: str = ""
    """What the source sends, where known."""
    expected: str = ""
    """What the target expects."""
    gone: tuple[int, ...] = ()
    """Ends without a dump."""


@dataclass(frozen=True, slots=True)
class _End:
    ended: bool
    tensors: str
    created_ns: int
    completed_ns: int | None


def messages_apart(flight: pl.DataFrame, dumps: pl.DataFrame, *, all_dumps: bool = True) -> list[MessageApart]:
    """Messages whose ends do not fit, by group and pair of ranks. `flight` is `FLIGHT`, `dumps` is `DUMPS`."""
    present = set(dumps["rank"].drop_nulls().to_list())
    first = flight.drop_nulls("rank").group_by("rank").agg(pl.col("record").min())
    whole = {rank for rank, record in first.iter_rows() if record is not None and record <= 1}
    found: list[MessageApart] = []
    for (group, source, target), ends in sorted(_ends(flight).items()):
        complete = source in whole and target in whole
        apart = _apart(ends["send"], ends["recv"], complete=complete)
        if apart is None:
            continue
        gone = tuple(rank for rank in (source, target) if rank not in present)
        if gone and apart[0] != "size":
            apart = ("no_dump" if all_dumps else "left_out", "", "")
        found.append(MessageApart(apart[0], group, source, target, *apart[1:], gone=gone))
    finished = [apart for apart in found if apart.kind != "under_way"]
    return _crossed(finished) if finished else found[:1]


def _ends(flight: pl.DataFrame) -> dict[tuple[str, int, int], dict[str, list[_End]]]:
    """Ends of messages by group, source and target (ranks of the job), in the order they were called."""
    found: dict[tuple[str, int, int], dict[str, list[_End]]] = {}
    messages = flight.drop_nulls(["rank", "name"]).filter(pl.col("name").str.contains(r"(send|recv) \d+"))
    rows = messages.with_columns(not_ended().alias("open"))
    for row in rows.sort("record").iter_rows(named=True):
        match = _ENDS.search(row["name"])
        peer = _peer(row["group"], int(match[3])) if match and len(match[3]) < 9 else None
        if match is None or peer is None:
            continue
        sends = match[1] == "send"
        source, target = (row["rank"], peer) if sends else (peer, row["rank"])
        tensors = (row["inputs"] if sends else row["outputs"]) or ""
        end = _End(not row["open"], tensors, row["created_ns"] or 0, row["completed_ns"])
        pair = found.setdefault((str(row["pg_name"]), source, target), {"send": [], "recv": []})
        pair[match[1]].append(end)
    return found


def _peer(group: str | None, local: int) -> int | None:
    """Rank in the job of a position in a group."""
    members = group.split(",") if group is not None else []
    return int(members[local]) if local < len(members) else None


def _apart(sends: Sequence[_End], receives: Sequence[_End], *, complete: bool) -> tuple[str, str, str] | None:
    """How the ends of a pair's messages do not fit: kind, what is sent, what is expected."""
    sending, receiving = [e for e in sends if not e.ended], [e for e in receives if not e.ended]
    for sent, received in zip(sending, receiving, strict=False):
        if sent.tensors and received.tensors and _flat(sent.tensors) != _flat(received.tensors):
            return "size", sent.tensors, received.tensors
    if len(sending) == len(receiving):
        return ("under_way", sending[0].tensors, "") if sending else None
    longer, shorter, kind = (
        (sends, receives, "not_received") if len(sending) > len(receiving) else (receives, sends, "not_sent")
    )
    lonely = [e for e in longer if not e.ended][min(len(sending), len(receiving))]
    if not _older(lonely, shorter, longer, complete=complete):
        return (kind, lonely.tensors, "") if kind == "not_received" else (kind, "", lonely.tensors)
    seen_to_end = complete or any(e.completed_ns is not None and e.completed_ns > lonely.created_ns for e in shorter)
    return None if seen_to_end else ("not_reached", "", "")


def _older(end: _End, others: Sequence[_End], own: Sequence[_End], *, complete: bool) -> bool:
    """Whether the other end may have ended after this end's dump was written."""
    if complete:
        return len(others) >= len(own)
    return any(e.ended and (e.completed_ns is None or e.completed_ns > end.created_ns) for e in others)


def _flat(tensors: str) -> tuple[tuple[str, int], ...]:
    """Types and numbers of elements."""
    flat: list[tuple[str, int]] = []
    for kind, shape in _TENSOR.findall(tensors):
        count = 1
        for extent in filter(None, shape.split("×")):
            count *= int(extent)
        flat.append((kind, count))
    return tuple(flat)


def _crossed(found: list[MessageApart]) -> list[MessageApart]:
    """Two ranks that both send to each other, or both receive, are one row."""
    kinds = {"not_received": "both_send", "not_sent": "both_receive"}
    known = {(m.kind, m.group, m.source, m.target) for m in found}
    rows: list[MessageApart] = []
    for message in found:
        if message.kind in kinds and (message.kind, message.group, message.target, message.source) in known:
            if message.source < message.target:
                rows.append(MessageApart(kinds[message.kind], message.group, message.source, message.target))
        else:
            rows.append(message)
    return rows
