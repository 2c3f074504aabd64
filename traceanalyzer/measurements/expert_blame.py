"""Who made whom wait at an all-to-all, and what the late rank was doing meanwhile.

A rank waits w = arrival of the last member it exchanges with − own arrival. Both came from their previous collective, so
w is the sum of four differences between the late rank and the waiter: when they left that collective, and how long
expert computation, other computation and the host took since. Positive differences share w in proportion: what the
waiter itself lost against the late rank is slack that absorbed part of it. Every wait is blamed to the nanosecond.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.intervals import sweep, union
from traceanalyzer.schema import EXPERT_BLAME, conform

_LABELS = ("experts", "other_compute")
CAUSES = ("experts", "other_compute", "transfer", "before", "host")
"""`transfer`: the late rank left the exchange before this one later; `before`: likewise, but there was none in this step."""
_STRETCH = ["rank", "step", "stretch"]


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
            pl.int_range(pl.len()).over("rank", "step").alias("stretch"),
            previous.is_null().alias("first"),
            pl.coalesce(previous, "window_ns").alias("left_ns"),
        )
        .select(*_STRETCH, "group", "kind", "sequence", "first", "left_ns", pl.col("start_ns").alias("arrival_ns"))
    )


def _durations(stretches: pl.DataFrame, experts: pl.DataFrame, operators: pl.DataFrame) -> pl.DataFrame:
    """Add nanoseconds of expert computation, other computation and the rest (`host`) of every stretch."""
    spans = stretches.select(*_STRETCH, pl.col("left_ns").alias("start_ns"), pl.col("arrival_ns").alias("end_ns"))
    spans = spans.filter(pl.col("end_ns") > pl.col("start_ns"))
    computed = pl.concat(
        [
            union(table.select("rank", "start_ns", "end_ns"), ["rank"]).with_columns(pl.lit(label).alias("label"))
            for table, label in ((experts, _LABELS[0]), (operators, _LABELS[1]))
        ]
    )
    inside = spans.join_where(
        computed.rename({"start_ns": "from_ns", "end_ns": "to_ns", "rank": "on_rank"}),
        pl.col("rank") == pl.col("on_rank"),
        pl.col("from_ns") < pl.col("end_ns"),
        pl.col("to_ns") > pl.col("start_ns"),
    ).select(
        *_STRETCH,
        "label",
        pl.max_horizontal("start_ns", "from_ns").alias("start_ns"),
        pl.min_horizontal("end_ns", "to_ns").alias("end_ns"),
    )
    segments = sweep(inside, spans, _STRETCH, _LABELS)
    length = pl.col("end_ns") - pl.col("start_ns")
    found = segments.group_by(_STRETCH).agg(
        *[length.filter(pl.col("label") == label).sum().alias(label) for label in _LABELS],
        length.filter(pl.col("label").is_null()).sum().alias("host"),
    )
    return stretches.join(found, on=_STRETCH, how="left").with_columns(pl.col(*_LABELS, "host").fill_null(0))


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
