"""Tables that sum kernels and communication."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.categories import KERNEL_KIND
from traceanalyzer.schema.columns import BETWEEN_HOSTS, LINK_SHARE, RANK, SERVES, Column, Table

KERNEL_CLASSES_TABLE = Table(
    name="kernel_classes",
    meaning="One row per rank and kind of kernel: the kernels of its steps and their time.",
    columns={
        "rank": RANK,
        "kind": Column(KERNEL_KIND, "What the kernels do."),
        "num_kernels": Column(pl.Int64, "Kernels that were launched in the rank's steps."),
        "duration_ns": Column(pl.Int64, "Their durations, summed, however many run at once."),
        "union_ns": Column(pl.Int64, "Time in which at least one of the kind runs."),
        "share": Column(pl.Float64, "Share of the summed time of all kernels of the rank."),
        "step_share": Column(pl.Float64, "That time over the rank's steps."),
        "launch_bound_share": Column(
            pl.Float64,
            "Share of the kernels with a known spacing that are shorter than the time from their launch to the next.",
        ),
    },
)
KERNEL_CLASSES = KERNEL_CLASSES_TABLE.schema

KERNEL_NAMES_TABLE = Table(
    name="kernel_names",
    meaning="One row per rank and name of a kernel: the kernels of its steps and their time.",
    columns={
        "rank": RANK,
        "name": Column(pl.String, "Name of the kernel."),
        "kind": Column(KERNEL_KIND, "What the kernel does."),
        "num_kernels": Column(pl.Int64, "Kernels of this name that were launched in the rank's steps."),
        "duration_ns": Column(pl.Int64, "Their durations, summed."),
        "share": Column(pl.Float64, "Share of the summed time of all kernels of the rank."),
        "mean_ns": Column(pl.Float64, "Mean duration."),
        "min_ns": Column(pl.Int64, "Shortest duration."),
        "max_ns": Column(pl.Int64, "Longest duration."),
        "num_spaced": Column(pl.Int64, "Kernels whose thread launched another one after them, one by one."),
        "launch_bound_share": Column(
            pl.Float64, "Share of these that are shorter than the time from their launch to the next."
        ),
    },
)
KERNEL_NAMES = KERNEL_NAMES_TABLE.schema

COMMUNICATION_GROUPS_TABLE = Table(
    name="communication_groups",
    meaning="One row per rank and group: its communication, and how much of it computation covers.",
    columns={
        "rank": RANK,
        "dimension": SERVES,
        "group": Column(pl.String, "Member ranks joined by commas; null if unknown."),
        "num_ranks": Column(pl.Int32, "Members of the group."),
        "num_operations": Column(pl.Int64, "Operations of the group on this rank."),
        "duration_ns": Column(pl.Int64, "Time in which at least one operation runs, cut at the rank's steps."),
        "wait_ns": Column(pl.Int64, "Waiting, summed over operations; null if one of them cannot be split."),
        "transfer_ns": Column(pl.Int64, "Transfer, summed over operations; null if one of them cannot be split."),
        "overlapped_ns": Column(pl.Int64, "Of `duration_ns`, the part under computing kernels; null on CPU."),
        "exposed_ns": Column(pl.Int64, "The rest of it; operations of several groups at once are exposed in each."),
        "num_windows": Column(pl.Int64, "Steps of the rank."),
        "window_ns": Column(pl.Int64, "Length of these steps together."),
        "bus_bytes_per_second": Column(pl.Float64, "Bus bandwidth, as nccl-tests count it, median over operations."),
    },
)
COMMUNICATION_GROUPS = COMMUNICATION_GROUPS_TABLE.schema

BANDWIDTHS_TABLE = Table(
    name="bandwidths",
    meaning="One row per dimension, kind, number of ranks and size of an operation: what bandwidth it reached.",
    columns={
        "dimension": SERVES,
        "kind": Column(pl.String, "Kind of operation: `all_reduce`, `all_to_all`, ..., `p2p`."),
        "num_ranks": Column(pl.Int32, "Members of the group."),
        "between_hosts": BETWEEN_HOSTS,
        "from_bytes": Column(pl.Int64, "Operations of this size to less than twice as much."),
        "num_operations": Column(pl.Int64, "Operations of all ranks."),
        "mean_bytes": Column(pl.Float64, "Mean size, as nccl-tests count it; of messages their payload."),
        "median_transfer_ns": Column(pl.Float64, "Median transfer."),
        "algorithm_bytes_per_second": Column(pl.Float64, "Algorithm bandwidth, as nccl-tests count it, median."),
        "bus_bytes_per_second": Column(
            pl.Float64, "Bus bandwidth, as nccl-tests count it, median; of messages that of the algorithm."
        ),
        "min_bus_bytes_per_second": Column(pl.Float64, "Smallest bus bandwidth."),
        "max_bus_bytes_per_second": Column(pl.Float64, "Largest bus bandwidth."),
        "link_share": LINK_SHARE,
    },
)
BANDWIDTHS = BANDWIDTHS_TABLE.schema

RANK_SUMMARY_TABLE = Table(
    name="rank_summary",
    meaning="One row per rank: its steps, its owners' shares and its kernels.",
    columns={
        "rank": RANK,
        "num_steps": Column(pl.Int64, "Steps of the rank."),
        "median_step_ns": Column(pl.Int64, "Median of the rank's own windows."),
        "compute_share": Column(pl.Float64, "Share of the rank's steps whose owner is `compute`."),
        "transfer_share": Column(pl.Float64, "Share of the rank's steps whose owner is `transfer`."),
        "wait_share": Column(pl.Float64, "Share of the rank's steps whose owner is `wait`."),
        "communication_share": Column(pl.Float64, "Share of the rank's steps whose owner is `communication`."),
        "copy_share": Column(pl.Float64, "Share of the rank's steps whose owner is `copy`."),
        "queued_share": Column(pl.Float64, "Share of the rank's steps whose owner is `queued`."),
        "launch_gap_share": Column(pl.Float64, "Share of the rank's steps whose owner is `launch_gap`."),
        "host_share": Column(pl.Float64, "Share of the rank's steps whose owner is `host`."),
        "unknown_share": Column(pl.Float64, "Share of the rank's steps whose owner is `unknown`."),
        "num_kernels": Column(pl.Int64, "Kernels that were launched in these steps."),
        "kernel_ns": Column(pl.Int64, "Their durations, summed."),
        "busy_ns": Column(pl.Int64, "Time in which at least one runs, cut at the steps."),
    },
)
RANK_SUMMARY = RANK_SUMMARY_TABLE.schema
