"""What computation consists of: matrix multiplications, attention, everything else."""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import clip, sweep, union

_KEYS = ["rank", "step"]
CLASSES = ("gemm", "attention", "other")


def compute_classes(
    windows: pl.DataFrame, kernels: pl.DataFrame, operators: pl.DataFrame, account: pl.DataFrame
) -> pl.DataFrame:
    """Computing time by class: `rank`, `step`, `class`, `duration_ns`; per rank and step it sums to `compute` exactly.

    Kernels decide on devices (`fused` ones count as `gemm`), recorded operators on CPUs; where neither does, all is
    `other`. Of kernels at once `gemm` comes before `attention` before the rest, as matrix units decide the pace.

    Args:
        windows: `STEPS`.
        kernels: `KERNELS`.
        operators: recorded operators with `kind`, `start_ns`, `end_ns` (`SHAPE_FLOPS`), on the clock of the windows.
        account: `ACCOUNTING`.
    """
    bounds = windows.select(*_KEYS, "start_ns", "end_ns").filter(pl.col("end_ns") > pl.col("start_ns"))
    kind = pl.col("kind").cast(pl.String).replace("fused", "gemm").alias("label")
    on_host = operators.join(kernels, on="rank", how="anti")
    labelled = pl.concat([frame.select("rank", "start_ns", "end_ns", kind) for frame in (kernels, on_host)]).filter(
        pl.col("label").is_in(CLASSES[:2])
    )
    merged = union(clip(labelled, bounds, ["rank"]), [*_KEYS, "label"])
    length = pl.col("end_ns") - pl.col("start_ns")
    found = (
        sweep(merged, bounds, _KEYS, CLASSES[:2])
        .group_by(_KEYS)
        .agg(*[length.filter(pl.col("label") == name).sum().alias(name) for name in CLASSES[:2]])
    )
    computed = account.filter(pl.col("owner") == "compute").group_by(_KEYS).agg(pl.col("duration_ns").sum())
    gemm = pl.min_horizontal(pl.col("gemm").fill_null(0), "duration_ns")
    attention = pl.min_horizontal(pl.col("attention").fill_null(0), pl.col("duration_ns") - gemm)
    return (
        computed.join(found, on=_KEYS, how="left")
        .select(
            *_KEYS,
            gemm.alias("gemm"),
            attention.alias("attention"),
            (pl.col("duration_ns") - gemm - attention).alias("other"),
        )
        .unpivot(list(CLASSES), index=_KEYS, variable_name="class", value_name="duration_ns")
        .sort(*_KEYS, "class")
    )
