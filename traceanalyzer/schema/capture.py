"""Tables of what was read: events, ranks, defects, and what the training loop recorded."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import SEVERITY

EVENTS = pl.Schema(
    {
        "rank": pl.Int32,
        "cycle": pl.Int32,  # profiling cycle of the rank: 0 unless the same rank was captured again
        "index": pl.Int64,  # position in the file
        "ph": pl.Categorical(),  # Trace Event Format phase; a B/E pair is one X
        "category": pl.Categorical(),  # the file's `cat` in lower case; null if absent
        "name": pl.Categorical(),
        "process": pl.Categorical(),  # raw pid as text
        "thread": pl.Categorical(),  # raw tid as text
        "start_ns": pl.Int64,
        "duration_ns": pl.Int64,  # 0 for instants
        "device": pl.Int64,
        "stream": pl.Int64,
        "correlation": pl.UInt64,  # joins a kernel to the call that launched it
        "external_id": pl.UInt64,  # joins a launch to the operator around it
        "flow_id": pl.UInt64,  # of s, t, f events
        "args": pl.String,  # the file's own JSON text of `args`; null if empty
    }
)

RANKS = pl.Schema(
    {
        "rank": pl.Int32,
        "cycle": pl.Int32,
        "file": pl.String,
        "rank_source": pl.String,  # distributed_info, event, file_name, rank_map
        "world_size": pl.Int32,
        "backend": pl.String,
        "host": pl.String,
        "num_events": pl.Int64,
        "start_ns": pl.Int64,  # first timed event
        "end_ns": pl.Int64,
        "process_groups": pl.String,  # pg_config as JSON text
        "devices": pl.String,  # deviceProperties as JSON text
        "metadata": pl.String,  # other top-level keys as one JSON object, long values cut
    }
)

DEFECTS = pl.Schema(
    {
        "code": pl.String,  # stable, e.g. json.truncated
        "severity": SEVERITY,
        "file": pl.String,
        "rank": pl.Int32,
        "byte_from": pl.Int64,
        "byte_to": pl.Int64,
        "events_affected": pl.Int64,
        "action": pl.String,  # kept, clamped, renamed, skipped, assumed
        "affects": pl.List(pl.String),  # metrics
        "message": pl.String,
        "hint": pl.String,
    }
)

STEP_RECORDS = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "profiled": pl.Boolean,
        "loss": pl.Float64,
        "cpu_pressure_us": pl.Int64,
        "involuntary_switches": pl.Int64,
        "peak_in_flight": pl.Int64,
        "peak_saved_bytes": pl.Int64,
        "peak_allocated_bytes": pl.Int64,
        "peak_reserved_bytes": pl.Int64,
        "device_clock_mhz": pl.Int64,  # as the step ended
        "device_power_mw": pl.Int64,
    }
)
