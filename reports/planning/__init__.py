"""A plan as one offline HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.planning.page import plan_page
from traceanalyzer.output import write_result
from traceanalyzer.theory.planning.plan import Plan
from traceanalyzer.theory.planning.sizes import SizeCell


def render_plan(planned: Plan, cells: Sequence[SizeCell], record: Mapping[str, Any], path: Path) -> Path:
    """Write the page with `record` inside. The file is written whole or not at all. Raises `OutputError`."""
    from reports.page.html import html  # noqa: PLC0415 - templates and drawing take long to import

    write_result(path, html(plan_page(planned, cells), "plan", dict(record)).encode())
    return path
