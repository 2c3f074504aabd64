"""The HTML report: a pure function of the review and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from msgspec import to_builtins

from reports.page.output import write_whole
from traceanalyzer.review import Review


def render(review: Review | Mapping[str, Any], tables: Mapping[str, pl.DataFrame], path: Path) -> Path:
    """Write the report of `review` and `tables` to `path`: one HTML file that needs no network.

    Tables are known by name: actions, ideal_actions, bubble, accounting, collectives, routing, steps; any may be
    missing or empty, and then its part of the page says so in one line. The file is written whole or not at all.
    Raises `OutputError` where it cannot be written.
    """
    from reports.page.compose import compose  # noqa: PLC0415 - the drawing library takes seconds to import

    plain = to_builtins(review) if isinstance(review, Review) else review
    return write_whole(compose(plain, tables), path)
