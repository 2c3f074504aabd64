"""What may be asked: every table with what a row of it is, and its columns with types, units and meaning."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from traceanalyzer.queries.durations import with_durations
from traceanalyzer.schema import TABLES, Table, empty
from traceanalyzer.schema.columns import unit_of


class ColumnEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of a table."""

    name: str
    type: str
    """As Polars calls it."""
    unit: str
    meaning: str
    values: list[str] = []
    """All values that there can be; empty: any."""


class TableEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table."""

    name: str
    meaning: str
    in_result: bool
    """Kept in a result; else only traces give it."""
    columns: list[ColumnEntry]


class Catalogue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `table PATH --json` writes."""

    schema_version: int = 1
    tables: list[TableEntry]


_DERIVED = {
    "duration_ns": "End less start; derived for questions.",
    "duration_ms": "The same in milliseconds; derived for questions.",
}


def catalogue() -> Catalogue:
    """Every table of the registry, with the durations that questions may name."""
    return Catalogue(tables=[_entry(table) for table in TABLES.values()])


def catalogue_json() -> bytes:
    """The catalogue as JSON text."""
    return msgspec.json.format(msgspec.json.encode(catalogue()), indent=1) + b"\n"


def catalogue_lines() -> list[str]:
    """One line for each table: its name, and what a row of it is."""
    width = max(map(len, TABLES))
    return [f"{name:<{width}}  {table.meaning}" for name, table in TABLES.items()]


def _entry(table: Table) -> TableEntry:
    columns: list[ColumnEntry] = []
    for name, dtype in with_durations(empty(table.schema)).schema.items():
        declared = table.columns.get(name)
        columns.append(
            ColumnEntry(
                name=name,
                type=str(dtype.base_type().__name__),
                unit="ms" if name == "duration_ms" else unit_of(name),
                meaning=declared.meaning if declared else _DERIVED[name],
                values=list(getattr(dtype, "categories", [])),
            )
        )
    return TableEntry(name=table.name, meaning=table.meaning, in_result=table.in_result, columns=columns)
