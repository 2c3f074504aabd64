"""Communication by process group and by size: how much of it computation hides, and how fast it is.

Communication is what has a row in `COMMUNICATIONS`. Barriers of expert kernels (DeepEP's `notify`) carry no data and are
waiting; they are counted beside it, never in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.communication.bandwidth import size_of_operation
from traceanalyzer.measurements.experts.exposure import exposure
from traceanalyzer.measurements.ledger.device import COMPUTE_KINDS
from traceanalyzer.measurements.ledger.intervals import clip, covered_within, union
from traceanalyzer.schema import BANDWIDTHS, COMMUNICATION_GROUPS, ROLE, conform
from traceanalyzer.tables.rank_groups import in_rank_groups

_KERNEL = ["rank", "cycle", "index"]
_GROUP = ["rank", "dimension", "group"]
_INTERVAL = ("rank", "start_ns", "end_ns")


@dataclass(frozen=True, slots=True)
class Overlap:
    """Communication of all device ranks and steps, in ns; time counts once however many operations run in it."""

    exchange_ns: int
    overlapped_ns: int
    """Of `exchange_ns`, under computing kernels."""
    exchange_with_barriers_ns: int
    overlapped_with_barriers_ns: int


def overlap(windows: pl.DataFrame, kernels: pl.DataFrame) -> Overlap | None:
    """How much of the communication of device ranks computation hides, without and with barriers; None without any."""
    kind = pl.col("kind").cast(pl.String)
    computing = kernels.filter(kind.is_in(COMPUTE_KINDS)).select(_INTERVAL)
    sums: list[int] = []
    for kinds in (["communication"], ["communication", "barrier"]):
        found = exposure(windows, kernels.filter(kind.is_in(kinds)).select(_INTERVAL), computing)
        sums += [int(found["exchange_ns"].sum()), int(found["overlapped_ns"].sum())]
    return Overlap(*sums) if sums[2] else None


@in_rank_groups
def communication_groups(
    windows: pl.DataFrame, kernels: pl.DataFrame, splits: pl.DataFrame, messages: pl.DataFrame
) -> pl.DataFrame:
    """Communication of every rank by process group (`COMMUNICATION_GROUPS`).

    From `STEPS`, `KERNELS`, `COLLECTIVE_SPLITS` and `P2P_SPLITS`. Kernels that neither of these lists are of an unknown group.
    """
    operations = _operations(kernels, splits, messages).join(windows, on=["rank", "step"], how="semi")
    sums = operations.group_by(_GROUP).agg(
        pl.len().cast(pl.Int64).alias("num_operations"),
        *(
            pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).sum()).alias(name)
            for name in ("wait_ns", "transfer_ns")
        ),
        pl.col("bus_bytes_per_second").median(),
        pl.col("num_ranks").first(),
    )
    bounds = windows.select("rank", "step", "start_ns", "end_ns").filter(pl.col("end_ns") > pl.col("start_ns"))
    own = union(clip(operations.select(*_GROUP, "start_ns", "end_ns"), bounds, ["rank"]), [*_GROUP, "step"])
    computing = kernels.filter(pl.col("kind").is_in(COMPUTE_KINDS))
    hidden = covered_within(own, computing, "start_ns", "end_ns", "overlapped_ns")
    length = pl.col("end_ns") - pl.col("start_ns")
    times = hidden.group_by(_GROUP).agg(length.sum().alias("duration_ns"), pl.col("overlapped_ns").sum())
    steps = windows.group_by("rank").agg(pl.len().alias("num_windows"), length.sum().alias("window_ns"))
    on_device = pl.col("rank").is_in(kernels["rank"].unique().to_list())
    rows = (
        sums.join(times, on=_GROUP, how="left", nulls_equal=True)
        .join(steps, on="rank")
        .with_columns(pl.col("duration_ns").fill_null(0), pl.when(on_device).then(pl.col("overlapped_ns").fill_null(0)))
        .with_columns((pl.col("duration_ns") - pl.col("overlapped_ns")).alias("exposed_ns"))
    )
    return conform(rows, COMMUNICATION_GROUPS).sort(_GROUP)


def _operations(kernels: pl.DataFrame, splits: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """One row per operation that has a start and an end: its group, times, split and bandwidth."""
    columns = [*_KERNEL, "step", "dimension", "group", "num_ranks", "start_ns", "end_ns"]
    stated = ["wait_ns", "transfer_ns", "bus_bytes_per_second"]
    size = pl.col("group").str.count_matches(",", literal=True).cast(pl.Int32) + 1
    collectives = splits.rename({"role": "dimension"}).with_columns(pl.coalesce("num_members", size).alias("num_ranks"))
    sent = messages.rename({"role": "dimension", "payload_bytes_per_second": "bus_bytes_per_second"}).with_columns(
        size.alias("num_ranks")
    )
    known, longest = pl.col("wait_ns").is_not_null().all(), pl.col("wait_ns").max()
    coalesced = (  # a kernel of several messages waits until the last other end has arrived
        sent.filter(pl.col("index").is_not_null())
        .group_by(_KERNEL, maintain_order=True)
        .agg(
            pl.col(columns[3:]).first(),
            pl.when(known).then(longest).alias("wait_ns"),
            pl.when(known).then(pl.col("end_ns").first() - pl.col("start_ns").first() - longest).alias("transfer_ns"),
            pl.col("bus_bytes_per_second").median(),
        )
    )
    listed = pl.concat(
        [
            frame.filter(pl.col("start_ns").is_not_null() & pl.col("end_ns").is_not_null()).select(*columns, *stated)
            for frame in (collectives, coalesced, sent.filter(pl.col("index").is_null()))
        ]
    )
    left = kernels.filter(pl.col("kind") == "communication").join(listed, on=_KERNEL, how="anti")
    unlisted = left.with_columns(
        pl.lit(None, ROLE).alias("dimension"),
        pl.lit(None, pl.String).alias("group"),
        pl.lit(None, pl.Int32).alias("num_ranks"),
        *(pl.lit(None, listed[name].dtype).alias(name) for name in stated),
    ).select(*columns, *stated)
    return pl.concat([listed, unlisted])


def bandwidths(splits: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Bandwidth by operation and size (`BANDWIDTHS`), from `COLLECTIVE_SPLITS` and `P2P_SPLITS`; sizes by powers of two."""
    collectives = splits.filter(pl.col("algorithm_bytes_per_second").is_not_null()).select(
        pl.col("role").alias("dimension"),
        "kind",
        pl.col("num_members").alias("num_ranks"),
        "between_hosts",
        size_of_operation().cast(pl.Float64).alias("bytes"),
        "transfer_ns",
        "algorithm_bytes_per_second",
        "bus_bytes_per_second",
        "link_share",
    )
    rate = pl.col("payload_bytes_per_second")
    sent = messages.filter(rate.is_not_null()).select(
        pl.col("role").alias("dimension"),
        pl.lit("p2p").alias("kind"),
        pl.lit(2, pl.Int32).alias("num_ranks"),
        "between_hosts",
        pl.col("bytes").cast(pl.Float64),
        "transfer_ns",
        rate.alias("algorithm_bytes_per_second"),
        rate.alias("bus_bytes_per_second"),
        "link_share",
    )
    power = pl.lit(2.0).pow(pl.col("bytes").log(2).add(1e-9).floor()).cast(pl.Int64)
    keys = ["dimension", "kind", "num_ranks", "between_hosts", "from_bytes"]
    rows = (
        pl.concat([collectives, sent])
        .filter(pl.col("bytes") > 0)
        .with_columns(power.alias("from_bytes"))
        .group_by(keys)
        .agg(
            pl.len().cast(pl.Int64).alias("num_operations"),
            pl.col("bytes").mean().alias("mean_bytes"),
            pl.col("transfer_ns").median().alias("median_transfer_ns"),
            pl.col("algorithm_bytes_per_second").median(),
            pl.col("bus_bytes_per_second").min().alias("min_bus_bytes_per_second"),
            pl.col("bus_bytes_per_second").max().alias("max_bus_bytes_per_second"),
            pl.col("bus_bytes_per_second", "link_share").median(),
        )
    )
    return conform(rows, BANDWIDTHS).sort(keys)
