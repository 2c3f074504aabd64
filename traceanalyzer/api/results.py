"""What the Python functions give: a result and a prediction, which notebooks show as pages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reports import render
from traceanalyzer.analysis.kept import keep_result
from traceanalyzer.api.guard import guarded
from traceanalyzer.comparison.record import Comparison
from traceanalyzer.queries.sql import answer, named_tables
from traceanalyzer.review import Review
from traceanalyzer.theory.prediction.record import Predicted, PredictionRecord


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """A measured run set against theory.

    A notebook shows its verdict, headline numbers and timeline, without a network.
    """

    review: Review
    """The whole result as one typed record: what `analyze --json` writes. Shares are of 1, times in ms."""
    tables: Mapping[str, pl.DataFrame]
    """Every table by name, for example `kernels` (one row per kernel; integer ns) or `bubble` (one row per rank and
    step). `docs/tables.md` has their columns with types and units. A result that was loaded has those that were kept."""

    @guarded
    def sql(self, query: str) -> pl.DataFrame:
        """The answer to an SQL query over all tables, which have `duration_ns` and `duration_ms` beside starts.

        Raises `UsageError` if it cannot be answered.
        """
        return answer({name: self.tables[name] for name in named_tables(query) if name in self.tables}, query).frame

    @guarded
    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep the result in the folder `path`: `review.json` and every table as Parquet.

        Raises `UsageError` if something else is there, `OutputError` if it cannot be written.
        """
        keep_result(self.review, self.tables, Path(path))

    @guarded
    def report(self, path: str | os.PathLike[str] = "report.html") -> Path:
        """Write the report as one offline HTML file; its path. Raises `OutputError`."""
        return render(self.review, self.tables, Path(path))

    def __repr__(self) -> str:
        """The verdict in words."""
        verdict = " ".join(self.review.headline.sentences) or "no verdict"
        return f"<Result of {self.review.source.path}: {verdict}>"

    @guarded
    def _repr_html_(self) -> str:
        from reports.notebook import review_frame  # noqa: PLC0415 - drawing takes seconds to import

        return review_frame(self.review, self.tables)


@dataclass(frozen=True, slots=True, repr=False)
class PredictionResult:
    """Schedules side by side, simulated and by formula. A notebook shows them as a page, without a network."""

    record: PredictionRecord
    """Everything as one typed record: what `predict --json` writes."""
    predicted: Predicted

    @property
    def table(self) -> pl.DataFrame:
        """One row per schedule that exists for the workload.

        Columns: `name`; `bubble_share` of the pipeline phase, simulated; `closed_form_share`, null if no formula
        holds; `makespan_ms` of the phase and `step_ms`; `peak_in_flight`, microbatches on the fullest rank.
        """
        rows = [
            (
                each.name,
                each.bubble_share,
                each.closed_form.bubble_share if each.closed_form else None,
                each.makespan_ms,
                each.step_ms,
                max(each.peak_in_flight),
            )
            for each in self.record.schedules
        ]
        return pl.DataFrame(rows, schema=_SCHEDULES, orient="row")

    @guarded
    def report(self, path: str | os.PathLike[str] = "prediction.html") -> Path:
        """Write the page as one offline HTML file; its path. Raises `OutputError`."""
        from reports.prediction import render_prediction  # noqa: PLC0415 - drawing takes seconds to import

        return render_prediction(self.predicted, self.record, Path(path))

    def __repr__(self) -> str:
        """Simulated bubbles in words."""
        shares = ", ".join(f"{each.name} {each.bubble_share:.1%}" for each in self.record.schedules)
        return f"<PredictionResult: simulated bubble {shares}>"

    @guarded
    def _repr_html_(self) -> str:
        from reports.notebook import prediction_frame  # noqa: PLC0415 - drawing takes seconds to import

        return prediction_frame(self.predicted, self.record)


@dataclass(frozen=True, slots=True, repr=False)
class ComparisonResult:
    """What changed between runs, by how much, and who or what did it."""

    record: Comparison
    """Everything as one typed record: what `compare --json` writes. Times are integer ns, shares of 1."""

    @property
    def table(self) -> pl.DataFrame:
        """One row per change of every pair, largest first within a pair.

        Columns: `new`, the path of the run that is compared with the base; `kind` and `title` of the change; `change_ns`
        of the step, longer above zero; `share`, the same over the base's step; `is_noise`, no more than chance explains.
        """
        rows = [
            (
                self.record.runs[pair.new].path,
                str(change.kind),
                change.title,
                change.change_ns,
                change.share,
                change.is_noise,
            )
            for pair in self.record.pairs
            for change in pair.changes
        ]
        return pl.DataFrame(rows, schema=_CHANGES, orient="row")

    @guarded
    def report(self, path: str | os.PathLike[str] = "comparison.html") -> Path:
        """Write the page as one offline HTML file; its path. Raises `OutputError`."""
        from reports.comparison import render_comparison  # noqa: PLC0415 - drawing takes seconds to import

        return render_comparison(self.record, Path(path))

    def __repr__(self) -> str:
        """The story in words."""
        return f"<ComparisonResult: {' '.join(self.record.sentences)}>"

    @guarded
    def _repr_html_(self) -> str:
        from reports.notebook import comparison_frame  # noqa: PLC0415 - drawing takes seconds to import

        return comparison_frame(self.record)


_CHANGES = pl.Schema(
    {
        "new": pl.String,
        "kind": pl.String,
        "title": pl.String,
        "change_ns": pl.Int64,
        "share": pl.Float64,
        "is_noise": pl.Boolean,
    }
)
_SCHEDULES = pl.Schema(
    {
        "name": pl.String,
        "bubble_share": pl.Float64,
        "closed_form_share": pl.Float64,
        "makespan_ms": pl.Float64,
        "step_ms": pl.Float64,
        "peak_in_flight": pl.Float64,
    }
)
