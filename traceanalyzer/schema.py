"""Every table's columns: names, types, units and meaning, declared once.

Times are integer nanoseconds since the Unix epoch, on one clock per table from `steps` on (events keep the clock of
their own rank). `conform` is the only way a frame becomes one of these tables.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schedule import Phase

PHASE = pl.Enum([phase.value for phase in Phase])
SEVERITY = pl.Enum(["info", "repair", "loss", "error"])
OWNER = pl.Enum(
    ["compute", "transfer", "wait", "copy", "queued", "launch_gap", "host", "unknown"],
)
"""Owners of the accounting law, in order of precedence."""
DIRECTION = pl.Enum(["dispatch", "combine", "combine_backward", "dispatch_backward", "other"])
BASIS = pl.Enum(["durations", "clock", "own_min", "none"])

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

STEPS = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "open_end": pl.Boolean,  # the window's end was not bounded by a following step
    }
)

ACTIONS = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "position": pl.Int32,  # order on the rank within the step
        "stage": pl.Int32,
        "phase": PHASE,
        "microbatch": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "release_ns": pl.Int64,  # when its output is handed on; null: at its end
    }
)

RECEIVES = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "start_ns": pl.Int64,  # posted
        "end_ns": pl.Int64,  # wait returned
        "bytes": pl.Int64,
    }
)

COLLECTIVES = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "group": pl.String,  # member ranks joined by commas; the join key across ranks with `sequence`
        "sequence": pl.Int32,  # order of this kind in the group within the step
        "kind": pl.String,  # all_to_all, all_reduce, ...
        "direction": DIRECTION,
        "layer": pl.Int32,
        "start_ns": pl.Int64,  # this rank's arrival
        "end_ns": pl.Int64,
        "send_bytes": pl.Int64,
        "receive_bytes": pl.Int64,
        "send_splits": pl.List(pl.Int64),  # rows per member, own share included
        "receive_splits": pl.List(pl.Int64),
    }
)

COLLECTIVE_SPLITS = pl.Schema(
    {
        **COLLECTIVES,
        "wait_ns": pl.Int64,
        "transfer_ns": pl.Int64,
        "basis": BASIS,
        "wait_durations_ns": pl.Int64,  # the `durations` basis beside it; null where it does not apply
        "late_rank": pl.Int32,  # latest member that exchanges bytes with this rank
    }
)

ROUTING = pl.Schema(
    {
        "step": pl.Int32,
        "layer": pl.Int32,
        "group": pl.String,  # ranks of the expert group joined by commas
        "rank": pl.Int32,  # source
        "expert": pl.Int32,  # null where only the receiving rank is known
        "expert_rank": pl.Int32,  # rank that holds the expert
        "tokens": pl.Int64,  # token copies routed there
        "source": pl.String,  # side_file or splits
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
    }
)

ACCOUNTING = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "owner": OWNER,
        "cause": pl.String,  # for wait: dependency, collective; for compute: action or other
        "duration_ns": pl.Int64,
    }
)

BUBBLE = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "pipeline": pl.Int32,
        "phase_start_ns": pl.Int64,
        "phase_ns": pl.Int64,  # pipeline phase: first forward start to last backward end over the pipeline
        "span_ns": pl.Int64,  # this rank's own window, first action start to last action end
        "chunk_ns": pl.Int64,  # sum of chunk spans
        "warmup_ns": pl.Int64,
        "steady_ns": pl.Int64,
        "drain_ns": pl.Int64,
        "transfer_ns": pl.Int64,
        "overhead_ns": pl.Int64,
        "span_dependency_ns": pl.Int64,  # dependency inside the rank's own window
    }
)

TABLES: dict[str, pl.Schema] = {
    "events": EVENTS,
    "ranks": RANKS,
    "defects": DEFECTS,
    "steps": STEPS,
    "actions": ACTIONS,
    "receives": RECEIVES,
    "collectives": COLLECTIVE_SPLITS,
    "routing": ROUTING,
    "step_records": STEP_RECORDS,
    "accounting": ACCOUNTING,
    "bubble": BUBBLE,
}


def empty(schema: pl.Schema) -> pl.DataFrame:
    """A table of `schema` without rows."""
    return pl.DataFrame(schema=schema)


def conform(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Select and cast the columns of `schema`, in order. Missing columns become null; a lossy cast raises."""
    columns = [
        pl.col(name).cast(dtype, strict=True) if name in frame.columns else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in schema.items()
    ]
    return frame.select(columns)
