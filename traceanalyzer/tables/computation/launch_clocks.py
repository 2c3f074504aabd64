"""Device times of ranks whose device's clock is ahead of their host's: put right, or not used to accuse the host."""

from __future__ import annotations

import polars as pl

from traceanalyzer.traces.kineto.launches import ROUNDING_NS, LaunchClock, launch_clock

ON_DEVICE_CLOCK = ("kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset", "gpu_user_annotation")
"""Categories of events whose times are the device's."""


def on_host_clock(events: pl.DataFrame, joined: pl.DataFrame) -> pl.DataFrame:
    """`EVENTS` with the device's times later by a constant difference, where its launches show one.

    `joined` has `rank`, `cycle`, `start_ns`, `end_ns`, `launch_start_ns` of device work.
    """
    late = pl.DataFrame(
        [(*key, clock.ahead_ns) for key, clock in _clocks(joined) if clock.constant],
        schema={"rank": events.schema["rank"], "cycle": events.schema["cycle"], "_ahead_ns": pl.Int64},
        orient="row",
    )
    if late.is_empty():
        return events
    of_device = pl.col("category").cast(pl.String).is_in(ON_DEVICE_CLOCK).fill_null(value=False)
    moved = pl.when(of_device).then(pl.col("_ahead_ns").fill_null(0)).otherwise(0)
    return (
        events.join(late, on=["rank", "cycle"], how="left", maintain_order="left")
        .with_columns(pl.col("start_ns") + moved)
        .drop("_ahead_ns")
        .sort("rank", "cycle", "start_ns", "index")
    )


def with_provable_launches(joined: pl.DataFrame) -> pl.DataFrame:
    """Device work with the earliest `launch_end_ns` on the device's clock, and `launch_unsure_ns`: how much later it may be.

    Of a rank whose device's clock drifts, launches are earlier by the largest difference that its kernels show, so that
    no host is late by the clock. A single kernel that starts before its launch has a wrong time, and loses its launch.
    """
    drifting = pl.DataFrame(
        [(*key, clock.ahead_ns) for key, clock in _clocks(joined) if not clock.single],
        schema={"rank": joined.schema["rank"], "cycle": joined.schema["cycle"], "_unsure_ns": pl.Int64},
        orient="row",
    )
    rows = joined.join(drifting, on=["rank", "cycle"], how="left", maintain_order="left")
    early = (pl.col("start_ns") - pl.col("launch_start_ns") < -ROUNDING_NS).fill_null(value=False)
    doubtful = early & pl.col("_unsure_ns").is_null()
    launched = pl.when(~doubtful).then(pl.col("launch_end_ns") - pl.col("_unsure_ns").fill_null(0))
    unsure = pl.when(launched.is_not_null()).then("_unsure_ns")
    return rows.with_columns(launched.alias("launch_end_ns"), unsure.alias("launch_unsure_ns")).drop("_unsure_ns")


def _clocks(joined: pl.DataFrame) -> list[tuple[tuple[int, int], LaunchClock]]:
    """By rank and cycle, of those that have kernels which start before their launch."""
    launched = joined.filter(pl.col("launch_start_ns").is_not_null())
    suspect = launched.filter(pl.col("start_ns") - pl.col("launch_start_ns") < -ROUNDING_NS).select("rank", "cycle")
    found = launched.join(suspect.unique(), on=["rank", "cycle"], how="semi")
    parts = found.partition_by("rank", "cycle", as_dict=True, maintain_order=True)
    clocks = [((int(key[0]), int(key[1])), launch_clock(part)) for key, part in parts.items()]
    return [(key, clock) for key, clock in clocks if clock is not None]
