"""Tables of what was read: events, ranks, defects, and what the training loop recorded."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import SEVERITY
from traceanalyzer.schema.columns import CYCLE, RANK, STEP, STREAM, Column, Table

EVENTS_TABLE = Table(
    name="events",
    meaning="One row per event of the traces, as it was read.",
    origin="traces",
    in_result=False,
    columns={
        "rank": RANK,
        "cycle": CYCLE,
        "index": Column(pl.Int64, "Position in the file."),
        "ph": Column(pl.Categorical(), "Phase in the Trace Event Format; a `B` with its `E` is one `X`."),
        "category": Column(pl.Categorical(), "The file's `cat` in lower case; null if absent."),
        "name": Column(pl.Categorical(), "Name of the event."),
        "process": Column(pl.Categorical(), "Process, as the file names it."),
        "thread": Column(pl.Categorical(), "Thread, as the file names it."),
        "start_ns": Column(pl.Int64, "Start, on the rank's own clock."),
        "duration_ns": Column(pl.Int64, "Duration; 0 of instants."),
        "device": Column(pl.Int64, "Device; null on the host."),
        "stream": STREAM,
        "correlation": Column(pl.UInt64, "Number that joins a kernel to the call that launched it."),
        "external_id": Column(pl.UInt64, "Number that joins a launch to the operator around it."),
        "flow_id": Column(pl.UInt64, "Number of a flow; null except for `s`, `t` and `f` events."),
        "args": Column(pl.String, "The file's own JSON text of `args`; null if empty."),
    },
)
EVENTS = EVENTS_TABLE.schema

RANKS_TABLE = Table(
    name="ranks",
    meaning="One row per captured rank and profiling cycle: its file, its host and its groups.",
    origin="traces",
    columns={
        "rank": RANK,
        "cycle": CYCLE,
        "file": Column(pl.String, "File it was read from."),
        "rank_source": Column(pl.String, "Source of the rank: `distributed_info`, `event`, `file_name` or `rank_map`."),
        "world_size": Column(pl.Int32, "Ranks of the job, as recorded."),
        "backend": Column(pl.String, "Communication library, as recorded."),
        "host": Column(pl.String, "Host name, as recorded."),
        "num_events": Column(pl.Int64, "Events that were kept."),
        "start_ns": Column(pl.Int64, "Start of the first timed event."),
        "end_ns": Column(pl.Int64, "End of the last timed event."),
        "process_groups": Column(pl.String, "The trace's `pg_config`, as JSON text."),
        "devices": Column(pl.String, "The trace's `deviceProperties`, as JSON text."),
        "metadata": Column(pl.String, "The trace's other top-level keys as one JSON object, long values cut."),
    },
)
RANKS = RANKS_TABLE.schema

DEFECTS_TABLE = Table(
    name="defects",
    meaning="One row per thing that was wrong with the data, with what was done about it.",
    origin="traces",
    columns={
        "code": Column(pl.String, "What kind of defect it is: a stable code, for example `json.truncated`."),
        "severity": Column(SEVERITY, "How bad it is."),
        "file": Column(pl.String, "File it was found in."),
        "rank": Column(pl.Int32, "Rank of the file; null if unknown."),
        "byte_from": Column(pl.Int64, "First byte it touches; null if it has no place."),
        "byte_to": Column(pl.Int64, "Byte after the last one it touches."),
        "events_affected": Column(pl.Int64, "Events that it touches."),
        "action": Column(pl.String, "What was done: `kept`, `clamped`, `renamed`, `repaired`, `skipped` or `assumed`."),
        "affects": Column(pl.List(pl.String), "Metrics that it may have changed."),
        "message": Column(pl.String, "What was found, in words."),
        "hint": Column(pl.String, "What to do about it; may be empty."),
    },
)
DEFECTS = DEFECTS_TABLE.schema

STEP_RECORDS_TABLE = Table(
    name="step_records",
    meaning="One row per rank and step as the training loop saw it.",
    origin="run folder",
    columns={
        "rank": RANK,
        "step": STEP,
        "start_ns": Column(pl.Int64, "Start, by the training loop's clock."),
        "end_ns": Column(pl.Int64, "End, by the training loop's clock."),
        "profiled": Column(pl.Boolean, "Whether the profiler recorded the step."),
        "loss": Column(pl.Float64, "Mean loss, on the rank that computes it."),
        "cpu_pressure_us": Column(pl.Int64, "Time during the step in which some task of the host waited for a core."),
        "involuntary_switches": Column(pl.Int64, "Involuntary context switches of the rank during the step."),
        "peak_in_flight": Column(
            pl.Int64, "Most microbatches whose activations the rank held at once, counted per stage."
        ),
        "peak_saved_bytes": Column(pl.Int64, "Most bytes that autograd kept for backward at once, weights left out."),
        "peak_allocated_bytes": Column(pl.Int64, "Most bytes in tensors at once, by CUDA's allocator."),
        "peak_reserved_bytes": Column(pl.Int64, "Most bytes that CUDA's allocator held at once."),
        "device_clock_mhz": Column(pl.Int64, "The device's clock as the step ended."),
        "device_power_mw": Column(pl.Int64, "The device's power as the step ended."),
    },
)
STEP_RECORDS = STEP_RECORDS_TABLE.schema
