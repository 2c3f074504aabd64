"""Experts sharded whole (EP) or in slices (TP): bytes of one rank, layer and forward pass, and the rate of their GEMMs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.experts.detail import ExpertTables
from traceanalyzer.gaps.experts.volumes import layer_shape
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.job import Job
from traceanalyzer.measurements.experts.traffic import byte_loads
from traceanalyzer.review import ExpertGemm, ExpertSharding, Withheld
from traceanalyzer.theory.experts.volumes import expert_parallel_bytes, tensor_parallel_bytes

_FACTORS = r"^(\d+)x(\d+) (\d+)x(\d+)$"
_PASS = ["step", "layer", "group", "rank"]


@dataclass(frozen=True, slots=True)
class ShardingGap(SubjectPart):
    """The section on sharding; None without expert layers."""

    figures: ExpertSharding | None
    withheld: tuple[Withheld, ...] = ()

    @property
    def sections(self) -> Mapping[str, object]:
        """Sharding."""
        return {"expert_sharding": self.figures}


def sharding_gap(
    experts: ExpertTables, computation: pl.DataFrame, timed: pl.DataFrame, job: Job | None, *, faithful: bool
) -> ShardingGap:
    """Sharding of expert layers, with the rates of their matrix multiplications if their times are the hardware's.

    `computation` has the ranges of expert layers, `timed` is from `measurements.roofline.operator_times`.
    """
    gemms = expert_gemms(computation, timed) if faithful else []
    figures = expert_sharding(experts.collectives, experts.traffic, job, gemms)
    if figures is None or gemms:
        return ShardingGap(figures)
    reason = (
        "no shapes were recorded inside ranges of expert computation, or a paced or disturbed run: their times are "
        "not the hardware's"
    )
    return ShardingGap(figures, (Withheld(metric="expert_sharding.gemms", reason=reason),))


def expert_sharding(
    splits: pl.DataFrame, matrix: pl.DataFrame, job: Job | None, gemms: list[ExpertGemm]
) -> ExpertSharding | None:
    """What the forward passes of expert layers moved, by this sharding and by the other; None without such layers.

    Args:
        splits: `COLLECTIVE_SPLITS` with directions.
        matrix: `TRAFFIC`.
        job: gives the layer's shape; its tokens are declared.
        gemms: `expert_gemms`, where their times are the hardware's.
    """
    gathered = splits.filter(pl.col("direction").is_in(["gather", "reduce"]) & pl.col("send_bytes").is_not_null())
    exchanged = matrix.filter(pl.col("direction").is_in(["dispatch", "combine"]) & pl.col("layer").is_not_null())
    passes = _sliced(gathered) if exchanged.is_empty() else _whole(exchanged)
    measured = passes["bytes"].mean()
    if not isinstance(measured, int | float):
        return None
    num_ranks = str(passes["group"][0]).count(",") + 1
    tokens = (
        0.0
        if job is None or job.layout is None
        else job.tokens_per_step / (job.layout.num_batch_parts * (job.num_microbatches or 1))
    )
    layer = layer_shape(tokens, num_ranks, job) if tokens else None
    return ExpertSharding(
        sharded_by="tp" if exchanged.is_empty() else "ep",
        num_ranks=num_ranks,
        measured_bytes=float(measured),
        expert_parallel_bytes=None if layer is None else expert_parallel_bytes(layer),
        tensor_parallel_bytes=None if layer is None else tensor_parallel_bytes(layer),
        gemms=gemms,
    )


def expert_gemms(computation: pl.DataFrame, timed: pl.DataFrame) -> list[ExpertGemm]:
    """Matrix multiplications inside the ranges of expert computation, by pass and, forward, by the expert's matrix.

    `computation` has the ranges of expert layers, `timed` is from `measurements.roofline.operator_times`.
    """
    ranges = computation.filter(pl.col("part").is_in(["experts", "experts_backward"])).select(
        "rank", "part", pl.col("start_ns").alias("_from"), pl.col("end_ns").alias("_to")
    )
    sizes = [
        pl.col("shape").str.extract(_FACTORS, i).cast(pl.Int64, strict=False).alias(name)
        for i, name in ((1, "m"), (2, "k"), (4, "n"))
    ]
    inside = (
        timed.filter((pl.col("kind") == "gemm") & (pl.col("flops") > 0) & (pl.col("duration_ns") > 0))
        .sort("start_ns")
        .join_asof(ranges.sort("_from"), left_on="start_ns", right_on="_from", by="rank", check_sortedness=False)
        .filter(pl.col("start_ns") < pl.col("_to"))
        .with_columns(sizes)
    )
    forward = pl.col("part") == "experts"
    rows = (
        inside.group_by("part", *[pl.when(forward).then(name).alias(name) for name in ("k", "n")])
        .agg(
            pl.len().alias("num_calls"),
            pl.when(forward.all()).then(pl.col("m").median()).alias("rows"),
            pl.col("flops").sum(),
            pl.col("duration_ns").sum(),
        )
        .sort("part", "k", "n")
    )
    return [
        ExpertGemm(
            part=row["part"],
            rows=row["rows"],
            inner=row["k"],
            columns=row["n"],
            num_calls=row["num_calls"],
            flops_per_second=row["flops"] / row["duration_ns"] * 1e9,
        )
        for row in rows.iter_rows(named=True)
    ]


def _whole(exchanged: pl.DataFrame) -> pl.DataFrame:
    """Bytes that dispatch and combine of each pass send over links: `_PASS`, `bytes`."""
    return byte_loads(exchanged).group_by(_PASS).agg(pl.col("sent_bytes").sum().alias("bytes"))


def _sliced(gathered: pl.DataFrame) -> pl.DataFrame:
    """Bytes that gather and reduce of each pass send over links as rings: `_PASS`, `bytes`.

    A ring passes a gathered part on n − 1 times, and of what it reduces all but one part once.
    """
    num_ranks = pl.col("group").str.count_matches(",", literal=True) + 1
    sent = pl.col("send_bytes") * (num_ranks - 1)
    ring = pl.when(pl.col("direction") == "gather").then(sent).otherwise(sent / num_ranks)
    return gathered.filter(pl.col("group").is_not_null()).group_by(_PASS).agg(ring.sum().alias("bytes"))
