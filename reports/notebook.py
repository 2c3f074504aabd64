"""What a notebook shows of a result: the report's first screen and its timeline, in a frame of their own.

The frame holds a whole page that loads nothing (`reports.page.embedding.policy`). It is sandboxed: its scripts, names
and styles reach neither the notebook nor its origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape

import polars as pl
from msgspec import to_builtins

from reports.comparison.page import comparison_page
from reports.page.model import Page
from reports.prediction.page import prediction_page
from reports.review_page import review_page
from reports.sections import timeline
from reports.sections.material import Material
from traceanalyzer.comparison.record import Comparison
from traceanalyzer.review import Review
from traceanalyzer.theory.prediction.record import Predicted, PredictionRecord

_FRAME = (
    '<iframe sandbox="allow-scripts allow-downloads" title="{title}" loading="lazy" srcdoc="{page}" '
    'style="width:100%;height:{height}px;border:0"></iframe>'
)
_REVIEW_HEIGHT, _PREDICTION_HEIGHT = 860, 760


def review_frame(review: Review, tables: Mapping[str, pl.DataFrame]) -> str:
    """Verdict, headline numbers and timeline as HTML for a notebook's cell."""
    page = replace(
        review_page(review, tables), sections=(timeline.section(Material(review, tables)),), withheld_causes=()
    )
    return _frame(page, "review", to_builtins(review), _REVIEW_HEIGHT)


def prediction_frame(predicted: Predicted, record: PredictionRecord) -> str:
    """The page of a prediction as HTML for a notebook's cell."""
    return _frame(prediction_page(predicted), "prediction", to_builtins(record), _PREDICTION_HEIGHT)


def comparison_frame(found: Comparison) -> str:
    """The page of a comparison as HTML for a notebook's cell."""
    return _frame(comparison_page(found), "comparison", to_builtins(found), _REVIEW_HEIGHT)


def _frame(page: Page, name: str, record: object, height: int) -> str:
    from reports.page.html import html  # noqa: PLC0415 - templates and drawing take long to import

    return _FRAME.format(title=escape(page.title), page=escape(html(page, name, record)), height=height)
