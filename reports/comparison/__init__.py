"""A comparison as text, Markdown and one offline HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import to_builtins

from reports.comparison.page import comparison_page
from reports.comparison.timelines import Result
from traceanalyzer.comparison.record import Comparison
from traceanalyzer.output import write_result


def render_comparison(comparison: Comparison, path: Path, results: Mapping[str, Result] | None = None) -> Path:
    """Write the page with the comparison inside; `results` by path are drawn on one time axis. The file is written whole or not at all. Raises `OutputError`."""
    from reports.page.html import html  # noqa: PLC0415 - templates and drawing take long to import

    write_result(path, html(comparison_page(comparison, results), "comparison", to_builtins(comparison)).encode())
    return path


def comparison_text(comparison: Comparison, width: int | None = None) -> str:
    """The comparison for a terminal of `width` columns; lines are not wrapped without one."""
    from reports.page.terminal import WIDE, terminal  # noqa: PLC0415 - only a terminal needs it

    return terminal(comparison_page(comparison), width or WIDE)


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison for a pull request."""
    from reports.page.markdown import markdown  # noqa: PLC0415 - only Markdown needs it

    return markdown(comparison_page(comparison))
