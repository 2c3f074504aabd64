"""What a reader can take out of the report: tables as CSV, and the record behind the page."""

from __future__ import annotations

import base64
import gzip
import json
import math
from typing import Any, cast

import polars as pl

from traceanalyzer.output import csv_text

MAX_CSV_BYTES = 100_000
"""CSV of one embedded table; more is left to `traceanalyzer table`, and the page says so."""
_SAMPLE = 200
"""Rows by which the length of a row is judged."""
MAX_PLAIN_RECORD = 200_000
"""Characters of a record up to which it stands in the page as JSON; a longer one is packed."""


def rows_in_page(table: pl.DataFrame) -> int:
    """Rows of a table that the page's download holds, by the mean length of the first ones."""
    sample = table.head(_SAMPLE)
    length = len(csv_text(sample)) / max(1, sample.height)
    return min(table.height, max(_SAMPLE, int(MAX_CSV_BYTES / length)))


def packed(table: pl.DataFrame) -> str:
    """The first rows of a table as base64 of a gzip of CSV: what the page's script unpacks. Always the same text."""
    return _packed(csv_text(table.head(rows_in_page(table))))


def packed_record(record: object) -> str:
    """A long record, packed as tables are; empty for one that can stand in the page as it is."""
    text = _json(record)
    return _packed(text) if len(text) > MAX_PLAIN_RECORD else ""


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode("ascii")


def script_json(record: object) -> str:
    """JSON that is inert inside a `<script type="application/json">` element: no `<`, `>` or `&`, ASCII only.

    Numbers that JSON does not have (NaN, infinities) become null.
    """
    return _json(record).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _json(record: object) -> str:
    return json.dumps(_finite(record), ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        entries = cast("dict[object, Any]", value)
        return {str(key): _finite(entry) for key, entry in entries.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
