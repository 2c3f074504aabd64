"""Events → what ran on the device: kernels and copies, each with its kind and the call that launched it.

A kernel belongs to the step whose CPU range holds its launch, whenever it ran. Several kernels of one graph launch share
that launch.

A stream runs its kernels one after the other. A kernel that is recorded to run on after the next one of its stream started,
by more than programmatic launches overlap, has a wrong end: it is cut at that start. Kernels of graphs are left alone, for
branches of a graph run at once under one stream's number.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from traceanalyzer.schema import KERNELS, conform
from traceanalyzer.tables.computation.launch_clocks import on_host_clock, with_provable_launches
from traceanalyzer.tables.computation.streams import cut_at_next_start
from traceanalyzer.tables.computation.taxonomy import KernelRule, classify
from traceanalyzer.tables.steps.windows import step_ranges
from traceanalyzer.traces.kineto.accelerators import LAUNCHED

DEVICE_CATEGORIES = ["kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset"]
"""Categories of device work; the last two are what writers of 2021 called copies."""
LAUNCH_CATEGORIES = [
    *("cuda_runtime", "cuda_driver", "runtime", "hip_runtime", "xpu_runtime", "xpu_driver", "mtia_runtime"),
    *("privateuse1_runtime", "privateuse1_driver", LAUNCHED),
]
_COPY_DIRECTIONS = {"HtoD": "h2d", "DtoH": "d2h", "DtoD": "d2d", "HostToDevice": "h2d", "DeviceToHost": "d2h"}


def kernels(events: pl.DataFrame, rules: Sequence[KernelRule] = (), ranges: pl.DataFrame | None = None) -> pl.DataFrame:
    """Kernels and copies of every rank (`KERNELS`), sorted by rank and start. Empty for CPU traces.

    `rules` are tried before those of the package; `ranges` is `STEP_RANGES`, by default as found in the events.
    """
    device = _device_work(events)
    if device.is_empty():
        return pl.DataFrame(schema=KERNELS)
    graph = pl.col("args").str.extract(r'"graph id"\s*:\s*(\d+)').cast(pl.Int64, strict=False)
    rows = with_provable_launches(_joined(device, events)).with_columns(
        ((graph.fill_null(0) > 0) | pl.col("is_graph").fill_null(value=False)).alias("in_graph"),
        pl.col("category").cast(pl.String),
    )
    stated = step_ranges(events) if ranges is None else ranges
    known = _with_kind(with_step(cut_at_next_start(rows), stated), rules)
    return conform(known, KERNELS).sort("rank", "cycle", "start_ns", "index")


def with_launch_clocks(events: pl.DataFrame) -> pl.DataFrame:
    """`EVENTS` with device times on their host's clock, where launches show that the device's is ahead."""
    device = _device_work(events)
    return events if device.is_empty() else on_host_clock(events, _joined(device, events))


def _device_work(events: pl.DataFrame) -> pl.DataFrame:
    found = events.filter((pl.col("ph") == "X") & pl.col("category").cast(pl.String).is_in(DEVICE_CATEGORIES))
    if not found["name"].null_count():
        return found
    named = pl.col("name").cast(pl.String).fill_null("(no name)")  # a name to classify: no join finds null
    return found.with_columns(named.cast(pl.Categorical))


def _joined(device: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Device work with `end_ns` and the call that launched it."""
    return device.with_columns((pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns")).join(
        _launches(events), on=["rank", "cycle", "correlation"], how="left", maintain_order="left"
    )


def _launches(events: pl.DataFrame) -> pl.DataFrame:
    """Calls that launch: keys, `launch_start_ns`, `launch_end_ns`, `launch_thread`, `is_graph`."""
    name = pl.col("name").cast(pl.String)
    return (
        events.filter(
            (pl.col("ph") == "X")
            & pl.col("correlation").is_not_null()
            & pl.col("category").cast(pl.String).is_in(LAUNCH_CATEGORIES)
        )
        .select(
            "rank",
            "cycle",
            "correlation",
            pl.col("start_ns").alias("launch_start_ns"),
            (pl.col("start_ns") + pl.col("duration_ns")).alias("launch_end_ns"),
            pl.col("thread").alias("launch_thread"),
            name.str.contains("GraphLaunch").alias("is_graph"),
        )
        .unique(["rank", "cycle", "correlation"], keep="first", maintain_order=True)
    )


def with_step(rows: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Add `step` to rows with `launch_start_ns`, by launch; `ranges` as `step_ranges` gives them. A rank without step ranges has one step, 0, that holds every launch."""
    marked = ranges.select("rank").unique().with_columns(pl.lit(value=True).alias("marked"))
    inside = pl.col("launch_start_ns") < pl.col("range_end_ns")
    found = (
        rows.sort("launch_start_ns")
        .join_asof(
            ranges.sort("range_start_ns"),
            left_on="launch_start_ns",
            right_on="range_start_ns",
            by=["rank", "cycle"],
            strategy="backward",
            check_sortedness=False,
        )
        .join(marked, on="rank", how="left")
    )
    launched = pl.col("launch_start_ns").is_not_null()
    step = (
        pl.when(pl.col("marked").is_null() & launched)
        .then(pl.lit(0, pl.Int32))
        .otherwise(pl.when(inside & launched).then("step"))
    )
    return found.with_columns(step.alias("step"))


def _with_kind(rows: pl.DataFrame, rules: Sequence[KernelRule]) -> pl.DataFrame:
    """Add `kind`, `operation` and `matched`. A copy between devices is communication."""
    name = pl.col("name").cast(pl.String)
    is_kernel = pl.col("category") == "kernel"
    to_peer = name.str.contains(r"PtoP|PeerToPeer")
    direction = pl.coalesce(
        *[pl.when(name.str.contains(text)).then(pl.lit(short)) for text, short in _COPY_DIRECTIONS.items()]
    )
    classes = classify(rows["name"], rules).with_columns(pl.col("name").cast(pl.Categorical))
    return (
        rows.join(classes, on="name", how="left", maintain_order="left")
        .with_columns(
            pl.when(is_kernel)
            .then("kind")
            .when(to_peer)
            .then(pl.lit("communication").cast(KERNELS["kind"]))
            .otherwise(pl.lit("copy").cast(KERNELS["kind"]))
            .alias("kind"),
            pl.when(is_kernel)
            .then("operation")
            .when(to_peer)
            .then(pl.lit("peer_copy"))
            .otherwise(direction)
            .alias("operation"),
            pl.when(is_kernel).then("matched").otherwise(pl.lit(value=True)).alias("matched"),
        )
        .sort("rank", "cycle", "start_ns", "index")
    )
