"""A sweep as one offline HTML file: measured points over theory."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from reports.sweep.page import sweep_page
from traceanalyzer.output import write_result

SWEEP_TABLE = "sweep.parquet"
"""The table of all points in a sweep's folder."""


def render_sweep(table: pl.DataFrame, name: str, path: Path) -> Path:
    """Write the page of a sweep's `table`. The file is written whole or not at all. Raises `OutputError`."""
    from reports.page.html import html  # noqa: PLC0415 - templates and drawing take long to import

    write_result(path, html(sweep_page(table, name), "sweep", table.to_dicts(), {"sweep": table}).encode())
    return path
