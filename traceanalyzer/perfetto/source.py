"""Where a timeline is made from: a run that is measured now, or a result that was kept; recorded events of one rank at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from traceanalyzer.analysis.assemble import analysis_of
from traceanalyzer.analysis.kept import keep_result, result_folder, scan_table, table_file
from traceanalyzer.analysis.measure import measure
from traceanalyzer.analysis.run import Run
from traceanalyzer.errors import UsageError
from traceanalyzer.measurements.ledger.device import device_segments
from traceanalyzer.review import REVIEW_FILE, Review, read_review
from traceanalyzer.schema import EVENTS
from traceanalyzer.tables.clocks.alignment import on_one_clock
from traceanalyzer.traces import read_traces
from traceanalyzer.traces.capture.manifest import is_capture

Events = Callable[[int], pl.DataFrame]
"""Recorded events of one rank (`EVENTS`), on its own clock."""


@dataclass(frozen=True, slots=True)
class Source:
    """A result, and what was recorded."""

    review: Review
    table: Callable[[str], pl.LazyFrame]
    """A table of the result by its name."""
    pipeline: pl.DataFrame
    """`ACTIONS` with `pipeline`, as the bubble was measured on them; empty without a pipeline."""
    has_main_threads: bool
    """Whether owners of ranks without device are here (`OWNER_SEGMENTS`); results of older versions lack them."""
    recorded: Events | None

    def of_rank(self, name: str, rank: int) -> pl.DataFrame:
        """Rows of one rank of a table of the result."""
        return self.table(name).filter(pl.col("rank") == rank).collect()

    def whole(self, name: str) -> pl.DataFrame:
        """A table of the result."""
        return self.table(name).collect()

    def owners(self, rank: int) -> pl.DataFrame | None:
        """Who owns which time of a rank: `rank`, `step`, `label`, `start_ns`, `end_ns`; None if nothing tells it."""
        kernels = self.of_rank("kernels", rank)
        if kernels.is_empty():
            return self.of_rank("owner_segments", rank) if self.has_main_threads else None
        rest = (self.of_rank(name, rank) for name in ("communications", "missing_kernels"))
        return device_segments(self.of_rank("steps", rank), kernels, *rest)

    def events(self, rank: int) -> pl.DataFrame | None:
        """Recorded events of a rank on the solved clock; None if no trace is at hand."""
        if self.recorded is None:
            return None
        return on_one_clock(self.recorded(rank), self.whole("clocks"))


def measured_source(run: Run, folder: Path) -> Source:
    """Measure a run and keep its result in `folder`, a new one, so that no table stays in memory while a timeline is written.

    The events of a capture, or of traces whose events were stored, are read again rank by rank.
    """
    found = measure(run)
    result = analysis_of(run, found)
    keep_result(result.review, result.tables, folder)
    recorded = run.traces.recorded.of_rank if run.ops is None and run.traces.num_events else None
    return replace(kept_source(str(folder)), pipeline=found.subjects.pipeline.gap.actions, recorded=recorded)


def kept_source(path: str) -> Source:
    """A result with its tables. Raises `UsageError` if these are not there, `InputError` where one is damaged."""
    folder = result_folder(path)
    if folder is None:
        raise UsageError(f"{path}: is a review without tables", "give the folder of a result, or the traces")
    scanned: dict[str, pl.LazyFrame] = {}

    def table(name: str) -> pl.LazyFrame:
        if name not in scanned:
            scanned[name] = scan_table(folder, name)
        return scanned[name]

    review = read_review(folder / REVIEW_FILE)
    has_main_threads = table_file(folder, "owner_segments").is_file()
    return Source(review, table, _with_pipelines(table), has_main_threads, None)


def with_capture(source: Source, path: str) -> Source:
    """A kept result with recorded events of the capture that it was made of. Raises `UsageError` if `path` is not a capture."""
    if not is_capture(Path(path)):
        raise UsageError(
            f"{path}: is not a capture", "make one of the traces: traceanalyzer ingest TRACES --out CAPTURE"
        )
    return replace(source, recorded=_of_capture(path))


def _of_capture(path: str) -> Events:
    def read(rank: int) -> pl.DataFrame:
        try:
            return read_traces(path, ranks={rank}).events.filter(pl.col("rank") == rank)
        except UsageError:  # a result may know ranks that left records of communication alone
            return pl.DataFrame(schema=EVENTS)

    return read


def _with_pipelines(table: Callable[[str], pl.LazyFrame]) -> pl.DataFrame:
    """Actions of a kept result with the pipelines that its bubble names."""
    places = table("bubble").select("rank", "step", "pipeline").unique().collect()
    return table("actions").collect().join(places, on=["rank", "step"], maintain_order="left")


def ranks_of(source: Source) -> list[int]:
    """Ranks that are here."""
    return sorted(source.whole("ranks")["rank"].unique().to_list())
