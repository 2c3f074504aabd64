"""What is done with a mutant: it is read, or taken all the way to the page. Only our own errors may come of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reports import report, text
from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.review import to_json
from traceanalyzer.review.file import decode_review
from traceanalyzer.traces import read_traces
from traceanalyzer.traces.nccl.records import read_records
from traceanalyzer.traces.op_table import is_op_table, read_op_table
from traceanalyzer.traces.run_folder import read_job, read_routing_records, read_step_records


def readers(folder: Path) -> None:
    """Every reader that has something to read."""
    tables = [file for file in folder.iterdir() if is_op_table(file)]
    for file in tables:
        refused(lambda file=file: read_op_table(file))
    if tables:
        return
    refused(lambda: _counted(folder))
    refused(lambda: read_records(folder))
    refused(lambda: read_job(folder))
    refused(lambda: read_step_records(folder))
    refused(lambda: read_routing_records(folder))


def _counted(folder: Path) -> None:
    """The counting law holds of whatever was read."""
    counts = read_traces(folder).counts
    assert counts.events_seen == counts.events_kept + sum(counts.events_dropped.values())
    assert counts.bytes_seen == counts.bytes_kept + sum(counts.bytes_dropped.values())


def whole(folder: Path) -> None:
    """Read, measured, written as text, and its record read back strictly."""
    refused(lambda: _analysed(folder, page=False))


def page(folder: Path) -> None:
    """The same, and the page."""
    refused(lambda: _analysed(folder, page=True))


def _analysed(folder: Path, *, page: bool) -> None:
    tables = [file for file in folder.iterdir() if is_op_table(file)]
    found = analyze(read(tables[0] if tables else folder))
    try:
        kept = decode_review(to_json(found.review), "review")
    except TraceAnalyzerError as error:
        raise AssertionError(f"its own review is refused: {error}") from error
    shown = text(kept, found.tables, 100)
    assert all(c.isprintable() or c == "\n" for c in shown), "control characters in the text"
    if page:
        report(kept, found.tables)


def refused(work: Callable[[], object]) -> None:
    """Do it; an error of ours is no find, as long as it is two lines."""
    try:
        work()
    except TraceAnalyzerError as error:
        if error.exit_status == 70:
            raise
        said = f"{error.message}\n{error.hint}"
        assert said.count("\n") == 1, "an error of more than two lines"


TARGETS: dict[str, Callable[[Path], None]] = {"readers": readers, "whole": whole, "page": page}
