"""What communication libraries recorded, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SHOWN = 8


def recorded_lines(found: Mapping[str, Any] | None) -> Iterator[str]:
    """Sources, who is missing, what hangs, who came last, bandwidths by communicator and size."""
    if found is None:
        return
    yield "Recorded by the communication library"
    for source in found["sources"]:
        joined = "" if source["num_joined"] is None else f", {source['num_joined']:,} collectives of the traces joined"
        ranks = ", ".join(map(str, source["ranks"]))
        yield f"  {source['source'].replace('_', ' ')}: {source['num_records']:,} records of ranks {ranks}{joined}"
    for call in found["missing"][:_SHOWN]:
        called, absent = (", ".join(map(str, call[key])) for key in ("called", "missing"))
        yield f"  missing: {call['operation']} number {call['sequence']} of group {call['group']}: rank {absent}; called by {called}"
    yield from _more(found["num_missing"])
    for row in found["mismatched"][:_SHOWN]:
        yield f"  not the same: number {row['sequence']} of group {row['group']}: {'; '.join(row['calls'])}"
    for call in found["unfinished"][:_SHOWN]:
        yield f"  not ended: {call['operation']} number {call['sequence']} of group {call['group']} on rank {call['rank']} ({call['state']})"
    yield from _more(found["num_unfinished"])
    for late in found["late"][:_SHOWN]:
        yield f"  {late['wait_ms']:>9.3f} ms of waiting for rank {late['rank']} at {late['num_collectives']} collectives (durations of {late['source'].replace('_', ' ')})"
    yield from _operations(found["operations"][:_SHOWN])


def _more(total: int) -> Iterator[str]:
    if total > _SHOWN:
        yield f"  and {total - _SHOWN:,} more"


def _operations(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        bus = "" if row["bus_bandwidth_gbps"] is None else f", {row['bus_bandwidth_gbps']:.2f} GB/s on the bus"
        yield (
            f"  {row['kind']} of {row['bytes']:,} bytes, {row['num_members']} ranks: {row['num_operations']:,} times, "
            f"{row['median_us']:,.1f} µs{bus}, {100 * row['wait_share']:.1f}% waiting"
        )
