"""Device times of ranks whose device's clock is ahead of their host's: put right, or not used to accuse the host."""

from __future__ import annotations

import polars as pl

from traceanalyzer.traces.kineto.launch_clock import ROUNDING_NS, LaunchClock, launch_clock

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


def without_doubtful_launches(joined: pl.DataFrame) -> pl.DataFrame:
    """Device work without `launch_end_ns` where it cannot be compared with the kernel's start: no host is late by it.

    These are single kernels that start before their launch, and all of a rank whose device's clock drifts.
    """
    early = pl.col("start_ns") - pl.col("launch_start_ns") < -ROUNDING_NS
    doubtful = early
    for (rank, cycle), clock in _clocks(joined):
        if not clock.single:
            doubtful |= (pl.col("rank") == rank) & (pl.col("cycle") == cycle)
    return joined.with_columns(pl.when(~doubtful.fill_null(value=False)).then("launch_end_ns").alias("launch_end_ns"))


def _clocks(joined: pl.DataFrame) -> list[tuple[tuple[int, int], LaunchClock]]:
    """By rank and cycle, of those that have kernels which start before their launch."""
    launched = joined.filter(pl.col("launch_start_ns").is_not_null())
    suspect = launched.filter(pl.col("start_ns") - pl.col("launch_start_ns") < -ROUNDING_NS).select("rank", "cycle")
    found = launched.join(suspect.unique(), on=["rank", "cycle"], how="semi")
    parts = found.partition_by("rank", "cycle", as_dict=True, maintain_order=True)
    clocks = [((int(key[0]), int(key[1])), launch_clock(part)) for key, part in parts.items()]
    return [(key, clock) for key, clock in clocks if clock is not None]
