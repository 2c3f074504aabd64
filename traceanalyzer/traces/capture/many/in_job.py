"""A rank's own trace into its own capture, while the job goes on: what the recorder starts, in a process of low priority."""

from __future__ import annotations

import os
from pathlib import Path

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.traces.capture.ingest import ingest


def keep(trace: str, capture: str) -> str | None:
    """Read `trace` into the new `capture` and remove it once that is whole; why not, else None.

    A trace that cannot be used stays as it is: whoever reads the run folder learns what is wrong with it.
    """
    os.nice(19)
    try:
        made = ingest([trace], capture, num_workers=1, with_side_files=False)
    except TraceAnalyzerError as error:
        return error.message
    if not made.manifest.complete or not all(source.documents for source in made.manifest.sources):
        return f"{trace}: not all of it could be read"
    Path(trace).unlink()
    return None
