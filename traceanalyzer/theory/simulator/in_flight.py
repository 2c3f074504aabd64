"""Activations that a pipeline holds over time: measured actions or simulated ones, the rule is the same.

An activation is kept from the start of its forward. A full backward frees it at its end. Of a split backward the
input-gradient frees the share that only it needs, the weight-gradient the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

IN_FLIGHT = pl.Schema(
    {
        "rank": pl.Int32,
        "stage": pl.Int32,
        "at_ns": pl.Int64,  # when it changed
        "in_flight": pl.Int64,  # microbatches whose activations the stage holds from then on
        "bytes": pl.Int64,  # what they take
        "rank_in_flight": pl.Int64,  # the same over all stages of the rank
        "rank_bytes": pl.Int64,
    }
)


def in_flight(
    actions: pl.DataFrame, stage_bytes: Sequence[int] | int = 0, input_gradient_share: float = 0.0
) -> pl.DataFrame:
    """Every change, in the `IN_FLIGHT` schema, in order on each rank.

    `actions` has the `ACTIONS` schema and one step; `stage_bytes` is what one microbatch keeps on a stage (one number
    for all, or one per stage); `input_gradient_share` of it is freed by a split backward's input-gradient.
    """
    phase = pl.col("phase").cast(pl.String)
    ends_forward, splits = phase == "F", phase == "I"
    sizes = pl.col("stage").cast(pl.Int64)
    kept = pl.lit(stage_bytes, pl.Int64) if isinstance(stage_bytes, int) else sizes.replace_strict(
        dict(enumerate(stage_bytes)), return_dtype=pl.Int64
    )  # fmt: skip
    early = (kept * input_gradient_share).floor().cast(pl.Int64)
    has_split = splits.any().over("stage", "microbatch")
    freed = pl.when(splits).then(early).when(has_split).then(kept - early).otherwise(kept)
    changes = (
        actions.lazy()
        .with_columns(
            at_ns=pl.when(ends_forward).then("start_ns").otherwise("end_ns"),
            step_count=pl.when(ends_forward).then(1).when(splits).then(0).otherwise(-1),
            step_bytes=pl.when(ends_forward).then(kept).otherwise(-freed),
            freeing=~ends_forward,
        )
        .sort("rank", "at_ns", "position", "freeing")
    )
    return changes.select(
        "rank",
        "stage",
        "at_ns",
        in_flight=pl.col("step_count").cum_sum().over("rank", "stage").cast(pl.Int64),
        bytes=pl.col("step_bytes").cum_sum().over("rank", "stage"),
        rank_in_flight=pl.col("step_count").cum_sum().over("rank").cast(pl.Int64),
        rank_bytes=pl.col("step_bytes").cum_sum().over("rank"),
    ).collect()


def peaks(changes: pl.DataFrame) -> pl.DataFrame:
    """Columns rank, peak_in_flight (stages' worth of microbatches) and peak_bytes, by rank, from `in_flight`."""
    return (
        changes.group_by("rank")
        .agg(peak_in_flight=pl.col("rank_in_flight").max(), peak_bytes=pl.col("rank_bytes").max())
        .sort("rank")
    )
