"""Events → what the main thread of a CPU rank computes: operators, and ranges of expert computation."""

from __future__ import annotations

import polars as pl

from traceanalyzer.tables.steps.windows import assign_steps, on_main_thread

_COMMUNICATION = r"^(c10d::|_c10d_functional|gloo:|nccl:)"
_EXPERTS = r"^moe:(experts|experts_backward|router|permute|unpermute|shared_expert)\|layer=(\d+)$"

_OF_HOST = ["cpu_op", "python_function", "cuda_runtime", "cuda_driver", "runtime"]
_STEP = r"^ProfilerStep#\d"


def operators(events: pl.DataFrame) -> pl.DataFrame:
    """Operators (`cpu_op`) of the main thread that are not communication: `rank`, `start_ns`, `end_ns`.

    Nested ones are kept; the interval algebra merges them.
    """
    name = pl.col("name").cast(pl.String)
    return _intervals(
        on_main_thread(events).filter((pl.col("category") == "cpu_op") & ~name.str.contains(_COMMUNICATION))
    )


def recorded_hosts(events: pl.DataFrame) -> pl.DataFrame:
    """Ranks whose CPU the profiler recorded: `rank`. They have operators, Python functions, calls of the runtime or steps.

    Marks of a training loop alone say when it computed, not what the host did in between.
    """
    known = pl.col("category").cast(pl.String).is_in(_OF_HOST) | pl.col("name").cast(pl.String).str.contains(_STEP)
    return events.filter(pl.col("ph") == "X").filter(known).select("rank").unique().sort("rank")


def expert_computation(events: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Ranges of routing, permutation and expert computation: `rank`, `step`, `part`, `layer`, `start_ns`, `end_ns`."""
    name = pl.col("name").cast(pl.String)
    ranges = (
        on_main_thread(events)
        .filter((pl.col("category") == "user_annotation") & name.str.contains(_EXPERTS))
        .with_columns(
            name.str.extract(_EXPERTS, 1).alias("part"),
            name.str.extract(_EXPERTS, 2).cast(pl.Int32, strict=False).alias("layer"),
        )
    )
    found = _intervals(ranges, "part", "layer")
    return assign_steps(found, windows).select("rank", "step", "part", "layer", "start_ns", "end_ns")


def _intervals(events: pl.DataFrame, *columns: str) -> pl.DataFrame:
    return events.select("rank", *columns, "start_ns", (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))
