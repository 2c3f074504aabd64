"""Who made whom wait at an all-to-all, and what the late rank was doing meanwhile.

A rank waits w = arrival of the last member it exchanges with − own arrival. Both came from their previous collective, so
w is the sum of four differences between the late rank and the waiter: when they left that collective, and how long
expert computation, other computation and the host took since. Positive differences share w in proportion: what the
waiter itself lost against the late rank is slack that absorbed part of it. Every wait is blamed to the nanosecond.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import union
from traceanalyzer.schema import EXPERT_BLAME, conform

_LABELS = ("experts", "other_compute")
CAUSES = ("experts", "other_compute", "transfer", "before", "host")
"""`transfer`: the late rank left the exchange before this one later; `before`: likewise, but there was none in this step."""


def expert_blame(
    splits: pl.DataFrame, windows: pl.DataFrame, experts: pl.DataFrame, operators: pl.DataFrame
) -> pl.DataFrame:
    """`EXPERT_BLAME` of the all-to-alls in `COLLECTIVE_SPLITS`; sums to their `wait_ns` exactly.

    `windows` is `STEPS`; `experts` and `operators` are intervals with `rank`, `start_ns`, `end_ns`. Waits at exchanges
    whose late member is not known, or by another basis than the clock's arrivals, are left out.
    """
    stretches = _stretches(splits, windows)
    shares = _durations(stretches, experts, operators)
    keys = ["step", "group", "kind", "sequence"]
    columns = [*keys, "rank", "left_ns", "first", *_LABELS, "host"]
    waits = splits.filter(
        (pl.col("kind") == "all_to_all") & (pl.col("wait_ns") > 0) & (pl.col("late_rank") != pl.col("rank"))
    ).select(*keys, "rank", "layer", "direction", "wait_ns", "late_rank")
    pairs = waits.join(shares.select(columns), on=[*keys, "rank"]).join(
        shares.select(columns), left_on=[*keys, "late_rank"], right_on=[*keys, "rank"], suffix="_late"
    )
    differences = pairs.with_columns(
        *[(pl.col(f"{name}_late") - pl.col(name)).clip(lower_bound=0).alias(name) for name in (*_LABELS, "host")],
        (pl.col("left_ns_late") - pl.col("left_ns")).clip(lower_bound=0).alias("left"),
    ).with_columns(
        pl.when(pl.col("first")).then(0).otherwise(pl.col("left")).alias("transfer"),
        pl.when(pl.col("first")).then("left").otherwise(0).alias("before"),
    )
    return _shared(differences)


def _stretches(splits: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """What lies before every collective of a rank: from the end of its previous one, or the window's start, to its own."""
    bounds = windows.select("rank", "step", pl.col("start_ns").alias("window_ns"))
    previous = pl.col("end_ns").cum_max().shift(1).over("rank", "step")
    return (
        splits.join(bounds, on=["rank", "step"])
        .sort("rank", "start_ns")
        .with_columns(
            previous.is_null().alias("first"),
            pl.coalesce(previous, "window_ns").alias("left_ns"),
        )
        .select("rank", "step", "group", "kind", "sequence", "first", "left_ns", pl.col("start_ns").alias("arrival_ns"))
    )


def _durations(stretches: pl.DataFrame, experts: pl.DataFrame, operators: pl.DataFrame) -> pl.DataFrame:
    """Add nanoseconds of expert computation, other computation and the rest (`host`) of every stretch.

    Collectives of a rank may overlap; then a stretch is empty.
    """
    columns = ["rank", "start_ns", "end_ns"]
    computed = pl.concat([experts.select(columns), operators.select(columns)])
    length = (pl.col("arrival_ns") - pl.col("left_ns")).clip(lower_bound=0)
    with_experts = _with_covered(stretches, experts.select(columns), _LABELS[0])
    return (
        _with_covered(with_experts, computed, "_computed")
        .with_columns(
            (pl.col("_computed") - pl.col(_LABELS[0])).alias(_LABELS[1]), (length - pl.col("_computed")).alias("host")
        )
        .drop("_computed")
    )


def _with_covered(stretches: pl.DataFrame, intervals: pl.DataFrame, name: str) -> pl.DataFrame:
    """Add how much of every stretch the intervals cover."""
    merged = union(intervals, ["rank"])
    before = (pl.col("end_ns") - pl.col("start_ns")).cum_sum().shift(1).over("rank").fill_null(0)
    known = merged.with_columns(before.alias("_before")).sort("start_ns")

    def covered_until(frame: pl.DataFrame, point: str) -> pl.DataFrame:
        joined = frame.sort(point).join_asof(
            known, left_on=point, right_on="start_ns", by="rank", strategy="backward", check_sortedness=False
        )
        partial = pl.min_horizontal(pl.col(point), "end_ns") - pl.col("start_ns")
        total = pl.when(pl.col("start_ns").is_null()).then(0).otherwise(pl.col("_before") + partial)
        return joined.with_columns(total.alias(f"_{point}")).drop("start_ns", "end_ns", "_before")

    ends = covered_until(covered_until(stretches, "left_ns"), "arrival_ns")
    share = (pl.col("_arrival_ns") - pl.col("_left_ns")).clip(lower_bound=0)
    return ends.with_columns(share.alias(name)).drop("_arrival_ns", "_left_ns")


def _shared(differences: pl.DataFrame) -> pl.DataFrame:
    """Share every wait among its causes in proportion; the rounding error goes to the largest."""
    keys = ["step", "group", "sequence", "layer", "direction", "waiter", "culprit"]
    rows = (
        differences.rename({"rank": "waiter", "late_rank": "culprit"})
        .unpivot(list(CAUSES), index=[*keys, "wait_ns"], variable_name="cause", value_name="part")
        .with_columns(pl.col("part").sum().over(keys).alias("all"))
        .with_columns(  # nothing differs: a wait that no stretch explains is the host's
            pl.when(pl.col("all") > 0).then("part").otherwise((pl.col("cause") == "host").cast(pl.Int64)).alias("part")
        )
        .with_columns(pl.col("part").sum().over(keys).alias("all"))
        .with_columns((pl.col("wait_ns") * (pl.col("part") / pl.col("all"))).floor().cast(pl.Int64).alias("share"))
        .with_columns((pl.col("wait_ns") - pl.col("share").sum().over(keys)).alias("left"))
        .with_columns((pl.col("part").arg_max().over(keys) == pl.int_range(pl.len()).over(keys)).alias("largest"))
        .with_columns((pl.col("share") + pl.when("largest").then("left").otherwise(0)).alias("duration_ns"))
        .filter(pl.col("duration_ns") > 0)
    )
    return conform(rows, EXPERT_BLAME).sort("step", "group", "sequence", "waiter", "cause")
