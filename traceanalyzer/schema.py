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
    ["compute", "transfer", "wait", "communication", "copy", "queued", "launch_gap", "host", "unknown"],
)
"""Owners of the accounting law, in order of precedence; `communication` is transfer or wait, not separable."""
DIRECTION = pl.Enum(["dispatch", "combine", "combine_backward", "dispatch_backward", "count_exchange", "other"])
BASIS = pl.Enum(["durations", "clock", "own_min", "none"])
KERNEL_KIND = pl.Enum(["gemm", "attention", "other", "fused", "communication", "barrier", "copy"])
"""What a device operation does; `fused` computes and communicates, `barrier` only waits for other ranks."""
ROLE = pl.Enum(["pp", "ep", "cp", "tp", "dp", "world"])
"""The mesh dimension a communication serves; `world` is the whole job."""
MATCH_BASIS = pl.Enum(["communicator_id", "sequence", "order", "none"])

CAUSE = pl.Enum(
    [
        "stage",
        "straggler",
        "transfer",
        "chunk_comm",
        "host",
        "jitter",
        "slack",
        "outside_sample",
        "unexplained",
    ]
)
"""What can make a pipeline step longer than its ideal."""

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

KERNELS = pl.Schema(
    {
        "rank": pl.Int32,
        "cycle": pl.Int32,
        "index": pl.Int64,  # of the event
        "step": pl.Int32,  # the step whose CPU range holds the launch; null without launch record or outside steps
        "stream": pl.Int64,
        "name": pl.Categorical(),
        "kind": KERNEL_KIND,
        "operation": pl.String,  # of communication: all_reduce, send_recv, ...; h2d, d2h, d2d of copies
        "matched": pl.Boolean,  # a rule of the taxonomy knows the name
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "launch_start_ns": pl.Int64,  # of the launching call; null without launch record
        "launch_end_ns": pl.Int64,
        "launch_thread": pl.Categorical(),
        "correlation": pl.UInt64,
        "in_graph": pl.Boolean,  # launched with others by one graph launch
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
        "cycle": pl.Int32,
        "index": pl.Int64,  # of the kernel (KERNELS) or, on CPU traces, null
        "stream": pl.Int64,
        "role": ROLE,
        "role_source": pl.String,  # description, job, use
        "launch_start_ns": pl.Int64,
        "match": pl.UInt64,  # same on all members of one collective; null where it could not be matched
        "match_basis": MATCH_BASIS,
        "unmatched": pl.String,  # why `match` is null
        "num_members": pl.Int32,  # of the group
        "num_present": pl.Int32,  # members whose part was captured
    }
)

P2P = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "group": pl.String,
        "direction": pl.Enum(["send", "receive"]),
        "peer": pl.Int32,  # global rank of the other end
        "bytes": pl.Int64,
        "start_ns": pl.Int64,  # this end's arrival: kernel start on devices, call on CPU
        "end_ns": pl.Int64,  # null where the trace does not tell (sends of gloo)
        "cycle": pl.Int32,
        "index": pl.Int64,  # of the kernel; parts of one coalesced kernel share it
        "stream": pl.Int64,
        "coalesced": pl.Boolean,
        "role": ROLE,
        "role_source": pl.String,
        "launch_start_ns": pl.Int64,
        "match": pl.UInt64,  # same on both ends of one message
        "match_basis": MATCH_BASIS,
        "unmatched": pl.String,
    }
)

P2P_SPLITS = pl.Schema(
    {
        **P2P,
        "peer_start_ns": pl.Int64,
        "peer_end_ns": pl.Int64,
        "wait_ns": pl.Int64,  # of this part alone
        "transfer_ns": pl.Int64,
        "wait_dependency_ns": pl.Int64,  # of a receive: until the producer's last computation ended
        "wait_late_send_ns": pl.Int64,  # of a receive: from there until the send started
        "basis": BASIS,
        "clock_residual_ns": pl.Int64,  # uncertainty of both ends' clocks together; null: clocks unknown
        "payload_bytes_per_second": pl.Float64,
        "between_hosts": pl.Boolean,
        "link_share": pl.Float64,  # of the link's peak; null where the peak is unknown
    }
)

COMMUNICATIONS = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "cycle": pl.Int32,
        "index": pl.Int64,  # of the kernel
        "stream": pl.Int64,
        "kind": pl.String,  # p2p, all_to_all, all_reduce, ...
        "role": ROLE,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "wait_ns": pl.Int64,  # null where it cannot be told
        "transfer_ns": pl.Int64,
        "basis": BASIS,
        "late_rank": pl.Int32,
    }
)
"""One row per communication kernel of a device: collectives and (coalesced) point-to-point alike."""

