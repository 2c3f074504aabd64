"""What the traces show of a late rank: kernels that take longer, and what its launching thread did instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.communication.programs import COMPUTING
from traceanalyzer.review.words import times

MIN_COVERED = 0.5
"""Of a pause: an event that covers less did not cause it. An event with less of itself in the pause holds other work."""
NUM_PAUSES = 10
"""The longest ones are looked at."""
_SAME_COUNT = 0.01
_MAX_NAME = 60


@dataclass(frozen=True, slots=True)
class KernelEvidence:
    """The kernel that takes most beyond the peers, and how it does."""

    name: str
    text: str


def kernel_evidence(kernels: pl.DataFrame, rank: int, others: Sequence[int]) -> KernelEvidence | None:
    """Time by kernel name against the median of `others`; `kernels` is `KERNELS`."""
    own = kernels.filter(
        pl.col("rank").is_in([rank, *others])
        & pl.col("kind").cast(pl.String).is_in(COMPUTING)
        & pl.col("step").is_not_null()
    )
    by_name = own.group_by("rank", pl.col("name").cast(pl.String)).agg(
        (pl.col("end_ns") - pl.col("start_ns")).sum().alias("total"), pl.len().cast(pl.Int64).alias("num")
    )
    whole = pl.DataFrame({"rank": [rank, *others]}, schema={"rank": pl.Int32}).join(
        by_name.select("name").unique(), how="cross"
    )
    filled = whole.join(by_name, on=["rank", "name"], how="left").with_columns(pl.col("total", "num").fill_null(0))
    theirs = (
        filled.filter(pl.col("rank") != rank)
        .group_by("name")
        .agg(pl.col("total").median().alias("their_total"), pl.col("num").median().alias("their_num"))
    )
    rows = (
        filled.filter(pl.col("rank") == rank)
        .join(theirs, on="name")
        .with_columns((pl.col("total") - pl.col("their_total")).alias("beyond"))
        .filter(pl.col("beyond") > 0)
        .sort("beyond", "name", descending=[True, False])
    )
    if rows.is_empty():
        return None
    row = rows.row(0, named=True)
    name = row["name"] if len(row["name"]) <= _MAX_NAME else row["name"][:_MAX_NAME] + "…"
    if abs(row["num"] - row["their_num"]) <= _SAME_COUNT * row["num"]:
        longer = times(row["total"] / row["their_total"])
        return KernelEvidence(row["name"], f"`{name}` takes {longer} as long, as often as on the others")
    text = f"`{name}` runs {row['num']} times, {row['their_num']:.0f} on the others"
    return KernelEvidence(row["name"], text)


def pauses(nodes: pl.DataFrame, segments: pl.DataFrame, rank: int) -> pl.DataFrame:
    """`from_ns`, `to_ns`, `host_ns` of the places where the rank's launches are latest beyond the base, longest first."""
    late = segments.filter((pl.col("rank") == rank) & ~pl.col("is_first")).select(
        "rank", "step", "operation", (pl.col("host_ns") - pl.col("base_host_ns").fill_null(0)).alias("_beyond")
    )
    return (
        nodes.filter(pl.col("host_ns") > 0)
        .join(late.filter(pl.col("_beyond") > 0), on=["rank", "step", "operation"])
        .sort("_beyond", "host_ns", descending=True)
        .select("from_ns", "to_ns", "host_ns")
        .head(NUM_PAUSES)
    )


@dataclass(frozen=True, slots=True)
class HostEvidence:
    """What the launching thread did in the pauses."""

    call: str | None
    text: str


def host_evidence(events: pl.DataFrame, kernels: pl.DataFrame, rank: int, found: pl.DataFrame) -> HostEvidence:
    """The event of the launching thread that fills most of the pauses.

    Args:
        events: `EVENTS` of the rank, on the clock of the pauses.
        kernels: `KERNELS`.
        rank: the late one.
        found: `pauses`.
    """
    own = kernels.filter((pl.col("rank") == rank) & pl.col("launch_thread").is_not_null())
    threads = own["launch_thread"].cast(pl.String).mode().sort().to_list()[:1]
    thread = pl.col("thread").cast(pl.String)
    on_thread = events.filter(
        (pl.col("ph").cast(pl.String) == "X") & pl.col("stream").is_null() & thread.is_in(threads)
        & ~pl.col("name").cast(pl.String).str.starts_with("ProfilerStep")
    ).select(pl.col("name").cast(pl.String), "category", "start_ns", "duration_ns", (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))  # fmt: skip
    on_thread = _without_labels(on_thread, own)
    filled: dict[str, int] = {}
    whole = sum(found["host_ns"].to_list())
    for start, end, host in found.iter_rows():
        covered = (pl.min_horizontal("end_ns", pl.lit(end)) - pl.max_horizontal("start_ns", pl.lit(start))).alias(
            "covered"
        )
        inside = on_thread.with_columns(covered).filter(
            (pl.col("covered") >= MIN_COVERED * host) & (pl.col("covered") >= MIN_COVERED * pl.col("duration_ns"))
        )
        if inside.height:
            name = inside.sort("duration_ns", "name").row(0, named=True)["name"]
            filled[name] = filled.get(name, 0) + host
    if filled:
        name = max(filled, key=lambda each: (filled[each], each))
        if filled[name] >= MIN_COVERED * whole:
            return HostEvidence(name, f"meanwhile its launching thread was in `{name[:_MAX_NAME]}`")
    return HostEvidence(None, "nothing was recorded on its launching thread meanwhile" + _before(on_thread, found))


def _without_labels(on_thread: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """Less annotations that hold launches of computation or communication: they name the work that is late, no call."""
    working = own.filter(pl.col("kind").cast(pl.String) != "copy")
    launches = working["launch_start_ns"].drop_nulls().sort()
    first = launches.search_sorted(on_thread["start_ns"], side="left")
    last = launches.search_sorted(on_thread["end_ns"], side="right")
    annotation = pl.col("category").cast(pl.String).fill_null("user_annotation") == "user_annotation"
    return on_thread.filter(~(annotation & (last > first)))


def _before(on_thread: pl.DataFrame, found: pl.DataFrame) -> str:
    """After which event the longest pause of the launching thread came."""
    if found.is_empty():
        return ""
    start, end, _ = found.row(0)
    inside = on_thread.filter((pl.col("end_ns") > start - 1) | (pl.col("start_ns") < end)).sort("start_ns")
    silent = (
        inside.with_columns(pl.col("end_ns").cum_max().shift(1).alias("_ended"), pl.col("name").shift(1).alias("_last"))
        .filter((pl.col("start_ns") <= end) & (pl.col("start_ns") > start))
        .with_columns((pl.col("start_ns") - pl.col("_ended")).alias("_silent"))
        .sort("_silent", descending=True)
    )
    if silent.is_empty() or silent["_last"][0] is None:
        return ""
    row = silent.row(0, named=True)
    return f" (between `{row['_last'][:_MAX_NAME]}` and `{row['name'][:_MAX_NAME]}`)"
