"""Events and kernels → what a step consists of beside its labelled actions: the optimizer, forward and backward passes.

* The optimizer is what runs inside torch's ranges `Optimizer.step#AdamW.step`; on devices what they launched, first to
  last kernel of a range. A device rank without such ranges is recognised by the names of its kernels (`FusedAdam...`).
* Passes stand in for actions on ranks that have none and mark no phases (`tables.kernel_phases`). Work is backward if autograd issued it: on devices a thread other
  than the one that launches first in the step, on CPU an operator inside `autograd::engine::evaluate_function`. A run of
  such work is a backward pass, what runs before the last of them and is not backward is forward.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import OPTIMIZER, PASSES, conform, empty
from traceanalyzer.tables.rank_groups import in_rank_groups
from traceanalyzer.tables.steps.windows import COMPUTE_KINDS, assign_steps, on_main_thread

_RANGE = r"^Optimizer\.step#"
OPTIMIZER_KERNEL = r"(?i)adam|adagrad|lambstage|sgd"
_AUTOGRAD = "autograd::engine::evaluate_function"
_COMMUNICATION = r"^(c10d::|_c10d_functional|gloo:|nccl:|record_param_comms)"
_STEP = ["rank", "step"]


def optimizer_ranges(events: pl.DataFrame) -> pl.DataFrame:
    """Ranges of the optimizer on every rank's main thread: `rank`, `start_ns`, `end_ns`; nested ones once."""
    name = pl.col("name").cast(pl.String)
    found = on_main_thread(events).filter((pl.col("category") == "user_annotation") & name.str.contains(_RANGE))
    ranges = found.with_columns((pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))
    outer = pl.col("end_ns") > pl.col("end_ns").cum_max().shift(1).over("rank").fill_null(-(1 << 63))
    return conform(ranges.sort("rank", "start_ns", "end_ns", descending=[False, False, True]).filter(outer), OPTIMIZER)


@in_rank_groups
def optimizer_on_device(ranges: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """When the device worked for the optimizer (`OPTIMIZER`), from the ranges of all ranks and `KERNELS`."""
    launched = (
        kernels.filter(pl.col("launch_start_ns").is_not_null())
        .sort("launch_start_ns")
        .join_asof(
            ranges.rename({"start_ns": "_from", "end_ns": "_to"}).sort("_from"),
            left_on="launch_start_ns",
            right_on="_from",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("launch_start_ns") < pl.col("_to"))
    )
    by_range = launched.group_by("rank", "_from").agg(pl.col("start_ns").min(), pl.col("end_ns").max())
    named = (
        kernels.join(ranges, on="rank", how="anti")
        .filter(pl.col("step").is_not_null() & pl.col("name").cast(pl.String).str.contains(OPTIMIZER_KERNEL))
        .group_by(_STEP)
        .agg(pl.col("start_ns").min(), pl.col("end_ns").max())
    )
    return pl.concat([conform(by_range, OPTIMIZER), conform(named, OPTIMIZER)]).sort("rank", "start_ns")


@in_rank_groups
def device_passes(kernels: pl.DataFrame) -> pl.DataFrame:
    """Forward and backward passes (`PASSES`) of device ranks by the thread that launched each computing kernel."""
    return _passes(_directed(kernels).select(*_STEP, "at_ns", "start_ns", "end_ns", "back"))


@in_rank_groups
def phases_by_thread(kernels: pl.DataFrame) -> pl.DataFrame:
    """Computing kernels up to the last backward of each step: `rank`, `cycle`, `index`, `phase`."""
    last = pl.col("at_ns").filter(pl.col("back")).max().over(_STEP)
    phase = pl.when("back").then(pl.lit("B")).otherwise(pl.lit("F")).alias("phase")
    return _directed(kernels).filter(pl.col("at_ns") <= last).select("rank", "cycle", "index", phase)


def _directed(kernels: pl.DataFrame) -> pl.DataFrame:
    """Computing kernels of steps, launched at `at_ns`, and whether another thread than the first launched them: `back`."""
    work = kernels.filter(
        pl.col("kind").is_in(COMPUTE_KINDS) & pl.col("launch_start_ns").is_not_null() & pl.col("step").is_not_null()
    )
    thread = pl.col("launch_thread").cast(pl.String)
    first = thread.sort_by("launch_start_ns", "index").first().over("rank")
    return work.with_columns(pl.col("launch_start_ns").alias("at_ns"), (thread != first).alias("back"))


def main_thread_passes(events: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Forward and backward passes (`PASSES`) of CPU ranks by their outermost operators on the main thread."""
    if events.is_empty():
        return empty(PASSES)
    work = outermost_operators(events).with_columns(pl.col("start_ns").alias("at_ns"))
    return _passes(assign_steps(work, windows))


def outermost_operators(events: pl.DataFrame) -> pl.DataFrame:
    """Computation on the main thread that no other operator encloses: `rank`, `start_ns`, `end_ns`, `back`.

    `back`: autograd ran it. Communication is left out.
    """
    name = pl.col("name").cast(pl.String)
    return (
        on_main_thread(events)
        .filter((pl.col("category") == "cpu_op") & ~name.str.contains(_COMMUNICATION))
        .with_columns((pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))
        .sort("rank", "start_ns", "end_ns", descending=[False, False, True])
        .filter((pl.col("start_ns") >= pl.col("end_ns").cum_max().shift(1).over("rank")).fill_null(value=True))
        .select("rank", "start_ns", "end_ns", name.str.starts_with(_AUTOGRAD).alias("back"))
    )


def _passes(work: pl.DataFrame) -> pl.DataFrame:
    """Runs of work of one direction in order of `at_ns`, up to the last backward of each step."""
    last = pl.col("at_ns").filter(pl.col("back")).max().over(_STEP)
    changed = pl.col("back").ne_missing(pl.col("back").shift(1)).over(_STEP)
    runs = (
        work.filter(pl.col("at_ns") <= last)
        .sort(*_STEP, "at_ns", "start_ns", "end_ns")
        .with_columns(changed.cum_sum().over(_STEP).alias("_run"))
        .group_by(*_STEP, "_run", pl.when("back").then(pl.lit("B")).otherwise(pl.lit("F")).alias("phase"))
        .agg(pl.col("start_ns").min(), pl.col("end_ns").max())
    )
    return conform(runs, PASSES).sort(*_STEP, "start_ns")
