"""Rows of untrusted values to a table: what has not the column's type is unknown, and texts are valid UTF-8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl


def typed_rows(rows: Sequence[dict[str, Any]], schema: pl.Schema) -> pl.DataFrame:
    """A table of `schema` (text, booleans and integers); values of other types or out of range become null."""
    columns = {
        name: pl.Series(name, [_value(row.get(name), dtype) for row in rows], dtype=dtype, strict=True)
        for name, dtype in schema.items()
    }
    return pl.DataFrame(columns, schema=schema)


def _value(value: object, dtype: pl.DataType) -> object:
    if dtype == pl.String:
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None
    if dtype == pl.Boolean:
        return value if isinstance(value, bool) else None
    bits = 31 if dtype == pl.Int32 else 63
    known = isinstance(value, int) and not isinstance(value, bool) and -(1 << bits) <= value < 1 << bits
    return value if known else None
