"""Lists of the review as tables: one row for each object, one column for each field that is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.page.parts import Grid
from reports.page.text import Unit, quantity, records, safe_text

Column = tuple[str, str, Unit | None]
"""Heading, field, and the unit it is written with (None: as text)."""
Columns = tuple[Column, ...]
MAX_ROWS = 10
"""Lists come largest first: more rows than this tell a reader nothing new."""
NOTHING = "–"


def record_grid(
    review: Mapping[str, Any],
    path: Sequence[str],
    columns: Columns,
    *,
    title: str,
    note: str = "",
    csv: str = "",
    half: bool = False,
    limit: int = MAX_ROWS,
) -> Grid | None:
    """The list at `path` as a table of at most `limit` rows; None where the list is missing or empty."""
    found = records(review, *path)
    if not found:
        return None
    cut = f"{len(found) - limit} further rows are in review.json." if len(found) > limit else ""
    return Grid(
        id="-".join((*path, "grid")),
        title=title,
        columns=tuple(heading for heading, _, _ in columns),
        rows=tuple(tuple(_cell(entry.get(key), unit) for _, key, unit in columns) for entry in found[:limit]),
        numeric=frozenset(i for i, (_, _, unit) in enumerate(columns) if unit is not None),
        note=" ".join(part for part in (note, cut) if part),
        csv=csv,
        half=half,
    )


def _cell(value: object, unit: Unit | None) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else ""
    return safe_text(value, 200).replace("_", " ") if unit is None else quantity(value, unit)
