"""What a reader can take out of the report: tables as CSV, and the review itself."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from reports.page.text import safe_text

MAX_CSV_ROWS = 50_000
"""Rows of one embedded table; more are left to `traceanalyzer table`, and the page says so."""
_FORMULA_START = r"^([=+\-@\t\r])"


def csv_text(table: pl.DataFrame, limit: int = MAX_CSV_ROWS) -> str:
    """The first `limit` rows as CSV. Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    flat = [
        pl.col(name).cast(pl.List(pl.String)).list.join(" ") if isinstance(dtype, pl.List) else _plain(name, dtype)
        for name, dtype in table.schema.items()
    ]
    return table.head(limit).select(flat).write_csv()


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return pl.col(name).cast(pl.String).str.replace(_FORMULA_START, "'$1")
    return pl.col(name)


def packed(text: str) -> str:
    """Text as base64 of its gzip: what the page's script unpacks. The same text always packs the same."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode("ascii")


def script_json(value: object) -> str:
    """JSON that is inert inside a `<script type="application/json">` element: no `<`, `>` or `&`, ASCII only."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=safe_text)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def review_json(review: Mapping[str, Any]) -> str:
    """The review as inert JSON; numbers that JSON does not have (NaN, infinities) become null."""
    return script_json(_finite(review))


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124 - NaN
        return None
    return value
