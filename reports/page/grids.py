"""Lists of the review as parts of a page: tables with one row for each object, and figures with their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from reports.page.model import Grid, Terms
from traceanalyzer.review.words import NOTHING, Unit, quantity

Row = TypeVar("Row")
Value = str | int | float | bool | Sequence[object] | None
Column = tuple[str, Callable[[Row], Value], Unit | None]
"""Heading, value, and the unit it is written with (None: as text)."""
MAX_ROWS = 10
"""Lists come largest first: more rows than this give a reader nothing new."""


def grid(  # noqa: PLR0913 - what a table may have
    grid_id: str,
    title: str,
    rows: Sequence[Row],
    columns: Sequence[Column[Row]],
    *,
    note: str = "",
    limit: int = MAX_ROWS,
    few: int = 6,
    csv: str = "",
    half: bool = False,
    folded: bool = False,
    source: str = "review.json",
) -> Grid | None:
    """A table of at most `limit` rows, of which a terminal shows `few`; None without rows.

    Columns in which no row has a value are left out.
    """
    if not rows:
        return None
    cells = [[_cell(value(row), unit) for row in rows[:limit]] for _, value, unit in columns]
    keys = [[_key(value(row)) for row in rows[:limit]] for _, value, _ in columns]
    shown = [i for i, column in enumerate(cells) if any(cell not in ("", NOTHING) for cell in column)]
    return Grid(
        id=grid_id,
        title=title,
        columns=tuple(columns[i][0] for i in shown),
        rows=tuple(zip(*(cells[i] for i in shown), strict=True)),
        numeric=frozenset(place for place, i in enumerate(shown) if columns[i][2] is not None),
        keys=tuple(zip(*(keys[i] for i in shown), strict=True)),
        units=tuple(_UNITS.get(columns[i][2] or "number", "") for i in shown),
        note=note,
        num_rows=len(rows),
        all_rows=csv or source,
        csv=csv,
        half=half,
        folded=folded,
        few=few,
    )


def _cell(value: Value, unit: Unit | None) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int | float):
        return str(value) if unit is None else quantity(value, unit)
    return value if isinstance(value, str) else ", ".join(map(str, value))


def _key(value: Value) -> float | None:
    """The number of a cell that holds one."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


_UNITS: dict[Unit, str] = {
    "ms": "ms",
    "us": "us",
    "ns": "ns",
    "bytes": "bytes",
    "flops": "FLOP",
    "flops_per_second": "FLOP/s",
    "share": "of 1",
}
"""Units of the raw numbers of a column; the others are plain counts and ratios."""

Figure = tuple[str, float | None, Unit]
"""Name, value and unit of one number."""


def figures(title: str, entries: Iterable[Figure | tuple[str, str]], *, half: bool = True) -> Terms | None:
    """The known ones among some numbers; None if none is known. Why others are missing is said with the data's quality."""
    said = tuple(
        (entry[0], entry[1]) if len(entry) == 2 else (entry[0], quantity(entry[1], entry[2]))
        for entry in entries
        if entry[1] is not None and entry[1] != ""
    )
    return Terms(title=title, entries=said, half=half) if said else None
