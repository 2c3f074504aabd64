"""Which compute kernels of a rank take longer than those of the ranks it is compared with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.device_accounting import COMPUTE_KINDS

SAME_COUNT = 0.01
"""Counts that differ by less of the others' are the same."""
ALL_ALIKE = 0.8
"""Of the kernel time: if so much of it is slower by about the same factor, the device is."""
FACTOR_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class KernelDifference:
    """The kernel that makes most of a rank's excess; per step and rank."""

    name: str
    excess_ms: float
    num: float
    usual_num: float
    mean_us: float
    usual_mean_us: float
    slower_share: float
    """Of the rank's kernel time, what is slower by about the same factor as all of it."""
    factor: float
    """Kernel time over the others'."""

    @property
    def has_more(self) -> bool:
        """The rank runs more of these kernels than the others."""
        return self.num > self.usual_num * (1 + SAME_COUNT)

    @property
    def is_device(self) -> bool:
        """Nearly all kernels are slower alike."""
        return self.slower_share >= ALL_ALIKE and not self.has_more


def kernel_difference(
    kernels: pl.DataFrame, rank: int, others: Collection[int], steps: Collection[int]
) -> KernelDifference | None:  # fmt: skip
    """What `rank` computes longer than the median of `others` in `steps`, from `KERNELS`; None if nothing is longer."""
    chosen = kernels.filter(
        pl.col("kind").is_in(COMPUTE_KINDS) & pl.col("step").is_in(list(steps)) & pl.col("rank").is_in([rank, *others])
    )
    spent = chosen.group_by("rank", pl.col("name").cast(pl.String)).agg(
        (pl.col("end_ns") - pl.col("start_ns")).sum().alias("ns"), pl.len().alias("num")
    )
    names = spent.select("name").unique().join(pl.DataFrame({"rank": list(others)}, schema={"rank": pl.Int32}), how="cross")
    usual = (
        names.join(spent, on=["rank", "name"], how="left")
        .group_by("name")
        .agg(pl.col("ns").fill_null(0).median().alias("usual_ns"), pl.col("num").fill_null(0).median().alias("usual_num"))
    )
    own = spent.filter(pl.col("rank") == rank).join(usual, on="name").with_columns(
        (pl.col("ns") - pl.col("usual_ns")).alias("excess_ns"), (pl.col("ns") / pl.col("usual_ns")).alias("factor")
    )  # fmt: skip
    row = next(iter(own.sort("excess_ns", "name", descending=[True, False]).head(1).iter_rows(named=True)), None)
    if row is None or row["excess_ns"] <= 0:
        return None
    whole, whole_usual = float(own["ns"].sum()), float(own["usual_ns"].sum())
    factor = whole / whole_usual if whole_usual else float("inf")
    alike = own.filter((pl.col("factor") / factor - 1).abs() < FACTOR_SPREAD)["ns"].sum()
    num_steps = max(len(steps), 1)
    return KernelDifference(
        name=row["name"],
        excess_ms=row["excess_ns"] / num_steps / 1e6,
        num=row["num"] / num_steps,
        usual_num=row["usual_num"] / num_steps,
        mean_us=row["ns"] / row["num"] / 1e3,
        usual_mean_us=row["usual_ns"] / row["usual_num"] / 1e3 if row["usual_num"] else 0.0,
        slower_share=float(alike) / whole,
        factor=factor,
    )
