"""The prediction of schedules side by side, as one offline HTML file."""

from __future__ import annotations

from pathlib import Path

from msgspec import to_builtins

from reports.prediction.page import prediction_page
from traceanalyzer.output import write_result
from traceanalyzer.theory.prediction.record import Predicted, PredictionRecord


def render_prediction(predicted: Predicted, record: PredictionRecord, path: Path) -> Path:
    """Write the page with `record` inside. The file is written whole or not at all. Raises `OutputError`."""
    from reports.page.html import html  # noqa: PLC0415 - templates and drawing take long to import

    write_result(path, html(prediction_page(predicted), "prediction", to_builtins(record)).encode())
    return path
