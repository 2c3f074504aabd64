"""The pipeline bubble: where each rank's pipeline phase went while it computed nothing.

The *pipeline phase* of a step runs from the first forward's start to the last backward's end over one pipeline, the
same for all its ranks. What a rank does not spend in its chunk spans is its bubble, and every nanosecond of it is one of

* **dependency**: the rank had nothing it could compute, because what its next action needs was not there yet
  (warm-up, steady, drain), or because it had finished (drain);
* **transfer**: a pipeline message was on its way while the action could otherwise have started (absent on gloo, which
  records no transfer: there it is part of the overhead);
* **exposed DP communication**: the action could have started, but gradients were being reduced or parameters gathered;
  first the wait for the last replica, then the transfer;
* **overhead**: the action could have started, but the rank started it later.

For an action on a rank, with `previous` the end of the action before it, `ready = max(previous, release of what it
needs)`: `[previous, ready)` is dependency; of `[ready, start)` what transfers of pipeline messages cover is transfer, what
exchanges between replicas cover of the rest is exposed DP communication, and what is left is overhead. So the parts sum to
the phase exactly. An exchange between replicas that runs while the rank has nothing to compute costs the phase nothing:
there all of it is dependency.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import covered_within
from traceanalyzer.measurements.pipeline.replica_waits import NO_EXCHANGES
from traceanalyzer.schedule import BACKWARD_PHASES
from traceanalyzer.schema import BUBBLE, conform

IDLE_PARTS = ("warmup_ns", "steady_ns", "drain_ns", "transfer_ns", "overhead_ns", "dp_wait_ns", "dp_transfer_ns")
"""What a rank's idle time of a phase consists of, exactly."""
_GROUP = ["pipeline", "step"]
_RANK = ["pipeline", "step", "rank"]


def producer_release(actions: pl.DataFrame) -> pl.DataFrame:
    """Add `needed_ns`: when what the action needs was handed on; null if it needs nothing or it was not captured.

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


def gaps_before(
    actions: pl.DataFrame, transfers: pl.DataFrame | None = None, exchanges: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Split the time before each action into its parts (`*_ns`), with its `part` of the phase.

    A gap is warm-up until the rank's first backward starts, drain after its last forward (once a backward has
    started), steady between. Adds `phase_start_ns` and `phase_end_ns`. `actions` is `ACTIONS` with `pipeline`,
    `transfers` has `rank`, `start_ns`, `end_ns` of pipeline messages on their way, `exchanges` is what
    `replica_waits.replica_exchanges` gives. Actions that already have `needed_ns`
    keep it (`measurements.unordered_bubble`); of others stage and microbatch show it.
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
    gaps = _covered(gaps, transfers, NO_EXCHANGES if exchanges is None else exchanges)
    covered = pl.sum_horizontal("transfer_ns", "dp_wait_ns", "dp_transfer_ns")
    return gaps.with_columns(
        (pl.col("ready_ns") - pl.col("previous_ns")).alias("dependency_ns"),
        (pl.col("start_ns") - pl.col("ready_ns") - covered).alias("overhead_ns"),
    )


def _covered(gaps: pl.DataFrame, transfers: pl.DataFrame | None, exchanges: pl.DataFrame) -> pl.DataFrame:
    """Add `transfer_ns`, then `dp_transfer_ns` and `dp_wait_ns`: what each covers alone between readiness and start."""
    span = ["rank", "start_ns", "end_ns"]
    messages = exchanges.select(span).clear() if transfers is None else transfers.select(span)
    moving = exchanges.select("rank", pl.col("transfer_start_ns").alias("start_ns"), "end_ns")
    sets = (messages, pl.concat([messages, moving]), pl.concat([messages, exchanges.select(span)]))
    if all(each.is_empty() for each in sets):
        zero = [pl.lit(0, pl.Int64).alias(name) for name in ("transfer_ns", "dp_transfer_ns", "dp_wait_ns")]
        return gaps.with_columns(zero)
    for name, each in zip(("transfer_ns", "_moving", "_exchanging"), sets, strict=True):
        gaps = covered_within(gaps, each, "ready_ns", "start_ns", name)
    return gaps.with_columns(
        (pl.col("_moving") - pl.col("transfer_ns")).alias("dp_transfer_ns"),
        (pl.col("_exchanging") - pl.col("_moving")).alias("dp_wait_ns"),
    ).drop("_moving", "_exchanging")


def bubble(
    actions: pl.DataFrame, transfers: pl.DataFrame | None = None, exchanges: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The phase of every rank and step, cut into chunk spans and the parts of idle (`BUBBLE`).

    `actions` is `ACTIONS` with `pipeline`, and with `comm_dp_ns` where exposed exchanges between replicas inside them are
    known; actions of one rank must not overlap. `transfers` has `rank`, `start_ns`, `end_ns` of pipeline messages on their
    way; None if none are recorded. `exchanges` is what `replica_waits.replica_exchanges` gives. The parts of each row
    satisfy `phase = chunk + warmup + steady + drain + transfer + dp_wait + dp_transfer + overhead` exactly.
    """
    if "comm_dp_ns" not in actions.columns:
        actions = actions.with_columns(pl.lit(0, pl.Int64).alias("comm_dp_ns"))
    gaps = gaps_before(actions, transfers, exchanges)

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
        pl.col("transfer_ns", "overhead_ns", "dp_wait_ns", "dp_transfer_ns").sum(),
        pl.col("comm_dp_ns").sum().alias("chunk_dp_ns"),
        (pl.col("dependency_ns").sum() - first_gap).alias("span_dependency_ns"),
    )
    table = conform(rows, BUBBLE).sort("pipeline", "rank", "step")
    _check_sums(table)
    return table


