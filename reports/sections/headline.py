"""The first screen: title line, verdict, tiles and findings, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.page.parts import Finding, Tile
from reports.page.text import SPACE, WITHHELD, at, number, quantity, records, safe_text, texts, withheld_reason

REQUIRED_TILES = {
    "bubble": "Pipeline bubble",
    "all_to_all": "All-to-all imbalance",
    "mfu": "MFU",
}
"""Always on the first screen, in this order; withheld with the reason where they do not apply."""
_STATUSES = frozenset({"good", "bad", "neutral", "withheld"})
_NS_PER_MS = 1e6


def declared(review: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - a job field is JSON
    """The value of a job field, whether it is plain or `{value, source, confidence}`."""
    field = at(review, "job", name)
    return field.get("value") if isinstance(field, Mapping) and "value" in field else field


def job_line(review: Mapping[str, Any]) -> str:
    """The job in a few words: schedule, stages, microbatches, degrees, device."""
    words = [safe_text(declared(review, "schedule"), 60)] if declared(review, "schedule") else []
    for name, noun in (("num_stages", "stages"), ("num_microbatches", "microbatches")):
        count = number(declared(review, name))
        if count is not None and count > 1:
            words.append(f"{count:.0f} {noun}")
    layout = declared(review, "layout")
    if isinstance(layout, Mapping):
        degrees = [
            f"{dim.upper()}{SPACE}{layout[dim]}" for dim in ("pp", "dp", "tp", "ep") if _is_parallel(layout, dim)
        ]
        words += [safe_text(" × ".join(degrees), 80)] if degrees else []
    hardware = declared(review, "hardware")
    device = hardware.get("device") if isinstance(hardware, Mapping) else hardware
    words += [
        safe_text(text, 80) for text in (declared(review, "compute_mode"), declared(review, "backend"), device) if text
    ]
    steps = number(at(review, "step", "duration_ms", "num_steps"))
    words += [f"{steps:.0f} steps measured"] if steps else []
    return " · ".join(words)


def _is_parallel(layout: Mapping[str, Any], dimension: str) -> bool:
    return (number(layout.get(dimension)) or 1) > 1


def sentences(review: Mapping[str, Any]) -> list[str]:
    """The verdict; a review without one says so."""
    return texts(review, "headline", "sentences") or ["This review states no verdict."]


def tiles(review: Mapping[str, Any]) -> list[Tile]:
    """Headline tiles, the required ones first; a missing one is withheld with its reason."""
    given = {tile.id: tile for tile in (_tile(entry, review) for entry in records(review, "headline", "tiles"))}
    required = [given.pop(name, None) or _withheld(name, title, review) for name, title in REQUIRED_TILES.items()]
    return [*required, *given.values()]


def _tile(entry: Mapping[str, Any], review: Mapping[str, Any]) -> Tile:
    said = {key: safe_text(value, 300) for key, value in entry.items() if isinstance(value, str)}
    name, status = said.get("id", ""), said.get("status", "neutral")
    value, note = said.get("value_text", ""), said.get("note", "")
    if status == WITHHELD or not value:
        return Tile(
            id=name,
            title=said.get("title") or REQUIRED_TILES.get(name, name),
            value=WITHHELD,
            theory=said.get("theory_text", ""),
            status=WITHHELD,
            note=note or withheld_reason(review, name),
            definition=said.get("definition", ""),
        )
    return Tile(
        id=name,
        title=said.get("title") or REQUIRED_TILES.get(name, name),
        value=value,
        theory=said.get("theory_text", ""),
        gap=said.get("gap_text", ""),
        status=status if status in _STATUSES else "neutral",
        note=note,
        definition=said.get("definition", ""),
    )


def _withheld(name: str, title: str, review: Mapping[str, Any]) -> Tile:
    return Tile(id=name, title=title, value=WITHHELD, status=WITHHELD, note=withheld_reason(review, name))


def findings(review: Mapping[str, Any], origin_ns: int | None) -> list[Finding]:
    """Findings, the worthiest first, passed checks last; windows in ms since `origin_ns` (the timeline's zero)."""
    return sorted(
        (_finding(entry, origin_ns) for entry in records(review, "findings")),
        key=lambda finding: finding.passed,
    )


def _finding(entry: Mapping[str, Any], origin_ns: int | None) -> Finding:
    worth = [quantity(entry.get("worth_ms"), "ms") + " per step"] if number(entry.get("worth_ms")) else []
    points = number(entry.get("worth_mfu_points"))
    worth += [f"{quantity(points, 'number')} MFU points"] if points else []
    start, end = number(entry.get("start_ns")), number(entry.get("end_ns"))
    rank = number(entry.get("rank"))
    placed = origin_ns is not None and start is not None and end is not None and end > start
    return Finding(
        id=safe_text(entry.get("id") or "", 80),
        title=safe_text(entry.get("title") or "", 200),
        passed=entry.get("passed") is True,
        worth=", ".join(worth),
        evidence=safe_text(entry.get("evidence") or ""),
        action=safe_text(entry.get("action") or ""),
        place="" if rank is None else f"rank {rank:.0f}",
        start_ms=(entry["start_ns"] - origin_ns) / _NS_PER_MS if placed else None,
        end_ms=(entry["end_ns"] - origin_ns) / _NS_PER_MS if placed else None,
    )
