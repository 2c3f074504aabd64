"""Calls that launch kernels, and those whose kernel a profiler did not record.

Two kinds of launches have no kernel by nature: those that a stream captured into a graph, and those after the last one whose
kernel was recorded, for the profiler stopped before these ran. All others had a kernel that was lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

LAUNCH = (
    r"^(?:cuda|cu|hip)(?:Ext)?(?:Module)?(?:Launch(?:Cooperative)?(?:MultiDevice)?Kernel\w*|GraphLaunch\w*)"
    r"|^(?:ur|pi)EnqueueKernelLaunch\w*|^zeCommandListAppendLaunch\w*Kernel\w*|^runFunction\b"
)
"""Calls of CUDA, HIP, SYCL and Level Zero (Intel XPU), and of MTIA's runtime."""
_BEGIN = r"^(?:cuda|cu|hip)StreamBeginCapture"
_END = r"^(?:cuda|cu|hip)StreamEndCapture"


def named_calls() -> pl.Expr:
    """Whether a call's `name` matters here."""
    name = pl.col("name").cast(pl.String)
    return name.str.contains(LAUNCH) | name.str.contains(_BEGIN) | name.str.contains(_END)


def launches(calls: pl.DataFrame) -> pl.DataFrame:
    """The launches among calls of the runtime, those that were captured into a graph left out; columns are kept.

    `calls` has `name`, `process`, `thread`, `correlation`, `start_ns`, and any key columns of the caller.
    """
    name = pl.col("name").cast(pl.String)
    change = pl.when(name.str.contains(_BEGIN)).then(1).when(name.str.contains(_END)).then(-1).otherwise(0)
    threads = [key for key in ("rank", "cycle", "process", "thread") if key in calls.columns]
    return (
        calls.filter(named_calls())
        .sort(*threads, "start_ns")
        .with_columns(change.cum_sum().over(threads).alias("_capturing"))
        .filter(name.str.contains(LAUNCH) & (pl.col("_capturing") <= 0) & pl.col("correlation").is_not_null())
        .drop("_capturing")
    )


def without_kernel(launched: pl.DataFrame, device: pl.DataFrame, keys: Sequence[str] = ()) -> pl.DataFrame:
    """The launches that had a kernel which was not recorded.

    `launched` is as `launches` gives it, `device` has `correlation`; both have `keys`, within which correlations count. Without
    any recorded kernel (of the key) there are none: then it is the device that was not recorded.
    """
    on = [*keys, "correlation"]
    recorded = launched.join(device.select(on).unique(), on=on, how="semi")
    missing = launched.join(recorded, on=on, how="anti")
    if not keys:
        last = recorded["start_ns"].max()
        return missing.filter(pl.col("start_ns") < last) if last is not None else missing.clear()
    lasts = recorded.group_by(keys).agg(pl.col("start_ns").max().alias("_last"))
    return missing.join(lasts, on=list(keys)).filter(pl.col("start_ns") < pl.col("_last")).drop("_last")
