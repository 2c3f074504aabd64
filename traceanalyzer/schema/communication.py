"""Tables of kernels, collectives, messages and clocks."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import KERNEL_KIND, PHASE
from traceanalyzer.schema.columns import (
    BETWEEN_HOSTS,
    CYCLE,
    END,
    GROUP,
    LAUNCH,
    LAYER,
    LINK_SHARE,
    MATCHED_BY,
    RANK,
    SEQUENCE,
    SERVES,
    SERVES_BY,
    START,
    STEP,
    STREAM,
    WAITED_BY,
    WAY,
    Column,
    Columns,
    Table,
    schema_of,
)

MISSING_KERNELS_TABLE = Table(
    name="missing_kernels",
    meaning="One row per launch whose kernel was not recorded, though later ones were.",
    columns={
        "rank": RANK,
        "cycle": CYCLE,
        "step": Column(pl.Int32, "The step whose CPU range holds the launch; null outside steps."),
        "name": Column(pl.String, "Name of the launching call."),
        "launch_start_ns": LAUNCH,
        "launch_end_ns": Column(pl.Int64, "End of the launching call."),
        "correlation": Column(pl.UInt64, "Number that would join the call to its kernel."),
    },
)
MISSING_KERNELS = MISSING_KERNELS_TABLE.schema

KERNELS_TABLE = Table(
    name="kernels",
    meaning="One row per kernel or copy of a device, with its launching call.",
    columns={
        "rank": RANK,
        "cycle": CYCLE,
        "index": Column(pl.Int64, "Position of its event in the file."),
        "step": Column(
            pl.Int32, "The step whose CPU range holds the launch; null without launch record or outside steps."
        ),
        "stream": STREAM,
        "name": Column(pl.Categorical(), "Name of the kernel or copy."),
        "kind": Column(
            KERNEL_KIND, "What it does: `fused` computes and communicates, `barrier` only waits for other ranks."
        ),
        "operation": Column(
            pl.String, "Of communication: `all_reduce`, `send_recv`, ...; of copies: `h2d`, `d2h`, `d2d`."
        ),
        "matched": Column(pl.Boolean, "Whether a rule of the taxonomy knows the name."),
        "start_ns": START,
        "end_ns": END,
        "launch_start_ns": LAUNCH,
        "launch_end_ns": Column(
            pl.Int64, "End of the launching call on the device's clock; where that clock drifts, the earliest possible."
        ),
        "launch_unsure_ns": Column(pl.Int64, "How much later that may have been; null: not at all."),
        "launch_thread": Column(pl.Categorical(), "Host thread of the launching call."),
        "correlation": Column(pl.UInt64, "Number that joins the kernel to its launching call."),
        "in_graph": Column(pl.Boolean, "Whether it was launched with others by one graph launch."),
        "cut": Column(pl.Boolean, "Whether its recorded end was past the next start on its stream, and was put there."),
        "shape": Column(
            pl.Categorical(),
            "Operator and sizes of its factors that launched it; null but for recorded multiplications.",
        ),
    },
)
KERNELS = KERNELS_TABLE.schema

KERNEL_PHASES_TABLE = Table(
    name="kernel_phases",
    meaning="One row per rank, step, phase, stream and kind of kernel: the kernels and their time.",
    columns={
        "rank": RANK,
        "step": STEP,
        "phase": Column(PHASE, "Phase that launched them; null if neither a range nor a thread shows it."),
        "stream": STREAM,
        "kind": Column(KERNEL_KIND, "What the kernels do."),
        "num_kernels": Column(pl.Int64, "Kernels."),
        "duration_ns": Column(pl.Int64, "Their durations, summed, however many run at once."),
        "basis": Column(pl.String, "What shows the phase on this rank: `actions`, `annotations` or `threads`."),
    },
)
KERNEL_PHASES = KERNEL_PHASES_TABLE.schema

COLLECTIVES_COLUMNS: Columns = {
    "rank": RANK,
    "step": STEP,
    "group": Column(pl.String, "Member ranks joined by commas; with `sequence` the join key across ranks."),
    "sequence": SEQUENCE,
    "kind": Column(pl.String, "`all_to_all`, `all_reduce`, ..."),
    "direction": WAY,
    "layer": LAYER,
    "start_ns": Column(pl.Int64, "This rank's arrival."),
    "end_ns": END,
    "send_bytes": Column(pl.Int64, "Bytes that this rank puts in."),
    "receive_bytes": Column(pl.Int64, "Bytes that this rank gets."),
    "send_splits": Column(pl.List(pl.Int64), "Rows to each member, own share included."),
    "receive_splits": Column(pl.List(pl.Int64), "Rows from each member, own share included."),
    "cycle": CYCLE,
    "index": Column(pl.Int64, "Position of its kernel's event in the file; null on CPU traces."),
    "stream": STREAM,
    "role": SERVES,
    "role_source": SERVES_BY,
    "launch_start_ns": LAUNCH,
    "match": Column(pl.UInt64, "Same on all members of one collective; null if it could not be matched."),
    "match_basis": MATCHED_BY,
    "unmatched": Column(pl.String, "Why `match` is null."),
    "num_members": Column(pl.Int32, "Members of the group."),
    "num_present": Column(pl.Int32, "Members whose part was captured."),
    "pg_name": Column(pl.String, "Name of the process group, if recorded."),
    "recorded_sequence": Column(pl.Int64, "The library's own number of the operation in its group."),
    "source": Column(
        pl.String, "Other source of the operation: `flight_recorder`, `nccl_inspector`; null: the trace alone."
    ),
    "state": Column(pl.String, "Its state by that source: `scheduled`, `started` or `completed`."),
    "recorded_duration_ns": Column(pl.Int64, "Its duration by that source."),
    "algorithm": Column(pl.String, "Algorithm, as NCCL Inspector names it."),
    "protocol": Column(pl.String, "Protocol, as NCCL Inspector names it."),
}
COLLECTIVES = schema_of(COLLECTIVES_COLUMNS)

COLLECTIVE_SPLITS_TABLE = Table(
    name="collectives",
    meaning="One row per rank's part in a collective, split into wait and transfer.",
    columns={
        **COLLECTIVES_COLUMNS,
        "wait_ns": Column(pl.Int64, "Waiting for other members; null if unknown."),
        "transfer_ns": Column(pl.Int64, "What is left: the transfer."),
        "basis": WAITED_BY,
        "wait_durations_ns": Column(pl.Int64, "The wait by durations alone; null if that does not apply."),
        "late_rank": Column(pl.Int32, "The latest member that exchanges bytes with this rank."),
        "wait_clock_ns": Column(pl.Int64, "The wait by clocks alone."),
        "wait_low_ns": Column(pl.Int64, "The smallest possible wait, if not all members are known."),
        "wait_high_ns": Column(pl.Int64, "The largest possible wait."),
        "estimated": Column(pl.Boolean, "Whether the transfer was modelled from bytes, not measured."),
        "clock_residual_ns": Column(pl.Int64, "Uncertainty of the clocks in `wait_clock_ns`; null: clocks unknown."),
        "algorithm_bytes_per_second": Column(pl.Float64, "Algorithm bandwidth, as nccl-tests count it."),
        "bus_bytes_per_second": Column(pl.Float64, "Bus bandwidth, as nccl-tests count it."),
        "between_hosts": BETWEEN_HOSTS,
        "link_share": LINK_SHARE,
    },
)
COLLECTIVE_SPLITS = COLLECTIVE_SPLITS_TABLE.schema

P2P_COLUMNS: Columns = {
    "rank": RANK,
    "step": STEP,
    "group": GROUP,
    "direction": Column(pl.Enum(["send", "receive"]), "Whether this end sends or receives."),
    "peer": Column(pl.Int32, "Global rank of the other end."),
    "bytes": Column(pl.Int64, "Size of the message."),
    "start_ns": Column(pl.Int64, "This end's arrival: kernel start on devices, call on CPU."),
    "end_ns": Column(pl.Int64, "End; null if the trace does not hold it (sends of gloo)."),
    "cycle": CYCLE,
    "index": Column(pl.Int64, "Position of its kernel's event in the file; parts of one coalesced kernel share it."),
    "stream": STREAM,
    "coalesced": Column(pl.Boolean, "Whether several messages ran as one kernel."),
    "role": SERVES,
    "role_source": SERVES_BY,
    "launch_start_ns": LAUNCH,
    "match": Column(pl.UInt64, "Same on both ends of one message."),
    "match_basis": MATCHED_BY,
    "unmatched": Column(pl.String, "Why `match` is null."),
}
P2P = schema_of(P2P_COLUMNS)

P2P_SPLITS_TABLE = Table(
    name="p2p",
    meaning="One row per end of a message, split into wait and transfer.",
    columns={
        **P2P_COLUMNS,
        "peer_start_ns": Column(pl.Int64, "The other end's start."),
        "peer_end_ns": Column(pl.Int64, "The other end's end."),
        "wait_ns": Column(pl.Int64, "The wait of this part alone."),
        "transfer_ns": Column(pl.Int64, "The transfer of this part."),
        "wait_dependency_ns": Column(pl.Int64, "Of a receive: the wait until the producer's last computation ended."),
        "wait_late_send_ns": Column(pl.Int64, "Of a receive: the wait from there until the send started."),
        "basis": WAITED_BY,
        "clock_residual_ns": Column(pl.Int64, "Uncertainty of both ends' clocks together; null: clocks unknown."),
        "payload_bytes_per_second": Column(pl.Float64, "Bytes over transfer."),
        "between_hosts": BETWEEN_HOSTS,
        "link_share": LINK_SHARE,
    },
)
P2P_SPLITS = P2P_SPLITS_TABLE.schema

WAIT_BOUNDS_TABLE = Table(
    name="wait_bounds",
    meaning="One row per rank, step and mesh dimension: the bounds of its waiting in communication.",
    columns={
        "rank": RANK,
        "step": STEP,
        "role": SERVES,
        "num_operations": Column(pl.Int64, "Collectives and kernels of messages."),
        "num_sampled": Column(pl.Int64, "Of them, those bounded from below: split, or with at least 7 equal ones."),
        "duration_ns": Column(pl.Int64, "Their durations, summed, those under computation too."),
        "wait_low_ns": Column(pl.Int64, "The smallest possible wait."),
        "wait_high_ns": Column(pl.Int64, "The largest possible wait."),
    },
)
WAIT_BOUNDS = WAIT_BOUNDS_TABLE.schema

PLACED_BYTES_TABLE = Table(
    name="placed_bytes",
    meaning="One row per rank and mesh dimension: what it sends within its host and to others, per step.",
    columns={
        "rank": RANK,
        "role": SERVES,
        "host": Column(pl.String, "Host of the rank; null if unknown."),
        "num_groups": Column(pl.Int64, "Groups of the dimension that the rank is in."),
        "num_crossing": Column(pl.Int64, "Of them, those with members on several hosts; null if a host is unknown."),
        "num_parts": Column(pl.Int64, "Collectives, messages, and parts of all-to-alls by target, of all steps."),
        "num_unknown": Column(pl.Int64, "Of them, those whose size or group is not known: in no sum."),
        "within_bytes": Column(pl.Float64, "Bytes to ranks of the same host, mean over steps."),
        "between_bytes": Column(pl.Float64, "Bytes to ranks of other hosts, mean over steps."),
        "unplaced_bytes": Column(pl.Float64, "Bytes between ranks of which a host is not known, mean over steps."),
    },
)
PLACED_BYTES = PLACED_BYTES_TABLE.schema

COMMUNICATIONS_TABLE = Table(
    name="communications",
    meaning="One row per communication kernel of a device, collectives and (coalesced) messages alike.",
    columns={
        "rank": RANK,
        "step": STEP,
        "cycle": CYCLE,
        "index": Column(pl.Int64, "Position of its event in the file."),
        "stream": STREAM,
        "kind": Column(pl.String, "`p2p`, `all_to_all`, `all_reduce`, ..."),
        "role": SERVES,
        "start_ns": START,
        "end_ns": END,
        "wait_ns": Column(pl.Int64, "Waiting for other ranks; null if unknown."),
        "transfer_ns": Column(pl.Int64, "The rest of its duration."),
        "basis": WAITED_BY,
        "late_rank": Column(pl.Int32, "The rank that was waited for; null if unknown."),
    },
)
COMMUNICATIONS = COMMUNICATIONS_TABLE.schema

CLOCKS_TABLE = Table(
    name="clocks",
    meaning="One row per rank: how its clock was put on the reference's.",
    columns={
        "rank": RANK,
        "reference": Column(pl.Int32, "Rank on whose clock everything is put."),
        "basis": Column(pl.String, "How the clocks were put on one: a word of `quality.clock_basis`."),
        "offset_ns": Column(pl.Int64, "This rank's clock less the reference's, at `at_ns`."),
        "drift_ppm": Column(pl.Float64, "How fast this rank's clock runs away from the reference's."),
        "at_ns": Column(pl.Int64, "The moment at which the offset holds."),
        "residual_ns": Column(pl.Int64, "How far off the offset may be; null if unknown."),
        "applied": Column(pl.Boolean, "Whether the offset was taken off this rank's times."),
        "solved_offset_ns": Column(pl.Int64, "The offset by matched operations alone, whatever was applied."),
        "solved_residual_ns": Column(pl.Int64, "How far off that may be."),
        "num_operations": Column(pl.Int64, "Matched operations that this rank took part in."),
    },
)
CLOCKS = CLOCKS_TABLE.schema