CLOCKS = pl.Schema(
    {
        "rank": pl.Int32,
        "reference": pl.Int32,  # rank on whose clock everything is put
        "basis": pl.String,  # reference, same_host, recorded, matched, unknown
        "offset_ns": pl.Int64,  # this rank's clock less the reference's, at `at_ns`
        "drift_ppm": pl.Float64,
        "at_ns": pl.Int64,
        "residual_ns": pl.Int64,  # how far off the offset may be; null where unknown
        "applied": pl.Boolean,  # the offset was taken off this rank's times
        "solved_offset_ns": pl.Int64,  # what matched operations alone say, whatever was applied
        "solved_residual_ns": pl.Int64,
        "num_operations": pl.Int64,  # matched operations that speak about this rank
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
        "wait_clock_ns": pl.Int64,  # the `clock` basis beside it
        "wait_low_ns": pl.Int64,  # bounds where not all members are known
        "wait_high_ns": pl.Int64,
        "estimated": pl.Boolean,  # the transfer was modelled from bytes, not measured
        "clock_residual_ns": pl.Int64,  # uncertainty of the clocks in `wait_clock_ns`; null: clocks unknown
        "algorithm_bytes_per_second": pl.Float64,  # nccl-tests' algbw
        "bus_bytes_per_second": pl.Float64,  # nccl-tests' busbw
        "between_hosts": pl.Boolean,
        "link_share": pl.Float64,  # bus bandwidth ÷ peak of the link; null where the peak is unknown
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
        "peak_in_flight": pl.Int64,
        "peak_saved_bytes": pl.Int64,
        "peak_allocated_bytes": pl.Int64,
        "peak_reserved_bytes": pl.Int64,
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

TRAFFIC = pl.Schema(
    {
        "step": pl.Int32,
        "group": pl.String,
        "sequence": pl.Int32,
        "layer": pl.Int32,
        "direction": DIRECTION,
        "source": pl.Int32,  # global rank
        "target": pl.Int32,
        "tokens": pl.Int64,  # rows; null where the call split its input evenly without saying how many rows it has
        "bytes": pl.Int64,
        "agrees": pl.Boolean,  # sender's and receiver's lists say the same; null where only one side was captured
    }
)

LOAD_STATISTICS = pl.Schema(
    {
        "step": pl.Int32,
        "layer": pl.Int32,
        "group": pl.String,
        "unit": pl.String,  # rank or expert
        "side": pl.String,  # received or sent
        "num": pl.Int32,  # members
        "tokens": pl.Int64,  # of all members
        "max_over_mean": pl.Float64,
        "max_vio": pl.Float64,
        "cv": pl.Float64,  # population
        "gini": pl.Float64,
        "entropy_share": pl.Float64,  # entropy over its maximum: 1 is even
        "num_effective": pl.Float64,  # exp(entropy)
        "num_idle": pl.Int32,  # members without a token
        "hottest": pl.Int32,  # the member with most tokens; the smallest of several
    }
)

EXPERT_CHAIN = pl.Schema(
    {
        "step": pl.Int32,
        "layer": pl.Int32,
        "group": pl.String,
        "rank": pl.Int32,
        "sent_tokens": pl.Int64,  # copies, own share included
        "received_tokens": pl.Int64,
        "load_over_mean": pl.Float64,  # received tokens over the group's mean
        "dispatch_sent_bytes": pl.Int64,  # over a link: own share left out
        "dispatch_received_bytes": pl.Int64,
        "dispatch_wait_ns": pl.Int64,
        "dispatch_transfer_ns": pl.Int64,
        "experts_ns": pl.Int64,
        "combine_wait_ns": pl.Int64,
        "combine_transfer_ns": pl.Int64,
        "combine_late_rank": pl.Int32,  # whom the rank waited for at combine
        "combine_caused_wait_ns": pl.Int64,  # wait of the others for this rank at combine
        "combine_backward_wait_ns": pl.Int64,
        "experts_backward_ns": pl.Int64,
        "dispatch_backward_wait_ns": pl.Int64,
        "dispatch_backward_caused_wait_ns": pl.Int64,
    }
)

EXCHANGES = pl.Schema(
    {
        "step": pl.Int32,
        "group": pl.String,
        "sequence": pl.Int32,
        "layer": pl.Int32,
        "direction": DIRECTION,
        "skew_ns": pl.Int64,  # last arrival less first arrival
        "late_rank": pl.Int32,  # the last to arrive
        "lead_ns": pl.Int64,  # its arrival after the next to last one
        "transfer_ns": pl.Int64,  # longest transfer of a member
        "slow_rank": pl.Int32,  # the member with the longest transfer
        "expected_ns": pl.Int64,  # transfer of that member at the run's own latency and rate; null where not known
        "wait_ns": pl.Int64,  # summed over members
        "cause": pl.String,  # even, compute, communication, mixed
    }
)

EXPERT_BLAME = pl.Schema(
    {
        "step": pl.Int32,
        "group": pl.String,
        "sequence": pl.Int32,
        "layer": pl.Int32,
        "direction": DIRECTION,
        "waiter": pl.Int32,
        "culprit": pl.Int32,
        "cause": pl.String,  # experts, other_compute, transfer, host, before
        "duration_ns": pl.Int64,
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

TABLES: dict[str, pl.Schema] = {
    "events": EVENTS,
    "ranks": RANKS,
    "defects": DEFECTS,
    "steps": STEPS,
    "actions": ACTIONS,
    "receives": RECEIVES,
    "kernels": KERNELS,
    "p2p": P2P_SPLITS,
    "communications": COMMUNICATIONS,
    "clocks": CLOCKS,
    "collectives": COLLECTIVE_SPLITS,
    "routing": ROUTING,
    "step_records": STEP_RECORDS,
    "accounting": ACCOUNTING,
    "bubble": BUBBLE,
    "blame": BLAME,
    "attribution": ATTRIBUTION,
    "ops": OPS,
    "traffic": TRAFFIC,
    "load_statistics": LOAD_STATISTICS,
    "expert_chain": EXPERT_CHAIN,
    "exchanges": EXCHANGES,
    "expert_blame": EXPERT_BLAME,
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
