"""The pipeline bubble: where each rank's pipeline phase went while it computed nothing.

The *pipeline phase* of a step runs from the first forward's start to the last backward's end over one pipeline, the
same for all its ranks. What a rank does not spend in its chunk spans is its bubble, and every nanosecond of it is one of

* **dependency**: the rank had nothing it could compute, because what its next action needs was not there yet
  (warm-up, steady, drain), or because it had finished (drain);
* **transfer**: a pipeline message was on its way while the action could otherwise have started (absent on gloo, which
  records no transfer: there it is part of the overhead);
* **overhead**: the action could have started, but the rank started it later.

For an action on a rank, with `previous` the end of the action before it, `ready = max(previous, release of what it
needs)`: `[previous, ready)` is dependency; of `[ready, start)` what transfers of pipeline messages cover is transfer and
the rest overhead. So the parts sum to the phase exactly.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import covered_within
from traceanalyzer.schedule import BACKWARD_PHASES
from traceanalyzer.schema import BUBBLE, conform

_GROUP = ["pipeline", "step"]
_RANK = ["pipeline", "step", "rank"]


def producer_release(actions: pl.DataFrame) -> pl.DataFrame:
    """Add `needed_ns`: when what the action needs was handed on; null where it needs nothing or it was not captured.

    A forward needs the same microbatch's forward on the stage before; an input-gradient or full backward needs the
    backward on the stage after, on the last stage its own forward; a weight-gradient needs its own input-gradient.
    `actions` is `ACTIONS` with `pipeline`.
    """
    last_stage = pl.col("stage").max().over(_GROUP)
    is_forward = pl.col("phase") == "F"
    is_weight = pl.col("phase") == "W"
    on_last = pl.col("stage") == last_stage
    needs_stage = (
        pl.when(is_forward)
        .then(pl.col("stage") - 1)
        .when(is_weight | on_last)
        .then(pl.col("stage"))
        .otherwise(pl.col("stage") + 1)
    )
    needs_kind = pl.when(is_forward | (on_last & ~is_weight)).then(pl.lit("forward")).otherwise(pl.lit("backward"))
    kind = pl.when(is_forward).then(pl.lit("forward")).when(~is_weight).then(pl.lit("backward"))
    released = (
        actions.with_columns(kind.alias("needs_kind"))
        .filter(pl.col("needs_kind").is_not_null())
        .group_by([*_GROUP, pl.col("stage").alias("needs_stage"), "microbatch", "needs_kind"])
        .agg(pl.coalesce("release_ns", "end_ns").max().alias("needed_ns"))
    )
    return (
        actions.with_columns(needs_stage.alias("needs_stage"), needs_kind.alias("needs_kind"))
        .join(released, on=[*_GROUP, "needs_stage", "microbatch", "needs_kind"], how="left", maintain_order="left")
        .drop("needs_stage", "needs_kind")
    )


def gaps_before(actions: pl.DataFrame, transfers: pl.DataFrame | None = None) -> pl.DataFrame:
    """Split the time before each action into dependency, transfer and overhead (`*_ns`), with its `part` of the phase.

    A gap is warm-up until the rank's first backward starts, drain after its last forward (once a backward has
    started), steady between. Adds `phase_start_ns` and `phase_end_ns`. `actions` is `ACTIONS` with `pipeline`,
    `transfers` has `rank`, `start_ns`, `end_ns` of pipeline messages on their way. Actions that already have `needed_ns`
    keep it (`measurements.unordered_bubble`); of others stage and microbatch tell it.
    """
    backward = pl.col("phase").is_in([phase.value for phase in BACKWARD_PHASES])
    order = pl.int_range(pl.len()).over(_RANK)
    first_backward = pl.col("order").filter(backward).min().over(_RANK)
    last_forward = pl.col("order").filter(~backward).max().over(_RANK)
    part = (
        pl.when(pl.col("order") <= first_backward)
        .then(pl.lit("warmup"))
        .when(pl.col("order") <= last_forward)
        .then(pl.lit("steady"))
        .otherwise(pl.lit("drain"))
    )
    ready = pl.min_horizontal("start_ns", pl.max_horizontal("previous_ns", pl.coalesce("needed_ns", "previous_ns")))
    gaps = (
        (actions if "needed_ns" in actions.columns else producer_release(actions))
        .sort([*_RANK, "start_ns", "end_ns", "phase", "stage", "microbatch"])
        .with_columns(
            order.alias("order"),
            pl.col("start_ns").min().over(_GROUP).alias("phase_start_ns"),
            pl.col("end_ns").max().over(_GROUP).alias("phase_end_ns"),
            pl.col("end_ns").cum_max().shift(1).over(_RANK).alias("previous_ns"),
        )
        .with_columns(
            pl.coalesce("previous_ns", "phase_start_ns").alias("previous_ns"),
            part.alias("part"),
        )
        .with_columns(pl.min_horizontal("previous_ns", "start_ns").alias("previous_ns"))
        .with_columns(ready.alias("ready_ns"))
    )
    if transfers is None or transfers.is_empty():
        gaps = gaps.with_columns(pl.lit(0, pl.Int64).alias("transfer_ns"))
    else:
        gaps = covered_within(gaps, transfers, "ready_ns", "start_ns", "transfer_ns")
    return gaps.with_columns(
        (pl.col("ready_ns") - pl.col("previous_ns")).alias("dependency_ns"),
        (pl.col("start_ns") - pl.col("ready_ns") - pl.col("transfer_ns")).alias("overhead_ns"),
    )


def bubble(actions: pl.DataFrame, transfers: pl.DataFrame | None = None) -> pl.DataFrame:
    """The phase of every rank and step, cut into chunk spans, dependency, transfer and overhead (`BUBBLE`).

    `actions` is `ACTIONS` with `pipeline`; actions of one rank must not overlap. `transfers` has `rank`, `start_ns`,
    `end_ns` of pipeline messages on their way; None where none are recorded. The parts of each row satisfy
    `phase = chunk + warmup + steady + drain + transfer + overhead` exactly.
    """
    gaps = gaps_before(actions, transfers)

    def dependency(part: str) -> pl.Expr:
        return pl.col("dependency_ns").filter(pl.col("part") == part).sum()

    first_gap = pl.col("dependency_ns").first()
    idle_after = pl.col("phase_end_ns").first() - pl.col("end_ns").max()
    rows = gaps.group_by(_RANK, maintain_order=True).agg(
        pl.col("phase_start_ns").first(),
        (pl.col("phase_end_ns").first() - pl.col("phase_start_ns").first()).alias("phase_ns"),
        (pl.col("end_ns").max() - pl.col("start_ns").min()).alias("span_ns"),
        (pl.col("end_ns") - pl.col("start_ns")).sum().alias("chunk_ns"),
        dependency("warmup").alias("warmup_ns"),
        dependency("steady").alias("steady_ns"),
        (dependency("drain") + idle_after).alias("drain_ns"),
        pl.col("transfer_ns").sum(),
        pl.col("overhead_ns").sum(),
        (pl.col("dependency_ns").sum() - first_gap).alias("span_dependency_ns"),
    )
    table = conform(rows, BUBBLE).sort("pipeline", "rank", "step")
    _check_sums(table)
    return table


def _check_sums(table: pl.DataFrame) -> None:
    """The parts must sum to the phase to the nanosecond; anything else is a bug here."""
    parts = pl.sum_horizontal("chunk_ns", "warmup_ns", "steady_ns", "drain_ns", "transfer_ns", "overhead_ns")
    wrong = table.filter(parts != pl.col("phase_ns"))
    assert wrong.is_empty(), f"bubble does not close on {wrong.head(3).rows()}"  # noqa: S101 - our own invariant


def dependency_ns() -> pl.Expr:
    """Dependency of a `BUBBLE` row: warm-up, steady and drain."""
    return pl.sum_horizontal("warmup_ns", "steady_ns", "drain_ns")


def shares_by_step(table: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Bubble of every pipeline and step, summed over its ranks, from `BUBBLE` and `STEPS`.

    Columns `pipeline`, `step`, `measured_share` (dependency ÷ pipeline phase), `measured_ratio` (dependency ÷ chunk
    spans), `idle_share` (all time outside chunk spans ÷ pipeline phase), `span_share` (dependency inside the ranks' own windows ÷ those windows), `share_of_step` (dependency ÷
    step windows), `overhead_share` and `transfer_share` (÷ pipeline phase) and `phase_ns`.
    """
    lengths = windows.select("rank", "step", (pl.col("end_ns") - pl.col("start_ns")).alias("window_ns"))
    return (
        table.join(lengths, on=["rank", "step"], how="left")
        .with_columns(dependency_ns().alias("dependency_ns"))
        .group_by(_GROUP)
        .agg(
            (pl.col("dependency_ns").sum() / pl.col("phase_ns").sum()).alias("measured_share"),
            (pl.col("dependency_ns").sum() / pl.col("chunk_ns").sum()).alias("measured_ratio"),
            (1 - pl.col("chunk_ns").sum() / pl.col("phase_ns").sum()).alias("idle_share"),
            (pl.col("transfer_ns").sum() / pl.col("phase_ns").sum()).alias("transfer_share"),
            (pl.col("span_dependency_ns").sum() / pl.col("span_ns").sum()).alias("span_share"),
            (pl.col("dependency_ns").sum() / pl.col("window_ns").sum()).alias("share_of_step"),
            (pl.col("overhead_ns").sum() / pl.col("phase_ns").sum()).alias("overhead_share"),
            pl.col("phase_ns").max(),
        )
        .sort(_GROUP)
    )
