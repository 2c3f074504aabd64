"""Operators on the main thread → actions of CPU traces without labels.

Where the main thread is the device, everything a stage does stands in one line of time: it posts and awaits messages,
and computes between them. An outermost operator inside `autograd::engine::evaluate_function` is backward, recomputation
in it included; any other one is forward. Work of one phase between two messages is a chunk. What does next to nothing
compared with the stage's chunks is none: the shapes that travel ahead of activations, buffers that are made for them. So
intervals in which only such work is done are not boundaries, and neither is such work inside a backward.

What follows the last backward of a step is the optimizer. What precedes the first receive on a later place of the
pipeline is preparation.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import ACTIONS, conform
from traceanalyzer.tables.actions.device import ordered
from traceanalyzer.tables.actions.inferred import pipeline_places
from traceanalyzer.tables.steps.parts import outermost_operators
from traceanalyzer.tables.steps.windows import assign_steps

NEGLIGIBLE = 0.05
"""Of the longest work of a phase in a step, median over steps: less computation than this share of it is not a chunk."""
_KEYS = ["rank", "step"]


def host_actions(events: pl.DataFrame, windows: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Actions (`ACTIONS`) of CPU ranks from their `EVENTS`, `STEPS` and `P2P`; empty without pipeline messages.

    `stage` is the rank's place in its pipeline and `microbatch` the ordinal of the chunk among those of its phase.
    """
    places = pipeline_places(messages)
    own = messages.filter(pl.col("role") == "pp")
    if places.is_empty() or events.is_empty():
        return pl.DataFrame(schema=ACTIONS)
    work = assign_steps(outermost_operators(events), windows).join(places, on="rank", how="semi")
    runs = _runs(_between_messages(work, own))
    chunks = _merged(_before_the_end(_computing(runs)))
    placed = _after_receives(chunks.join(places, on="rank"), own).sort(*_KEYS, "start_ns")
    ordinal = pl.int_range(pl.len(), dtype=pl.Int32).over([*_KEYS, "phase"]).alias("microbatch")
    return ordered(conform(placed.with_columns(ordinal), ACTIONS).drop("position"))


def _between_messages(work: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Add `interval`, equal where no message was posted or arrived in between."""
    points = pl.concat([messages.select("rank", pl.col(name).alias("at_ns")) for name in ("start_ns", "end_ns")])
    counted = points.drop_nulls().sort("rank", "at_ns").with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("rank").alias("interval")
    )  # fmt: skip
    joined = work.sort("start_ns").join_asof(
        counted.sort("at_ns"),
        left_on="start_ns",
        right_on="at_ns",
        by="rank",
        strategy="backward",
        check_sortedness=False,
    )
    return joined.with_columns(pl.col("interval").fill_null(0)).drop("at_ns").sort(*_KEYS, "start_ns")


def _runs(work: pl.DataFrame) -> pl.DataFrame:
    """Work of one phase in a row inside one interval, with how long its operators took."""
    phase = pl.when("back").then(pl.lit("B")).otherwise(pl.lit("F")).alias("phase")
    return _joined(work.with_columns(phase, (pl.col("end_ns") - pl.col("start_ns")).alias("work_ns")))


def _merged(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs that follow each other in one interval and phase, now that what lay between them is gone."""
    return _joined(runs.sort(*_KEYS, "start_ns"))


def _joined(rows: pl.DataFrame) -> pl.DataFrame:
    what = pl.struct("interval", "phase")
    changed = (what != what.shift(1)).fill_null(value=True).over(_KEYS).cum_sum().over(_KEYS).alias("_run")
    return (
        rows.with_columns(changed)
        .group_by(*_KEYS, "_run", "interval", "phase", maintain_order=True)
        .agg(pl.col("start_ns").min(), pl.col("end_ns").max(), pl.col("work_ns").sum())
        .drop("_run")
    )


def _computing(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs that compute; forward work counts up to the step's last backward, as the optimizer may take much longer."""
    last = pl.col("start_ns").filter(pl.col("phase") == "B").max().over(_KEYS)
    before = runs.filter(pl.col("start_ns") <= last)
    longest = before.group_by(*_KEYS, "phase").agg(pl.col("work_ns").max())
    usual = longest.group_by("rank", "phase").agg(pl.col("work_ns").median().alias("_usual"))
    enough = pl.col("work_ns") >= NEGLIGIBLE * pl.col("_usual")
    return before.join(usual, on=["rank", "phase"], how="left").filter(enough).drop("_usual")


def _before_the_end(runs: pl.DataFrame) -> pl.DataFrame:
    """Without forward work behind the last backward that computes."""
    last = pl.col("start_ns").filter(pl.col("phase") == "B").max().over(_KEYS)
    return runs.filter(pl.col("start_ns") <= last)


def _after_receives(chunks: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Without what later places did in a step before anything had come."""
    come = messages.filter(pl.col("direction") == "receive").group_by(_KEYS).agg(pl.col("end_ns").min().alias("_come"))
    joined = chunks.join(come, on=_KEYS, how="left")
    return joined.filter((pl.col("stage") == 0) | (pl.col("start_ns") >= pl.col("_come").fill_null(0))).drop("_come")