def _check_sums(table: pl.DataFrame) -> None:
    """The parts must sum to the phase to the nanosecond; anything else is a bug here."""
    wrong = table.filter(pl.sum_horizontal("chunk_ns", *IDLE_PARTS) != pl.col("phase_ns"))
    assert wrong.is_empty(), f"bubble does not close on {wrong.head(3).rows()}"  # noqa: S101 - our own invariant


def dependency_ns() -> pl.Expr:
    """Dependency of a `BUBBLE` row: warm-up, steady and drain."""
    return pl.sum_horizontal("warmup_ns", "steady_ns", "drain_ns")


def exposed_dp_ns() -> pl.Expr:
    """Exposed communication between replicas of a `BUBBLE` row, outside chunk spans."""
    return pl.sum_horizontal("dp_wait_ns", "dp_transfer_ns")


def shares_by_step(table: pl.DataFrame, windows: pl.DataFrame, *, pooled: bool = False) -> pl.DataFrame:
    """Bubble of every step, summed over the ranks of each pipeline or, `pooled`, of all of them; from `BUBBLE` and `STEPS`.

    Columns `pipeline` (not where pooled), `step`, `measured_share` (dependency ÷ pipeline phase), `measured_ratio` (dependency
    ÷ chunk spans), `idle_share` (all time outside chunk spans ÷ pipeline phase), `span_share` (dependency inside the ranks' own windows ÷ those windows), `share_of_step` (dependency ÷
    step windows), `overhead_share`, `transfer_share` and `exposed_dp_share` (÷ pipeline phase) and `phase_ns`, the mean over
    ranks. Pooled are only steps on which as many pipelines were measured as on any.
    """
    lengths = windows.select("rank", "step", (pl.col("end_ns") - pl.col("start_ns")).alias("window_ns"))
    num_pipelines = pl.col("pipeline").n_unique().over("step")
    keys = ["step"] if pooled else _GROUP
    chosen = table.filter(num_pipelines == num_pipelines.max()) if pooled else table
    return (
        chosen.join(lengths, on=["rank", "step"], how="left")
        .with_columns(dependency_ns().alias("dependency_ns"), exposed_dp_ns().alias("exposed_dp_ns"))
        .group_by(keys)
        .agg(
            (pl.col("dependency_ns").sum() / pl.col("phase_ns").sum()).alias("measured_share"),
            (pl.col("dependency_ns").sum() / pl.col("chunk_ns").sum()).alias("measured_ratio"),
            (1 - pl.col("chunk_ns").sum() / pl.col("phase_ns").sum()).alias("idle_share"),
            (pl.col("transfer_ns").sum() / pl.col("phase_ns").sum()).alias("transfer_share"),
            (pl.col("exposed_dp_ns").sum() / pl.col("phase_ns").sum()).alias("exposed_dp_share"),
            (pl.col("span_dependency_ns").sum() / pl.col("span_ns").sum()).alias("span_share"),
            (pl.col("dependency_ns").sum() / pl.col("window_ns").sum()).alias("share_of_step"),
            (pl.col("overhead_ns").sum() / pl.col("phase_ns").sum()).alias("overhead_share"),
            pl.col("phase_ns").mean(),
        )
        .sort(keys)
    )
