"""How far the data can be trusted: coverage, losses, defects, validity, and what is withheld."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.page.parts import Grid, Terms
from reports.page.text import WITHHELD, at, listed, number, quantity, records, safe_text, shown, texts

MAX_DEFECTS = 100
MAX_FILES = 64


def coverage(review: Mapping[str, Any]) -> Terms | None:
    """What was found of what was expected; None without a quality record."""
    quality = at(review, "quality")
    if not isinstance(quality, Mapping):
        return None
    dropped = quality.get("events_dropped")
    reasons = dropped if isinstance(dropped, Mapping) else {}
    lost = [f"{quantity(count, 'count')} {safe_text(reason, 60)}" for reason, count in reasons.items() if count]
    residual = shown(review, "ns", "quality", "clock_residual_ns")
    basis = quality.get("clock_basis")
    return Terms(
        title="Coverage",
        entries=(
            ("Verdict", safe_text(quality.get("verdict") or "not stated", 40)),
            ("Ranks", _of(quality, "num_ranks_found", "num_ranks_expected")),
            ("Steps used", quantity(quality.get("num_steps_used"), "count")),
            ("Events kept", _of(quality, "events_kept", "events_seen")),
            ("Events dropped", ", ".join(lost) or "none"),
            ("Clocks agree within", residual + (f" ({safe_text(basis, 80)})" if basis else "")),
        ),
        half=True,
    )


def _of(quality: Mapping[str, Any], found: str, expected: str) -> str:
    return f"{quantity(quality.get(found), 'count')} of {quantity(quality.get(expected), 'count')}"


def capture_checks(review: Mapping[str, Any]) -> Grid | None:
    """Whether the capture shows what the job does when nobody looks; None without a record."""
    results = {True: "passed", False: "failed"}
    rows = tuple(
        (
            safe_text(str(entry.get("check", "")).replace("_", " "), 40),
            results.get(entry.get("passed"), "not known"),  # type: ignore[arg-type] - null is not known
            quantity(entry.get("value"), "share") if entry.get("value") is not None else "",
            quantity(entry.get("limit"), "share"),
            safe_text(entry.get("text"), 300),
        )
        for entry in records(review, "quality", "capture_checks")
    )
    note = safe_text(at(review, "quality", "capture_sentence"))
    columns = ("check", "result", "measured", "at most", "what was found")
    title = "Is the capture representative?"
    numeric = frozenset({2, 3})
    return Grid(id="capture", title=title, columns=columns, rows=rows, numeric=numeric, note=note) if rows else None


def validity(review: Mapping[str, Any]) -> Terms | None:
    """Whether the machine disturbed the measurement; None without a record."""
    if not isinstance(at(review, "validity"), Mapping):
        return None
    reasons = texts(review, "validity", "reasons")
    switches = number(at(review, "validity", "involuntary_switches_per_second"))
    return Terms(
        title="Was the timeline disturbed?",
        entries=(
            ("Verdict", safe_text(at(review, "validity", "verdict") or "unknown", 40)),
            ("Time under CPU pressure", shown(review, "share", "validity", "cpu_pressure_share")),
            (
                "Involuntary switches",
                shown(review, "number", "validity", "involuntary_switches_per_second")
                + (" per second" if switches is not None else ""),
            ),
            ("Spread of equal actions", shown(review, "share", "validity", "action_spread")),
            *(("Because", reason) for reason in reasons),
        ),
        half=True,
    )


def defects(review: Mapping[str, Any]) -> Grid | None:
    """Problems of the data, as the reader reported them; None without one."""
    found = records(review, "quality", "defects")
    if not found:
        return None
    cut = len(found) - MAX_DEFECTS
    return Grid(
        id="defects",
        title="Defects of the data",
        columns=("severity", "code", "where", "what", "done", "affects", "remedy"),
        rows=tuple(_defect(entry) for entry in found[:MAX_DEFECTS]),
        note=f"{cut} further defects are in review.json." if cut > 0 else "",
    )


def _defect(entry: Mapping[str, Any]) -> tuple[str, ...]:
    said = {key: safe_text(value, 300) for key, value in entry.items()}
    rank = f"rank {said['rank']}" if said.get("rank") else ""
    first, last = said.get("byte_from", ""), said.get("byte_to", "")
    place = f"bytes {first} to {last}" if first else ""
    return (
        said.get("severity", ""),
        said.get("code", ""),
        ", ".join(part for part in (said.get("file", ""), rank, place) if part),
        said.get("message", ""),
        said.get("action", ""),
        safe_text(listed(entry, "affects")),
        said.get("hint", ""),
    )


def clock_effects(review: Mapping[str, Any]) -> Grid | None:
    """How far the clocks' uncertainty reaches; None where no figure compares ranks."""
    rows = tuple(
        (
            safe_text(entry.get("metric"), 80),
            quantity(entry.get("value_ms"), "ms"),
            "not measured" if entry.get("uncertainty_ms") is None else quantity(entry.get("uncertainty_ms"), "ms"),
            WITHHELD if entry.get("withheld") else "given",
        )
        for entry in records(review, "quality", "clock_effects")
    )
    columns = ("metric", "over all ranks and steps", "clocks, ±", "result")
    title = "What the clocks leave uncertain"
    return (
        Grid(id="clock-effects", title=title, columns=columns, rows=rows, numeric=frozenset({1, 2})) if rows else None
    )


def withheld(review: Mapping[str, Any]) -> Grid | None:
    """Metrics without a value and why; None where nothing is withheld."""
    rows = tuple(
        (safe_text(entry.get("metric", ""), 80), safe_text(entry.get("reason", "")))
        for entry in records(review, "quality", "withheld")
    )
    return Grid(id="withheld", title="Withheld", columns=("metric", "reason"), rows=rows) if rows else None


def source_files(review: Mapping[str, Any]) -> Grid | None:
    """The trace files behind the review."""
    files = records(review, "files")
    if not files:
        return None
    cut = len(files) - MAX_FILES
    return Grid(
        id="files",
        title=f"{quantity(len(files), 'count')} trace files",
        columns=("rank", "file"),
        rows=tuple(
            tuple(safe_text(entry.get(key), 200) for key in ("rank", "file", "sha256")) for entry in files[:MAX_FILES]
        ),
        note=f"{cut} further files are in review.json." if cut > 0 else "",
        folded=True,
    )
