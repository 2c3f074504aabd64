"""The HTML report: a pure function of the review and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from reports.page.output import write_whole


def render(review: Mapping[str, Any], tables: Mapping[str, pl.DataFrame], path: Path) -> Path:
    """Write the report of `review` and `tables` to `path`: one HTML file that needs no network.

    Tables are known by name: actions, ideal_actions, bubble, accounting, collectives, routing, steps; any may be
    missing or empty, and then its part of the page says so in one line. The file is written whole or not at all.
    Raises `OutputError` where it cannot be written.
    """
    from reports.page.compose import compose  # noqa: PLC0415 - the drawing library takes seconds to import

    return write_whole(compose(review, tables), path)
