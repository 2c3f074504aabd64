"""Tables of kernels and communication → the sections of the review that sum them over ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.measurements.communication.groups import Overlap, bandwidths, communication_groups, overlap
from traceanalyzer.measurements.efficiency.kernel_times import kernel_classes, kernel_names, rank_summary
from traceanalyzer.review import (
    Communication,
    CommunicationGroup,
    KernelClass,
    KernelName,
    KernelPhase,
    Kernels,
    Withheld,
)
from traceanalyzer.tables import Tables

MIN_SPACED = 0.5
"""Of the kernels: what the launches of fewer show is not said of all."""
NUM_TOP = 20
MAX_GROUPS = 64


@dataclass(frozen=True, slots=True)
class KernelGap(SubjectPart):
    """Sections on kernels and communication with the tables behind them."""

    kernels: Kernels | None
    """None without devices."""
    communication: Communication | None
    """None without communication."""
    classes: pl.DataFrame
    names: pl.DataFrame
    groups: pl.DataFrame
    bandwidths: pl.DataFrame
    summary: pl.DataFrame
    withheld: tuple[Withheld, ...] = ()

    @property
    def sections(self) -> Mapping[str, object]:
        """Kernel time and communication."""
        return {"kernels": self.kernels, "communication": self.communication}

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """Kernels by class, name and rank; communication by group."""
        return {
            "kernel_classes": self.classes,
            "kernel_names": self.names,
            "communication_groups": self.groups,
            "bandwidths": self.bandwidths,
            "rank_summary": self.summary,
        }


def kernel_gap(tables: Tables, splits: pl.DataFrame, messages: pl.DataFrame, account: pl.DataFrame) -> KernelGap:
    """Kernel and communication sections, from `COLLECTIVE_SPLITS`, `P2P_SPLITS` and `ACCOUNTING`."""
    windows = tables.steps
    classes, names = kernel_classes(windows, tables.kernels), kernel_names(windows, tables.kernels)
    groups = communication_groups(windows, tables.kernels, splits, messages)
    num_windows = windows.join(tables.kernels, on="rank", how="semi").height
    return KernelGap(
        kernels=_kernels(classes, names, tables.kernel_phases.join(windows, on=["rank", "step"], how="semi"), num_windows),
        communication=_communication(groups, overlap(windows, tables.kernels), windows),
        classes=classes,
        names=names,
        groups=groups,
        bandwidths=bandwidths(splits, messages),
        summary=rank_summary(windows, tables.kernels, account),
    )  # fmt: skip


def _kernels(classes: pl.DataFrame, names: pl.DataFrame, phases: pl.DataFrame, num_windows: int) -> Kernels | None:
    if classes.is_empty():
        return None
    whole = names["duration_ns"].sum() or 1  # kernels of length 0: no share of no time
    share = (pl.col("duration_ns") / whole).alias("share")
    sum_ms = (pl.col("duration_ns") / num_windows / 1e6).alias("sum_ms")
    spaced = names.group_by("kind").agg(pl.col("num_spaced").sum(), _num_bound().alias("num_bound"))
    by_kind = (
        classes.group_by("kind")
        .agg(pl.col("num_kernels", "duration_ns", "union_ns").sum())
        .join(spaced, on="kind")
        .sort("kind")
        .select(
            pl.col("kind").cast(pl.String),
            "num_kernels",
            sum_ms,
            (pl.col("union_ns") / num_windows / 1e6).alias("union_ms"),
            share,
            _bound_share(),
        )
    )
    return Kernels(
        classes=[KernelClass(**row) for row in by_kind.iter_rows(named=True)],
        top=[KernelName(**row) for row in _top(names, share, sum_ms).iter_rows(named=True)],
        phases=[KernelPhase(**row) for row in _phases(phases, sum_ms).iter_rows(named=True)],
    )


def _top(names: pl.DataFrame, share: pl.Expr, sum_ms: pl.Expr) -> pl.DataFrame:
    by_name = names.group_by("name", "kind").agg(
        pl.col("num_kernels", "duration_ns", "num_spaced").sum(),
        pl.col("min_ns").min(),
        pl.col("max_ns").max(),
        _num_bound().alias("num_bound"),
    )
    return (
        by_name.sort("duration_ns", "name", descending=[True, False])
        .head(NUM_TOP)
        .select(
            "name",
            pl.col("kind").cast(pl.String),
            "num_kernels",
            sum_ms,
            share,
            (pl.col("duration_ns") / pl.col("num_kernels") / 1e3).alias("mean_us"),
            (pl.col("min_ns") / 1e3).alias("min_us"),
            (pl.col("max_ns") / 1e3).alias("max_us"),
            _bound_share(),
        )
    )


def _num_bound() -> pl.Expr:
    return (pl.col("launch_bound_share") * pl.col("num_spaced")).sum()


def _bound_share() -> pl.Expr:
    most = pl.col("num_spaced") > MIN_SPACED * pl.col("num_kernels")
    return pl.when(most).then(pl.col("num_bound") / pl.col("num_spaced")).alias("launch_bound_share")


def _phases(phases: pl.DataFrame, sum_ms: pl.Expr) -> pl.DataFrame:
    return (
        phases.group_by("phase")
        .agg(pl.col("num_kernels", "duration_ns").sum(), pl.col("basis").unique().sort().str.join(","))
        .sort("phase", nulls_last=True)
        .select(pl.col("phase").cast(pl.String), "basis", "num_kernels", sum_ms)
    )


def _communication(groups: pl.DataFrame, found: Overlap | None, windows: pl.DataFrame) -> Communication | None:
    if groups.is_empty():
        return None
    on_device = groups.filter(pl.col("exposed_ns").is_not_null())["rank"].unique().to_list()
    of_device = windows.filter(pl.col("rank").is_in(on_device))
    length = int((of_device["end_ns"] - of_device["start_ns"]).sum())
    return Communication(
        overlapped_share=_ratio(found.overlapped_ns, found.exchange_ns) if found else None,
        overlapped_share_with_barriers=(
            _ratio(found.overlapped_with_barriers_ns, found.exchange_with_barriers_ns) if found else None
        ),
        exposed_share=_ratio(found.exchange_ns - found.overlapped_ns, length) if found else None,
        groups=[CommunicationGroup(**row) for row in _groups(groups).head(MAX_GROUPS).iter_rows(named=True)],
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _groups(groups: pl.DataFrame) -> pl.DataFrame:
    """Rows of `CommunicationGroup`, most exposed first."""

    def whole(name: str) -> pl.Expr:
        return pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).sum()).alias(name)

    parts = ["duration_ns", "transfer_ns", "wait_ns", "exposed_ns"]
    together = groups.group_by("dimension", "group").agg(
        pl.col("num_ranks").first(),
        pl.col("rank").n_unique().cast(pl.Int64).alias("num_ranks_captured"),
        *(whole(name) for name in (*parts, "overlapped_ns")),
        pl.col("num_windows", "window_ns").sum(),
        pl.col("bus_bytes_per_second").median(),
    )
    return together.sort("exposed_ns", "duration_ns", "group", descending=[True, True, False], nulls_last=True).select(
        pl.col("dimension").cast(pl.String),
        "group",
        "num_ranks",
        "num_ranks_captured",
        *((pl.col(name) / pl.col("num_windows") / 1e6).alias(name.replace("_ns", "_ms")) for name in parts),
        (pl.col("exposed_ns") / pl.col("window_ns")).alias("exposed_share"),
        pl.when(pl.col("duration_ns") > 0)
        .then(pl.col("overlapped_ns") / pl.col("duration_ns"))
        .alias("overlapped_share"),
        (pl.col("bus_bytes_per_second") / 1e9).alias("bus_bandwidth_gbps"),
    )
