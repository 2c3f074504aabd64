"""How far the recorded matrix multiplications are from what the device could do: time lost to the roof, by shape.

`roof = min(peak of the number format, bytes moved at memory bandwidth)`: a shape with few FLOPs per byte cannot reach
the peak however good its kernel is (Williams et al., CACM 2009). Time above the roof is what a better kernel could win.
Fused causal attention is taken with half its FLOPs: its kernels skip what the mask hides.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from traceanalyzer.schema import KERNELS, conform
from traceanalyzer.tables.rank_groups import in_rank_groups

COMPUTE = ["gemm", "attention"]

NUMBER_FORMATS = {
    "float": "fp32",
    "c10::Half": "fp16",
    "c10::BFloat16": "bf16",
    "c10::Float8_e4m3fn": "fp8",
    "c10::Float8_e5m2": "fp8",
    "c10::Float8_e4m3fnuz": "fp8",
    "c10::Float8_e5m2fnuz": "fp8",
}
"""Number format with a peak of its own, by the type name the profiler writes."""


@in_rank_groups
def operator_times(operators: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """Add `duration_ns`: device time of the kernels an operator launched, or on a rank without kernels its own time.

    `operators` is `SHAPE_FLOPS`, `kernels` is `KERNELS`. Null where a rank has kernels but none was launched by the
    operator (inside a graph, or outside the capture).
    """
    mine = kernels.join(operators, on=["rank", "cycle"], how="semi")
    launched = mine.filter(pl.col("launch_start_ns").is_not_null()).sort("launch_start_ns")
    inside = (
        launched.select(
            "rank",
            "cycle",
            pl.col("launch_thread").alias("thread"),
            "launch_start_ns",
            (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns"),
        )
        .join_asof(
            operators.select("rank", "cycle", "thread", "index", "start_ns", "end_ns").sort("start_ns"),
            left_on="launch_start_ns",
            right_on="start_ns",
            by=["rank", "cycle", "thread"],
            check_sortedness=False,
        )
        .filter(pl.col("launch_start_ns") < pl.col("end_ns"))
        .group_by("rank", "cycle", "index")
        .agg(pl.col("duration_ns").sum())
    )
    has_device = kernels.select("rank").unique().with_columns(pl.lit(value=True).alias("has_device"))
    own = pl.col("end_ns") - pl.col("start_ns")
    return (
        operators.join(inside, on=["rank", "cycle", "index"], how="left")
        .join(has_device, on="rank", how="left")
        .with_columns(pl.when(pl.col("has_device").is_null()).then(own).otherwise("duration_ns").alias("duration_ns"))
        .drop("has_device")
    )


def with_shapes(kernels: pl.DataFrame, operators: pl.DataFrame) -> pl.DataFrame:
    """`KERNELS` with `shape`: operator and sizes of what launched each, from `SHAPE_FLOPS`; null if none was recorded."""
    shaped = operators.filter(pl.col("shape").is_not_null()).select(
        "rank",
        "cycle",
        pl.col("thread").alias("launch_thread"),
        pl.col("start_ns").alias("_from_ns"),
        pl.col("end_ns").alias("_to_ns"),
        pl.concat_str("name", pl.lit(" "), "shape").alias("_shape"),
    )
    unshaped = kernels.drop("shape", strict=False)
    return conform(unshaped, KERNELS) if shaped.is_empty() else _shaped(unshaped, shaped)


@in_rank_groups
def _shaped(kernels: pl.DataFrame, shaped: pl.DataFrame) -> pl.DataFrame:
    inside = pl.col("launch_start_ns") < pl.col("_to_ns")
    found = (
        kernels.filter(pl.col("launch_start_ns").is_not_null())
        .sort("launch_start_ns")
        .join_asof(
            shaped.sort("_from_ns"),
            left_on="launch_start_ns",
            right_on="_from_ns",
            by=["rank", "cycle", "launch_thread"],
            check_sortedness=False,
        )
        .select("rank", "cycle", "index", pl.when(inside).then("_shape").cast(KERNELS["shape"]).alias("shape"))
    )
    return conform(kernels.join(found, on=["rank", "cycle", "index"], how="left", maintain_order="left"), KERNELS)


def covered_share(timed: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """How much of each rank's launched matrix-multiplication and attention time has a shape: `rank`, `covered_share`.

    Below 1 the FLOPs of recorded shapes are a lower bound: some kernels were launched by operators that cannot be read.
    `timed` comes from `operator_times`.
    """
    known = (
        timed.filter(pl.col("flops").is_not_null()).group_by("rank").agg(pl.col("duration_ns").sum().alias("known_ns"))
    )
    busy = (
        kernels.filter(pl.col("kind").is_in(COMPUTE) & pl.col("launch_start_ns").is_not_null())
        .group_by("rank")
        .agg((pl.col("end_ns") - pl.col("start_ns")).sum().alias("busy_ns"))
    )
    # An operator's own reductions and casts come on top of its matrix kernels, so the share may pass 1 a little.
    share = (pl.col("known_ns").fill_null(0) / pl.col("busy_ns")).clip(upper_bound=1.0)
    return busy.join(known, on="rank", how="left").select("rank", share.alias("covered_share")).sort("rank")


def number_formats(operators: pl.DataFrame) -> pl.DataFrame:
    """FLOPs by number format over all ranks, most first: `number_format` (null if it has no peak), `flops`, `flops_share`.

    `operators` is `SHAPE_FLOPS`. A job that multiplies partly in fp8 is not to be set against its bf16 peak.
    """
    return (
        operators.filter(pl.col("flops") > 0)
        .group_by(_number_format().alias("number_format"))
        .agg(pl.col("flops").sum())
        .with_columns((pl.col("flops") / pl.col("flops").sum()).alias("flops_share"))
        .sort("flops", descending=True)
    )


def _number_format() -> pl.Expr:
    return pl.col("dtype").replace_strict(NUMBER_FORMATS, default=None, return_dtype=pl.String)


def roofline(
    timed: pl.DataFrame, peak_flops_per_second: Mapping[str, float], memory_bytes_per_second: float | None
) -> pl.DataFrame:
    """Shapes by the time they lose to the roof, largest first.

    Args:
        timed: operators with `duration_ns`, from `operator_times`.
        peak_flops_per_second: dense or measured peak by number format (`bf16`, ...).
        memory_bytes_per_second: None if it is not known; then only the peak bounds.

    Returns:
        `name`, `kind`, `dtype`, `shape`, `num_calls`, `duration_ns`, `flops`, `bytes`, `flops_per_second`,
        `roof_flops_per_second`, `bound` (compute or memory), `roof_share` (reached share of the roof) and `lost_ns`.
        A number format without a peak leaves the last five null, and so does a roof that was exceeded: then the peak
        or the shape is not what it seems.
    """
    peak = _number_format().replace_strict(dict(peak_flops_per_second), default=None, return_dtype=pl.Float64)
    compute_s = pl.col("flops") / peak
    memory_s = pl.col("bytes") / (memory_bytes_per_second or float("inf"))
    ideal_s = pl.max_horizontal(compute_s, memory_s.fill_null(0.0))
    duration_s = pl.col("duration_ns") / 1e9
    share = ideal_s / duration_s
    is_bounded = compute_s.is_not_null() & (share <= 1)
    return (
        timed.filter(pl.col("flops").is_not_null() & (pl.col("duration_ns") > 0))
        .group_by("name", "kind", "dtype", "shape")
        .agg(
            pl.len().cast(pl.Int64).alias("num_calls"),
            pl.col("duration_ns").sum(),
            pl.col("causal_flops").sum().alias("flops"),
            pl.col("bytes").sum(),
        )
        .with_columns(
            (pl.col("flops") / duration_s).alias("flops_per_second"),
            pl.when(is_bounded).then(pl.col("flops") / ideal_s).alias("roof_flops_per_second"),
            pl.when(is_bounded & (memory_s.fill_null(0.0) > compute_s))
            .then(pl.lit("memory"))
            .when(is_bounded)
            .then(pl.lit("compute"))
            .alias("bound"),
            pl.when(is_bounded).then(share).alias("roof_share"),
            pl.when(is_bounded).then(((duration_s - ideal_s) * 1e9).round().cast(pl.Int64)).alias("lost_ns"),
        )
        .sort("lost_ns", "duration_ns", descending=True, nulls_last=True)
    )
