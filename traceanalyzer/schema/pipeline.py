"""Tables of steps, pipeline actions, where time went and why."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import APART_REASON, CAUSE, OWNER, PHASE, STEP_PHASE
from traceanalyzer.schema.columns import END, PIPELINE, RANK, START, STEP, Column, Columns, Table, schema_of

STEPS_TABLE = Table(
    name="steps",
    meaning="One row per rank and step: its window on the ranks' common clock.",
    columns={
        "rank": RANK,
        "step": STEP,
        "start_ns": START,
        "end_ns": END,
        "open_end": Column(pl.Boolean, "Whether no following step bounds the window's end."),
        "open_start": Column(pl.Boolean, "Whether the capture began inside the step."),
        "is_typical": Column(pl.Boolean, "Whether the figures include this step."),
        "num_missing_kernels": Column(pl.Int64, "Launches in the step whose kernel was not recorded; null: no device."),
        "set_apart": Column(APART_REASON, "Why it is not typical; null: it is."),
    },
)
STEPS = STEPS_TABLE.schema

ACTIONS_TABLE = Table(
    name="actions",
    meaning="One row per pipeline action: a phase of one microbatch on one stage.",
    columns={
        "rank": RANK,
        "step": STEP,
        "position": Column(pl.Int32, "Order on the rank within the step."),
        "stage": Column(pl.Int32, "Stage of the model that the action computes."),
        "phase": Column(PHASE, "F forward, B full backward, I input-gradient, W weight-gradient."),
        "microbatch": Column(pl.Int32, "Microbatch that the action computes."),
        "start_ns": START,
        "end_ns": END,
        "release_ns": Column(pl.Int64, "When its output is handed on; null: at its end."),
    },
)
ACTIONS = ACTIONS_TABLE.schema

RECEIVES_COLUMNS: Columns = {
    "rank": RANK,
    "step": STEP,
    "start_ns": Column(pl.Int64, "When it was posted."),
    "end_ns": Column(pl.Int64, "When its wait returned."),
    "bytes": Column(pl.Int64, "Size of the message."),
}
RECEIVES = schema_of(RECEIVES_COLUMNS)

PASSES_COLUMNS: Columns = {
    "rank": RANK,
    "step": STEP,
    "phase": Column(PHASE, "F or B; I and W if ranges name them."),
    "start_ns": START,
    "end_ns": END,
}
PASSES = schema_of(PASSES_COLUMNS)

IDEAL_ACTIONS_TABLE = Table(
    name="ideal_actions",
    meaning="One row per pipeline action as the same order would run with medians, free transfer and no host delay.",
    columns=ACTIONS_TABLE.columns,
)

OPTIMIZER = schema_of({"rank": RANK, "start_ns": START, "end_ns": END})

ACCOUNTING_TABLE = Table(
    name="accounting",
    meaning="One row per rank, step, owner, cause and phase: what every nanosecond went to.",
    columns={
        "rank": RANK,
        "step": STEP,
        "owner": Column(OWNER, "What the time went to; every nanosecond of a step has one owner."),
        "cause": Column(pl.String, "Of waits: dependency or collective; of computation: action or other."),
        "phase": Column(STEP_PHASE, "What the step was doing."),
        "duration_ns": Column(pl.Int64, "Time of this owner, cause and phase."),
    },
)
ACCOUNTING = ACCOUNTING_TABLE.schema

OWNER_SEGMENTS_TABLE = Table(
    name="owner_segments",
    meaning="One row per stretch of a step with one owner, on ranks without device; they tile every step.",
    columns={
        "rank": RANK,
        "step": STEP,
        "label": Column(pl.String, "Owner and cause: `wait/receive`."),
        "start_ns": Column(pl.Int64, "Start of the stretch."),
        "end_ns": Column(pl.Int64, "End of the stretch."),
    },
)
OWNER_SEGMENTS = OWNER_SEGMENTS_TABLE.schema

BUBBLE_TABLE = Table(
    name="bubble",
    meaning="One row per rank and step: what its time outside chunks consists of.",
    columns={
        "rank": RANK,
        "step": STEP,
        "pipeline": PIPELINE,
        "phase_start_ns": Column(pl.Int64, "Start of the pipeline phase."),
        "phase_ns": Column(pl.Int64, "Pipeline phase: first forward start to last backward end over the pipeline."),
        "span_ns": Column(pl.Int64, "This rank's own window, first action start to last action end."),
        "chunk_ns": Column(pl.Int64, "Sum of its chunk spans."),
        "warmup_ns": Column(pl.Int64, "Dependency before the rank's first action."),
        "steady_ns": Column(pl.Int64, "Dependency between the rank's actions."),
        "drain_ns": Column(pl.Int64, "Dependency after the rank's last action."),
        "transfer_ns": Column(pl.Int64, "Exposed transfer; null on gloo."),
        "overhead_ns": Column(pl.Int64, "Idle time that neither dependency nor transfer explains."),
        "dp_wait_ns": Column(pl.Int64, "Exposed communication between replicas, until the last of them had arrived."),
        "dp_transfer_ns": Column(
            pl.Int64, "Exposed communication between replicas from there on; all of it if the wait is unknown."
        ),
        "chunk_dp_ns": Column(pl.Int64, "The same inside chunk spans, and so a part of `chunk_ns`."),
        "span_dependency_ns": Column(pl.Int64, "Dependency inside the rank's own window."),
    },
)
BUBBLE = BUBBLE_TABLE.schema

BLAME_TABLE = Table(
    name="blame",
    meaning="One row per step, waiting rank, cause and culprit: what pipeline ranks waited for.",
    columns={
        "pipeline": PIPELINE,
        "step": STEP,
        "waiter": Column(pl.Int32, "The rank that waited."),
        "cause": Column(CAUSE, "What made it so."),
        "culprit": Column(pl.Int32, "The rank that kept it waiting; null: not captured."),
        "duration_ns": Column(pl.Int64, "The part of the waiting."),
    },
)
BLAME = BLAME_TABLE.schema

ATTRIBUTION_TABLE = Table(
    name="attribution",
    meaning="One row per step, cause and culprit: what makes the step longer than its ideal.",
    columns={
        "pipeline": PIPELINE,
        "step": STEP,
        "cause": Column(CAUSE, "What made it so."),
        "culprit": Column(pl.Int32, "The rank that caused it; null: not captured."),
        "duration_ns": Column(
            pl.Int64, "The part of the step's length; with the ideal they sum to the measured phase exactly."
        ),
    },
)
ATTRIBUTION = ATTRIBUTION_TABLE.schema

OPS_TABLE = Table(
    name="ops",
    meaning="One row per operation of a pipeline, as an op table that can be read back.",
    columns={
        "rank": RANK,
        "replica": Column(pl.Int32, "Data-parallel replica."),
        "stage": Column(pl.Int32, "Position along the pipeline."),
        "chunk": Column(pl.Int32, "Model chunk on the rank; null if it does not apply."),
        "step": STEP,
        "kind": Column(
            pl.String, "What it does: `forward-compute`, `backward-compute`, `forward-send`, ..., `optimizer`."
        ),
        "sequence": Column(pl.Int32, "Order among the ops of this kind on the rank within the step."),
        "microbatch": Column(pl.Int32, "Microbatch of a computation; null elsewhere."),
        "start_ns": START,
        "duration_ns": Column(pl.Int64, "Duration."),
    },
)
OPS = OPS_TABLE.schema
