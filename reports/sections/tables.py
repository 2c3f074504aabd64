"""The tables at the end of the page: the first rows to look at, all of them as CSV."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from reports.page.downloads import rows_in_page
from reports.page.model import Grid, Section
from reports.sections.material import Material
from traceanalyzer.review.words import counted
from traceanalyzer.schema import TABLES

MAX_SHOWN_ROWS = 12


def section(material: Material) -> Section:
    """One folded grid for every table with rows, in the order given."""
    grids = [_grid(name, frame) for name, frame in material.tables.items() if not frame.is_empty()]
    return material.section(
        "tables",
        "Tables",
        grids,
        absent="No tables came with this review.",
        lead=_lead(material.tables),
        in_terminal=False,
        folded=True,
    )


def _lead(tables: Mapping[str, pl.DataFrame]) -> str:
    """How many tables and rows, and the largest."""
    rows = {name: frame.height for name, frame in tables.items() if not frame.is_empty()}
    if not rows:
        return ""
    most = max(rows, key=lambda name: rows[name])
    return f"The numbers behind the charts: {counted(len(rows), 'table')}, {counted(sum(rows.values()), 'row')}, most in {most}."


def _grid(name: str, frame: pl.DataFrame) -> Grid:
    size = counted(frame.height, "row")
    meaning = TABLES[name].meaning if name in TABLES else ""
    inside = rows_in_page(frame)
    return Grid(
        id=f"table-{name}",
        title=f"{name} ({size})",
        columns=tuple(frame.columns),
        rows=tuple(tuple(_cell(value) for value in row) for row in frame.head(MAX_SHOWN_ROWS).iter_rows()),
        numeric=frozenset(i for i, dtype in enumerate(frame.dtypes) if dtype.is_numeric()),
        note=" ".join(part for part in (meaning, _cut(name, inside) if inside < frame.height else "") if part),
        num_rows=frame.height,
        all_rows=name,
        csv=name,
        folded=True,
        few=0,
    )


def _cut(name: str, inside: int) -> str:
    return f"The download holds the first {inside:,} rows; `traceanalyzer table PATH {name} --format csv` writes all."


def _cell(value: object) -> str:
    """A raw value, as in the CSV: exact, so that it can be searched for."""
    return "" if value is None else str(value)[:80]
