"""The table of matrix multiplications."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.columns import Column, Table

ROOFLINE_TABLE = Table(
    name="roofline",
    meaning="One row per operator and shape of a matrix multiplication or attention, by the time it loses to its roof.",
    columns={
        "name": Column(pl.String, "Operator, as the profiler recorded it."),
        "kind": Column(
            pl.Enum(["gemm", "attention", "unread"]), "What it computes; `unread`: the shape was not understood."
        ),
        "dtype": Column(pl.String, "Type of its numbers, as the profiler recorded it."),
        "shape": Column(pl.String, "Sizes of the factors, or of query, key and value."),
        "num_calls": Column(pl.Int64, "Calls on all ranks in all steps."),
        "duration_ns": Column(pl.Int64, "Time of these calls."),
        "flops": Column(pl.Int64, "FLOPs by shape; of causal attention half."),
        "bytes": Column(pl.Int64, "Bytes that these calls read and write at least."),
        "flops_per_second": Column(pl.Float64, "FLOPs over time."),
        "roof_flops_per_second": Column(pl.Float64, "The most that peak and memory bandwidth allow; null if unknown."),
        "bound": Column(pl.String, "What bounds the roof: `compute` or `memory`."),
        "roof_share": Column(pl.Float64, "Reached share of the roof."),
        "lost_ns": Column(pl.Int64, "Time beyond what the roof allows."),
    },
)
ROOFLINE = ROOFLINE_TABLE.schema
