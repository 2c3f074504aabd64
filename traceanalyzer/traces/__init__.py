"""Profiler traces of every origin to tables of events, ranks and defects."""

from traceanalyzer.traces.decoding.compiled.acceleration import prepare
from traceanalyzer.traces.input.limits import DEFAULT_LIMITS, Limits
from traceanalyzer.traces.read import Summary, Traces, read_traces, summarize
from traceanalyzer.traces.recorded import Recorded, apart, in_memory
from traceanalyzer.traces.run_folder import read_job, read_routing_records, read_step_records
from traceanalyzer.traces.tally import Counts

__all__ = [
    "DEFAULT_LIMITS",
    "Counts",
    "Limits",
    "Recorded",
    "Summary",
    "Traces",
    "apart",
    "in_memory",
    "prepare",
    "read_job",
    "read_routing_records",
    "read_step_records",
    "read_traces",
    "summarize",
]
