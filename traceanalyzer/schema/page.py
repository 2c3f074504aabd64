"""The documentation page of all tables, made from the registry."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from traceanalyzer.schema.columns import DataType, Table, unit_of
from traceanalyzer.schema.registry import TABLES

_HEAD = """# Tables

What `traceanalyzer table PATH NAME` prints, `analyze --out` keeps as `tables/NAME.parquet` and the report offers for download.
Times are integer nanoseconds since the Unix epoch, on the common clock of the ranks (`events` and `ranks`: on the clock of their own
rank, `step_records`: on that of the training loop). A table may be empty: `analyze` says why.

This page is made from the declarations in `traceanalyzer/schema`:
`python -c 'from traceanalyzer.schema.page import tables_page; print(tables_page(), end="")' > docs/tables.md`
"""
_NAMES: dict[DataType, str] = {
    pl.String: "text",
    pl.Categorical: "text",
    pl.Boolean: "yes or no",
    pl.Int32: "integer",
    pl.Int64: "integer",
    pl.UInt64: "integer",
    pl.Float64: "number",
}
_KEPT = {"traces": "Read from the traces.", "run folder": "Read from the run folder.", "measured": "Measured."}


def tables_page() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *(line for table in TABLES.values() for line in _section(table))])


def _section(table: Table) -> Iterator[str]:
    yield f"## {table.name}"
    yield ""
    alone = "" if table.in_result else " It is not kept in a result: give `table` the traces."
    yield f"{table.meaning} {_KEPT[table.origin]}{alone}"
    yield ""
    yield "| column | type | unit | meaning |"
    yield "|---|---|---|---|"
    for name, column in table.columns.items():
        meaning = column.meaning.replace("|", "\\|")
        yield f"| `{name}` | {_type(column.dtype)} | {unit_of(name)} | {meaning} |"
    yield ""


def _type(dtype: DataType) -> str:
    if isinstance(dtype, pl.List):
        return f"list of {_type(dtype.inner)}"
    if isinstance(dtype, pl.Enum):
        return "one of " + ", ".join(f"`{word}`" for word in dtype.categories)
    return _NAMES[dtype.base_type() if isinstance(dtype, pl.DataType) else dtype]
