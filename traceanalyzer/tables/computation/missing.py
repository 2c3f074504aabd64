"""Launches whose kernels were not recorded, and ranks of which no kernel was."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import MISSING_KERNELS, conform
from traceanalyzer.tables.computation.kernels import DEVICE_CATEGORIES, LAUNCH_CATEGORIES, with_step
from traceanalyzer.traces.kineto.launches import launches, named_calls, without_kernel

_KEYS = ["rank", "cycle"]


def missing_kernels(events: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Every launch of a rank with kernels whose own kernel is not recorded (`MISSING_KERNELS`), sorted by rank and start.

    `ranges` is `STEP_RANGES`.
    """
    launched, device = _launches(events), events.filter(_on_device())
    call = ["process", "correlation", "start_ns"]  # one call, shared by the ranks that are devices of one process
    elsewhere = launched.join(device, on=[*_KEYS, "correlation"], how="semi").select(call)
    lost = without_kernel(launched, device, _KEYS).join(elsewhere, on=call, how="anti")
    rows = lost.with_columns(
        pl.col("start_ns").alias("launch_start_ns"),
        (pl.col("start_ns") + pl.col("duration_ns")).alias("launch_end_ns"),
        pl.col("name").cast(pl.String),
    )
    return conform(with_step(rows, ranges), MISSING_KERNELS).sort("rank", "launch_start_ns")


def ranks_without_kernels(events: pl.DataFrame) -> pl.DataFrame:
    """`rank`, `unread`: ranks on a device of which nothing that can be read was recorded.

    They launched kernels (`unread` is null), or the events of their device are of a kind that is not read, named in `unread`.
    Their CPU's operators do not tell what the device did.
    """
    launched = [
        frame.select("rank", pl.lit(None, pl.String).alias("unread"))
        for frame in (_launches(events), events.filter(_used()))
    ]
    found = pl.concat([*launched, _unread(events)])
    return found.join(events.filter(_on_device()), on="rank", how="anti").group_by("rank").agg(pl.col("unread").max())


_UNREAD_CATEGORIES = {"mtia_ccp_events": "MTIA", "hpu_op": "Gaudi"}
_UNNAMED_RUNTIMES = ["privateuse1_runtime", "privateuse1_driver"]
_UNREAD_PROCESSES = {"Ascend Hardware": "Ascend"}
"""Device events that carry no category are known by the name of their process."""


def _unread(events: pl.DataFrame) -> pl.DataFrame:
    """`rank`, `unread` of every event that tells of a device whose events are not read."""
    category = pl.col("category").cast(pl.String)
    of_device = events.filter(category.is_in(list(_UNREAD_CATEGORIES))).select(
        "rank", category.replace_strict(_UNREAD_CATEGORIES, return_dtype=pl.String).alias("unread")
    )
    named = events.filter((pl.col("ph") == "M") & (pl.col("name").cast(pl.String) == "process_name"))
    process = pl.col("args").str.extract(r'"name"\s*:\s*"([^"]*)"')
    of_process = named.filter(process.is_in(list(_UNREAD_PROCESSES))).select(
        "rank", process.replace_strict(_UNREAD_PROCESSES, return_dtype=pl.String).alias("unread")
    )
    return pl.concat([of_device, of_process])


def _launches(events: pl.DataFrame) -> pl.DataFrame:
    of_runtime = pl.col("category").cast(pl.String).is_in(LAUNCH_CATEGORIES)
    return launches(events.filter((pl.col("ph") == "X") & of_runtime & named_calls()))


def _used() -> pl.Expr:
    """Calls of a runtime whose launches have no known name."""
    return (pl.col("ph") == "X") & pl.col("category").cast(pl.String).is_in(_UNNAMED_RUNTIMES)


def _on_device() -> pl.Expr:
    return (pl.col("ph") == "X") & pl.col("category").cast(pl.String).is_in(DEVICE_CATEGORIES)
