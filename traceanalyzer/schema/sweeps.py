"""The table of a sweep: one row per point."""

from __future__ import annotations

import polars as pl

SWEEP_POINTS = pl.Schema(
    {
        "status": pl.String,  # done, failed (job or analysis), refused (cannot exist) or waiting (not yet run)
        "reason": pl.String,  # why it is not done
        "num_ranks": pl.Int64,
        "step_ms": pl.Float64,  # median profiled step
        "unprofiled_step_ms": pl.Float64,  # median of the same step without the profiler
        "tokens_per_second": pl.Float64,  # of the whole job, by the profiled step
        "bubble_share": pl.Float64,  # measured dependency ÷ pipeline phase
        "simulated_share": pl.Float64,  # the same of the simulated order with equal stages
        "closed_form_share": pl.Float64,  # the same by the schedule's formula, in its domain
        "bubble_minus_simulated": pl.Float64,  # measured - simulated share
        "phase_ms": pl.Float64,  # pipeline phase
        "peak_in_flight": pl.Int64,  # most microbatches whose activations a rank held, by its own count
        "peak_saved_bytes": pl.Int64,  # most bytes autograd kept for backward on a rank
        "rank_load_max_over_mean": pl.Float64,  # experts: tokens of the fullest rank over the mean
        "imbalance_cost_ms": pl.Float64,  # experts: per step
        "mfu": pl.Float64,
        "validity": pl.String,  # whether the host let the ranks run: faithful, distorted or unknown
        "run": pl.String,  # the run's folder, from the sweep's
    }
)
"""Beside these, one text column per swept option comes first."""
