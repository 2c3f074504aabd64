"""Tables of steps, pipeline actions, where time went and why."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import CAUSE, OWNER, PHASE, STEP_PHASE

STEPS = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "open_end": pl.Boolean,  # the window's end was not bounded by a following step
        "open_start": pl.Boolean,  # the capture began inside the step
        "is_typical": pl.Boolean,  # every figure speaks of these steps
        "set_apart": pl.String,  # why it is not typical: cut at its start, open end, first step, outlier, not on all ranks
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

PASSES = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "phase": PHASE,  # F or B; I and W where ranges tell them
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
    }
)

OPTIMIZER = pl.Schema({"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64})

ACCOUNTING = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "owner": OWNER,
        "cause": pl.String,  # for wait: dependency, collective; for compute: action or other
        "phase": STEP_PHASE,
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
        "dp_wait_ns": pl.Int64,  # exposed communication between replicas: until the last of them had arrived
        "dp_transfer_ns": pl.Int64,  # and from there on, or all of it where the wait cannot be told
        "chunk_dp_ns": pl.Int64,  # the same inside chunk spans, and so part of `chunk_ns`
        "span_dependency_ns": pl.Int64,  # dependency inside the rank's own window
    }
)

BLAME = pl.Schema(
    {
        "pipeline": pl.Int32,
        "step": pl.Int32,
        "waiter": pl.Int32,  # the rank that waited
        "cause": CAUSE,
        "culprit": pl.Int32,  # the rank that kept it waiting; null: not captured
        "duration_ns": pl.Int64,
    }
)

ATTRIBUTION = pl.Schema(
    {
        "pipeline": pl.Int32,
        "step": pl.Int32,
        "cause": CAUSE,
        "culprit": pl.Int32,  # null: not captured
        "duration_ns": pl.Int64,  # of the step's length; with the ideal they sum to the measured phase exactly
    }
)

OPS = pl.Schema(
    {
        "rank": pl.Int32,
        "replica": pl.Int32,  # data-parallel replica
        "stage": pl.Int32,  # position along the pipeline
        "chunk": pl.Int32,  # model chunk on the rank; null where it means nothing
        "step": pl.Int32,
        "kind": pl.String,  # forward-compute, backward-compute, forward-send, ..., optimizer
        "sequence": pl.Int32,  # order among the ops of this kind on the rank within the step
        "microbatch": pl.Int32,  # of computations; null elsewhere
        "start_ns": pl.Int64,
        "duration_ns": pl.Int64,
    }
)
