"""Tables of kernels, collectives, messages and clocks."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import BASIS, DIRECTION, KERNEL_KIND, MATCH_BASIS, PHASE, ROLE

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
        "cut": pl.Boolean,  # the recorded end was past the next start on its stream, and was put there
    }
)

KERNEL_PHASES = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "phase": PHASE,  # F, B, I, W; null: no range and no thread tells
        "stream": pl.Int64,
        "kind": KERNEL_KIND,
        "num_kernels": pl.Int64,
        "duration_ns": pl.Int64,  # summed over kernels, however many run at once
        "basis": pl.String,  # what tells the phase on this rank: actions, annotations, threads
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
        "pg_name": pl.String,  # of the group, where recorded
        "recorded_sequence": pl.Int64,  # the library's own number of the operation in its group
        "source": pl.String,  # what else tells of it: flight_recorder, nccl_inspector; null: the trace alone
        "state": pl.String,  # by that source: scheduled, started, completed
        "recorded_duration_ns": pl.Int64,  # by that source
        "algorithm": pl.String,  # as NCCL Inspector names it
        "protocol": pl.String,
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

WAIT_BOUNDS = pl.Schema(
    {
        "rank": pl.Int32,
        "step": pl.Int32,
        "role": ROLE,
        "num_operations": pl.Int64,  # collectives and kernels of messages
        "num_sampled": pl.Int64,  # of them, those bounded from below: split, or with at least 7 equal ones
        "duration_ns": pl.Int64,  # summed over operations, those under computation too
        "wait_low_ns": pl.Int64,
        "wait_high_ns": pl.Int64,
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
        "basis": pl.String,  # single_rank, same_boot, same_host, recorded, matched, one_file, unknown
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
