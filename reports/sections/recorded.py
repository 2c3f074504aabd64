"""What the communication library itself recorded: who is missing, what hangs, who came last, how fast it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.page.parts import Grid, Part
from reports.page.text import WITHHELD, listed, quantity, records, safe_text


def recorded(review: Mapping[str, Any]) -> list[Part | None]:
    """Tables of flight-recorder dumps and NCCL Inspector records; all None where there are none."""
    return [_sources(review), _missing(review), _unfinished(review), _late(review), _operations(review)]


def _sources(review: Mapping[str, Any]) -> Grid | None:
    rows = tuple(
        (
            safe_text(entry.get("source"), 40).replace("_", " "),
            safe_text(listed(entry, "ranks"), 120),
            quantity(entry.get("num_records"), "count"),
            "no traces" if entry.get("num_joined") is None else quantity(entry.get("num_joined"), "count"),
        )
        for entry in records(review, "recorded", "sources")
    )
    columns = ("source", "ranks", "records", "collectives of traces it tells of")
    return _grid("recorded-sources", "Records", columns, rows, {2, 3})


def _missing(review: Mapping[str, Any]) -> Grid | None:
    rows = [
        (
            safe_text(entry.get("operation"), 60),
            safe_text(entry.get("group"), 60),
            quantity(entry.get("sequence"), "count"),
            safe_text(listed(entry, "called"), 120),
            safe_text(listed(entry, "missing"), 120),
        )
        for entry in records(review, "recorded", "missing")
    ]
    rows += [
        (
            "not the same on all",
            safe_text(entry.get("group"), 60),
            quantity(entry.get("sequence"), "count"),
            safe_text(listed(entry, "calls"), 300),
            "",
        )
        for entry in records(review, "recorded", "mismatched")
    ]
    columns = ("collective", "group", "number", "called by", "not called by")
    return _grid("recorded-missing", "Collectives that not all members called", columns, tuple(rows), {2})


def _unfinished(review: Mapping[str, Any]) -> Grid | None:
    rows = tuple(
        (
            safe_text(entry.get("rank"), 20),
            safe_text(entry.get("operation"), 60),
            safe_text(entry.get("group"), 60),
            quantity(entry.get("sequence"), "count"),
            safe_text(entry.get("state"), 40),
        )
        for entry in records(review, "recorded", "unfinished")
    )
    columns = ("rank", "call", "group", "number", "state")
    return _grid("recorded-unfinished", "Calls not known to have ended", columns, rows, {0, 3})


def _late(review: Mapping[str, Any]) -> Grid | None:
    rows = tuple(
        (
            safe_text(entry.get("rank"), 20),
            safe_text(entry.get("source"), 40).replace("_", " "),
            quantity(entry.get("wait_ms"), "ms"),
            quantity(entry.get("num_collectives"), "count"),
        )
        for entry in records(review, "recorded", "late")
    )
    return _grid(
        "recorded-late",
        "Waited for, by durations",
        ("rank", "by", "wait of the others", "collectives"),
        rows,
        {0, 2, 3},
    )


def _operations(review: Mapping[str, Any]) -> Grid | None:
    rows = tuple(
        (
            safe_text(entry.get("kind"), 40),
            quantity(entry.get("bytes"), "bytes"),
            quantity(entry.get("num_members"), "count"),
            quantity(entry.get("num_operations"), "count"),
            _milliseconds(entry.get("median_us")),
            "none defined"
            if entry.get("bus_bandwidth_gbps") is None
            else f"{quantity(entry['bus_bandwidth_gbps'], 'number')} GB/s",
            quantity(entry.get("wait_share"), "share"),
        )
        for entry in records(review, "recorded", "operations")
    )
    columns = ("collective", "bytes", "ranks", "times", "shortest, median", "bus bandwidth", "waiting")
    return _grid("recorded-operations", "Speed by size", columns, rows, {1, 2, 3, 4, 5, 6})


def _milliseconds(microseconds: object) -> str:
    return quantity(microseconds / 1e3, "ms") if isinstance(microseconds, int | float) else WITHHELD


def _grid(
    grid_id: str, title: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...], numeric: set[int]
) -> Grid | None:
    return Grid(id=grid_id, title=title, columns=columns, rows=rows, numeric=frozenset(numeric)) if rows else None
