"""The report: a pure function of the review and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl
from msgspec import to_builtins

from reports.review_page import review_page
from traceanalyzer.output import write_result
from traceanalyzer.review import Review


def render(review: Review, tables: Mapping[str, pl.DataFrame], path: Path) -> Path:
    """Write the report of `review` and `tables` to `path`: one HTML file that needs no network.

    Tables are known by name: actions, ideal_actions, bubble, accounting, collectives, routing, steps; any may be
    missing or empty, and then its part of the page says so in one line. The file is written whole or not at all.
    Raises `OutputError` if it cannot be written.
    """
    write_result(path, report(review, tables).encode())
    return path


def report(review: Review, tables: Mapping[str, pl.DataFrame]) -> str:
    """The report as HTML text."""
    from reports.page.html import html  # noqa: PLC0415 - templates and drawing take long to import

    return html(review_page(review, tables), "review", to_builtins(review), tables)


def first_screen(review: Review, tables: Mapping[str, pl.DataFrame]) -> str:
    """The first screen alone, as HTML text: what a printed page or a picture of the review shows."""
    from reports.page.html import html  # noqa: PLC0415 - templates and drawing take long to import

    return html(replace(review_page(review, tables), sections=()), "review", to_builtins(review))


def svg(review: Review, tables: Mapping[str, pl.DataFrame]) -> str:
    """The first screen as a picture that needs no browser to be made."""
    from reports.page.card import card  # noqa: PLC0415 - only a picture needs it

    return card(review_page(review, tables))


def full_markdown(review: Review, tables: Mapping[str, pl.DataFrame]) -> str:
    """The whole review as Markdown."""
    from reports.page.markdown import markdown  # noqa: PLC0415 - only Markdown needs it

    return markdown(review_page(review, tables))


def summary_markdown(review: Review, tables: Mapping[str, pl.DataFrame]) -> str:
    """Verdict, headline numbers and findings as Markdown, for a pull request."""
    from reports.page.markdown import markdown  # noqa: PLC0415 - only Markdown needs it

    page = review_page(review, tables)
    return markdown(replace(page, sections=tuple(each for each in page.sections if each.id == "findings")))


def text(
    review: Review, tables: Mapping[str, pl.DataFrame], width: int | None = None, *, one_screen: bool = False
) -> str:
    """The review as text for a terminal of `width` columns; lines are not wrapped without one.

    All sections, or with `one_screen` the verdict, the numbers and the failed checks.
    """
    from reports.page.terminal import WIDE, terminal, terminal_screen  # noqa: PLC0415 - only a terminal needs it

    return (terminal_screen if one_screen else terminal)(review_page(review, tables), width or WIDE)
