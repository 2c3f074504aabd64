"""Tables that sum kernels and communication."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import KERNEL_KIND, ROLE

KERNEL_CLASSES = pl.Schema(
    {
        "rank": pl.Int32,
        "kind": KERNEL_KIND,
        "num_kernels": pl.Int64,  # launched in the rank's steps
        "duration_ns": pl.Int64,  # summed over kernels, however many run at once
        "union_ns": pl.Int64,  # time in which at least one of the kind runs
        "share": pl.Float64,  # of the sum over all kernels of the rank
        "step_share": pl.Float64,  # union ÷ the rank's steps
        "launch_bound_share": pl.Float64,  # of kernels with a known spacing: see KERNEL_NAMES
    }
)

KERNEL_NAMES = pl.Schema(
    {
        "rank": pl.Int32,
        "name": pl.String,
        "kind": KERNEL_KIND,
        "num_kernels": pl.Int64,
        "duration_ns": pl.Int64,  # summed over kernels
        "share": pl.Float64,  # of the sum over all kernels of the rank
        "mean_ns": pl.Float64,
        "min_ns": pl.Int64,
        "max_ns": pl.Int64,
        "num_spaced": pl.Int64,  # kernels whose thread launched another one after them, one by one
        "launch_bound_share": pl.Float64,  # of num_spaced: those shorter than the time from their launch to the next
    }
)

COMMUNICATION_GROUPS = pl.Schema(
    {
        "rank": pl.Int32,
        "dimension": ROLE,  # null: not known what the group serves
        "group": pl.String,  # member ranks joined by commas; null: not known
        "num_ranks": pl.Int32,  # of the group
        "num_operations": pl.Int64,
        "duration_ns": pl.Int64,  # time in which at least one operation runs, cut at the rank's steps
        "wait_ns": pl.Int64,  # summed over operations; null where one of them cannot be split
        "transfer_ns": pl.Int64,  # likewise
        "overlapped_ns": pl.Int64,  # of duration_ns, under computing kernels; null on CPU
        "exposed_ns": pl.Int64,  # the rest; operations of several groups at once are exposed in each
        "num_windows": pl.Int64,  # steps of the rank
        "window_ns": pl.Int64,  # their length together
        "bus_bytes_per_second": pl.Float64,  # nccl-tests' busbw, median over operations
    }
)

BANDWIDTHS = pl.Schema(
    {
        "dimension": ROLE,
        "kind": pl.String,  # all_reduce, all_to_all, ..., p2p
        "num_ranks": pl.Int32,  # of the group
        "between_hosts": pl.Boolean,  # null: hosts are not known
        "from_bytes": pl.Int64,  # operations of this size to less than twice as much
        "num_operations": pl.Int64,  # of all ranks
        "mean_bytes": pl.Float64,  # nccl-tests' size; of messages their payload
        "median_transfer_ns": pl.Float64,
        "algorithm_bytes_per_second": pl.Float64,  # median
        "bus_bytes_per_second": pl.Float64,  # median; of messages as algorithm_bytes_per_second
        "min_bus_bytes_per_second": pl.Float64,
        "max_bus_bytes_per_second": pl.Float64,
        "link_share": pl.Float64,  # median of bus bandwidth ÷ peak of the link; null where the peak is unknown
    }
)

RANK_SUMMARY = pl.Schema(
    {
        "rank": pl.Int32,
        "num_steps": pl.Int64,
        "median_step_ns": pl.Int64,  # of the rank's own windows
        "compute_share": pl.Float64,  # owners' shares of the rank's steps; they sum to 1
        "transfer_share": pl.Float64,
        "wait_share": pl.Float64,
        "communication_share": pl.Float64,
        "copy_share": pl.Float64,
        "queued_share": pl.Float64,
        "launch_gap_share": pl.Float64,
        "host_share": pl.Float64,
        "unknown_share": pl.Float64,
        "num_kernels": pl.Int64,  # launched in these steps
        "kernel_ns": pl.Int64,  # summed over kernels
        "busy_ns": pl.Int64,  # time in which at least one runs, cut at the steps
    }
)
