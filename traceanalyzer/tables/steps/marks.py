"""Steps of ranks without step ranges whose events show the training iteration in their arguments."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import STEPS, conform
from traceanalyzer.tables.actions.label_arguments import iteration

_SAYS = '"iteration"|"train_step"|"global_step"'
MIN_IN_STEP_SHARE = 0.5
"""Of a rank's timed events: where fewer show an iteration, it is not a number of the loop."""


def with_iterations(windows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """`STEPS` in which ranks with a single window of unknown end have one per iteration that their events show.

    An iteration runs from its first event, instants included, to the first of the next, the last one to its last event. An
    iteration that begins before the one before it is over is not cut out; then the window stays whole.
    """
    whole = windows.filter(pl.col("open_end") & (pl.len().over("rank") == 1))
    timed = events.filter(pl.col("start_ns").is_not_null() & pl.col("ph").is_in(["X", "i", "I"])).join(
        whole, on="rank", how="semi"
    )
    if timed.is_empty() or not timed["args"].str.contains(_SAYS).any():
        return windows
    spans = (
        timed.with_columns(iteration().alias("step"))
        .filter(pl.col("step").is_not_null().mean().over("rank") >= MIN_IN_STEP_SHARE)
        .filter(pl.col("step").is_not_null())
        .group_by("rank", "step")
        .agg(pl.col("start_ns").min(), (pl.col("start_ns") + pl.col("duration_ns")).max().alias("end_ns"))
        .sort("rank", "start_ns")
        .with_columns(pl.col("start_ns").shift(-1).over("rank").alias("_next"), pl.lit(value=False).alias("open_end"))
    )
    apart = (pl.col("_next").is_null() | (pl.col("end_ns") <= pl.col("_next"))).all().over("rank")
    found = spans.filter(apart).with_columns(pl.coalesce("_next", "end_ns").alias("end_ns"))
    return pl.concat([windows.join(found, on="rank", how="anti"), conform(found, STEPS)]).sort("rank", "start_ns")
