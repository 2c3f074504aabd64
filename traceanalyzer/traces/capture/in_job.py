"""A rank's own trace into its own capture, while the job goes on: what the recorder starts, in a process of low priority."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.traces.capture.ingest import ingest


def keep(trace: str, capture: str) -> int:
    """Read `trace` into the new `capture` and remove it once that is whole; the exit status of the process.

    A trace that cannot be used stays as it is: whoever reads the run folder is told what is wrong with it.
    """
    os.nice(19)
    try:
        made = ingest([trace], capture, num_workers=1, with_side_files=False)
    except TraceAnalyzerError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - this function is all of a process
        return 3
    if not made.manifest.complete or not all(source.documents for source in made.manifest.sources):
        return 3
    Path(trace).unlink()
    return 0
