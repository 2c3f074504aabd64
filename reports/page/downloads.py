"""What a reader can take out of the report: tables as CSV, and the record behind the page."""

from __future__ import annotations

import base64
import gzip
import json
import math
from typing import Any, cast

import polars as pl

from traceanalyzer.output import csv_text

MAX_CSV_ROWS = 20_000
"""Rows of one embedded table; more are left to `traceanalyzer table`, and the page says so."""


def packed(table: pl.DataFrame) -> str:
    """The first rows of a table as base64 of a gzip of CSV: what the page's script unpacks. Always the same text."""
    text = csv_text(table.head(MAX_CSV_ROWS))
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode("ascii")


def script_json(record: object) -> str:
    """JSON that is inert inside a `<script type="application/json">` element: no `<`, `>` or `&`, ASCII only.

    Numbers that JSON does not have (NaN, infinities) become null.
    """
    text = json.dumps(_finite(record), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        entries = cast("dict[object, Any]", value)
        return {str(key): _finite(entry) for key, entry in entries.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
