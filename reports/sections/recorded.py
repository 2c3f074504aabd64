"""What the communication library itself recorded: who is missing, what hangs, who came last, how fast it was."""

from __future__ import annotations

from reports.page.grids import grid
from reports.page.model import Grid, Section
from reports.sections.material import Material
from traceanalyzer.review import Recorded, RecordedOperation
from traceanalyzer.review.words import digits, spaced

_FEW = 8


def section(material: Material) -> Section | None:
    """Flight-recorder dumps and NCCL Inspector records; None if there are none."""
    found = material.review.recorded
    if found is None:
        return None
    return material.section(
        "recorded",
        "Recorded by the communication library",
        [
            _sources(found),
            _apart(found),
            _missing(found),
            _mismatched(found),
            _unfinished(found),
            _late(found),
            _operations(found),
        ],
        absent="The library recorded nothing.",
        lead="What the flight recorder and NCCL Inspector wrote, joined across ranks.",
    )


def _sources(found: Recorded) -> Grid | None:
    return grid(
        "recorded-sources",
        "Records",
        found.sources,
        [
            ("source", lambda s: spaced(s.source), None),
            ("ranks", lambda s: s.ranks, None),
            ("records", lambda s: s.num_records, "count"),
            ("collectives of the traces joined", lambda s: s.num_joined, "count"),
        ],
    )


def _apart(found: Recorded) -> Grid | None:
    return grid(
        "recorded-apart",
        "Where the calls of ranks come apart",
        found.apart,
        [
            ("group", lambda a: a.group, None),
            ("collective", lambda a: a.operation, None),
            ("number", lambda a: a.sequence, "count"),
            ("stands out", lambda a: a.ranks, None),
            ("what", lambda a: a.said, None),
        ],
        limit=20,
        few=_FEW,
    )


def _missing(found: Recorded) -> Grid | None:
    return grid(
        "recorded-missing",
        f"{found.num_missing:,} collectives that not all members called",
        found.missing,
        [
            ("collective", lambda m: m.operation, None),
            ("group", lambda m: m.group, None),
            ("number", lambda m: m.sequence, "count"),
            ("not called by rank", lambda m: m.missing, None),
            ("called by rank", lambda m: m.called, None),
        ],
        limit=20,
        few=_FEW,
    )


def _mismatched(found: Recorded) -> Grid | None:
    return grid(
        "recorded-mismatched",
        "Collectives that differ between members",
        found.mismatched,
        [
            ("group", lambda m: m.group, None),
            ("number", lambda m: m.sequence, "count"),
            ("calls", lambda m: m.calls, None),
        ],
        limit=20,
        few=_FEW,
    )


def _unfinished(found: Recorded) -> Grid | None:
    return grid(
        "recorded-unfinished",
        f"{found.num_unfinished:,} calls not known to have ended",
        found.unfinished,
        [
            ("rank", lambda u: u.rank, None),
            ("call", lambda u: u.operation, None),
            ("group", lambda u: u.group, None),
            ("number", lambda u: u.sequence, "count"),
            ("state", lambda u: u.state, None),
        ],
        limit=20,
        few=_FEW,
    )


def _late(found: Recorded) -> Grid | None:
    return grid(
        "recorded-late",
        "Ranks that others wait for, by recorded durations",
        found.late,
        [
            ("rank", lambda r: r.rank, None),
            ("source", lambda r: spaced(r.source), None),
            ("others wait", lambda r: r.wait_ms, "ms"),
            ("collectives", lambda r: r.num_collectives, "count"),
        ],
        few=_FEW,
    )


def _operations(found: Recorded) -> Grid | None:
    return grid(
        "recorded-operations",
        "Speed by size",
        found.operations,
        [
            ("collective", lambda o: o.kind, None),
            ("size", lambda o: o.bytes, "bytes"),
            ("ranks", lambda o: o.num_members, "count"),
            ("times", lambda o: o.num_operations, "count"),
            ("shortest member, median", lambda o: o.median_us, "us"),
            ("bus bandwidth", _bandwidth, "number"),
            ("waiting", lambda o: o.wait_share, "share"),
        ],
        limit=20,
        few=_FEW,
    )


def _bandwidth(operation: RecordedOperation) -> str | None:
    rate = operation.bus_bandwidth_gbps
    return None if rate is None else f"{digits(rate)} GB/s"
