"""The ledger's second axis: what a rank's step is doing at every nanosecond, whoever owns it.

In order of precedence, a nanosecond of a step window is

* `F`, `B`, `I`, `W`: inside a chunk, that is a compute action from its first to its last moment, waits inside it included;
* `optimizer`: inside the optimizer;
* `grad_sync`: inside an all-reduce or reduce-scatter over the replicas or the whole job, after the step's last chunk;
* `before_chunks`, `between_chunks`: before the rank's first chunk of the step (a pipeline filling up, loading of data),
  between its first and its last;
* `other`: anything else, and all of a step without chunks, optimizer and gradient exchange.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import clip, sweep, union
from traceanalyzer.schema import STEP_PHASE

_KEYS = ["rank", "step"]
_REDUCTIONS = ["all_reduce", "reduce_scatter", "reduce"]
_REPLICATED = ["dp", "world"]
PHASES: tuple[str, ...] = tuple(STEP_PHASE.categories)


def step_phases(
    windows: pl.DataFrame, chunks: pl.DataFrame, optimizer: pl.DataFrame, reductions: pl.DataFrame
) -> pl.DataFrame:
    """Segments `rank`, `step`, `label` (of `STEP_PHASE`), `start_ns`, `end_ns` that tile every window.

    Args:
        windows: `STEPS`; windows of length zero have no segment.
        chunks: `rank`, `phase` (F, B, I, W), `start_ns`, `end_ns`; cut at the windows, they may overlap.
        optimizer: `OPTIMIZER`.
        reductions: `rank`, `start_ns`, `end_ns` of exchanges of gradients, wherever in the step.
    """
    bounds = windows.select(*_KEYS, "start_ns", "end_ns").filter(pl.col("end_ns") > pl.col("start_ns"))

    def within(intervals: pl.DataFrame) -> pl.DataFrame:
        return clip(intervals, bounds, ["rank"]).select(*_KEYS, "label", "start_ns", "end_ns")

    inside = within(chunks.select("rank", pl.col("phase").cast(pl.String).alias("label"), "start_ns", "end_ns"))
    extent = inside.group_by(_KEYS).agg(pl.col("start_ns").min().alias("_first"), pl.col("end_ns").max().alias("_last"))
    stepped = bounds.join(extent, on=_KEYS)
    before = stepped.select(
        *_KEYS, pl.lit("before_chunks").alias("label"), "start_ns", pl.col("_first").alias("end_ns")
    )
    between = stepped.select(
        *_KEYS,
        pl.lit("between_chunks").alias("label"),
        pl.col("_first").alias("start_ns"),
        pl.col("_last").alias("end_ns"),
    )
    updating = within(optimizer.select("rank", pl.lit("optimizer").alias("label"), "start_ns", "end_ns"))
    exchanged = within(reductions.select("rank", pl.lit("grad_sync").alias("label"), "start_ns", "end_ns"))
    after = exchanged.join(extent, on=_KEYS).select(
        *_KEYS, "label", pl.max_horizontal("start_ns", "_last").alias("start_ns"), "end_ns"
    )
    labelled = union(pl.concat([inside, updating, after, before, between]), [*_KEYS, "label"])
    return sweep(labelled, bounds, _KEYS, PHASES).with_columns(pl.col("label").fill_null("other"))


def gradient_exchanges(collectives: pl.DataFrame) -> pl.DataFrame:
    """Collectives that may exchange gradients: `rank`, `start_ns`, `end_ns`. `collectives` is `COLLECTIVES`."""
    return collectives.filter(
        pl.col("kind").is_in(_REDUCTIONS) & pl.col("role").cast(pl.String).is_in(_REPLICATED)
    ).select("rank", "start_ns", "end_ns")
