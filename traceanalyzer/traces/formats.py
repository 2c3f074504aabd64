"""Every format of traces that is read. A reader is added with its `TraceFormat` and a place in this list."""

from __future__ import annotations

from traceanalyzer.traces.decoding.document import CHROME_TRACE
from traceanalyzer.traces.decoding.trace_format import TraceFormat
from traceanalyzer.traces.nsight.export import NSIGHT_EXPORT

FORMATS: tuple[TraceFormat, ...] = (CHROME_TRACE, NSIGHT_EXPORT)
"""The first is what data is taken for that no other recognises."""


def format_of(head: bytes) -> TraceFormat:
    """The format of data that begins with `head`."""
    return next((each for each in FORMATS[1:] if each.recognises(head)), FORMATS[0])
