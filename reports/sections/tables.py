"""The tables at the end of the page: the first rows to look at, all of them as CSV."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from reports.page.downloads import MAX_CSV_ROWS
from reports.page.parts import Grid
from reports.page.text import quantity, safe_text
from traceanalyzer.schema import TABLES

MAX_SHOWN_ROWS = 12
MAX_CELL = 80


def grids(tables: Mapping[str, pl.DataFrame]) -> list[Grid]:
    """One folded grid for every table with rows, in the order given."""
    return [_grid(name, frame) for name, frame in tables.items() if not frame.is_empty()]


def _grid(name: str, frame: pl.DataFrame) -> Grid:
    numeric = [i for i, dtype in enumerate(frame.dtypes) if dtype.is_numeric()]
    meaning = TABLES[name].meaning if name in TABLES else ""
    note = f"{meaning} {quantity(len(frame), 'count')} rows; the first {min(len(frame), MAX_SHOWN_ROWS)} are shown.".lstrip()
    if len(frame) > MAX_CSV_ROWS:
        note += f" The download holds {quantity(MAX_CSV_ROWS, 'count')}; the whole: traceanalyzer table PATH {name} --format csv."
    return Grid(
        id=f"table-{name}",
        title=f"{name} ({quantity(len(frame), 'count')} rows)",
        columns=tuple(frame.columns),
        rows=tuple(tuple(_cell(value) for value in row) for row in frame.head(MAX_SHOWN_ROWS).iter_rows()),
        numeric=frozenset(numeric),
        note=note,
        csv=name,
        folded=True,
    )


def _cell(value: object) -> str:
    """A raw value, as in the CSV: exact, so that it can be searched for."""
    return "" if value is None else safe_text(value, MAX_CELL)
