"""What a runtime's range around an action holds beside it: the sends behind it; and a pair's range: two actions.

A range that posts its own sends ends when they were posted, or later where the host took the thread away; the
computation had ended by its last send.

torch's `PP:(1F6;6B2)OVERLAP_F_B` marks a forward and a backward with one range. Autograd tells them apart. Where one half
ends before the other begins, they are two actions; what lies between is the wait for what the second receives. Where they
take turns, they are one span from the first operator to the last. Its two actions share it as their operators' own times
do: the span is measured, the border between them is not.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import ACTIONS
from traceanalyzer.tables.steps.main_threads import on_main_thread
from traceanalyzer.tables.steps.parts import outermost_operators

_PAIR = r"^PP:\((\d+)F(\d+);(\d+)B(\d+)\)OVERLAP_F_B$"
_LABEL = ("rank", "stage", "phase", "microbatch", "start_ns", "end_ns")


def without_last_sends(ranges: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Ranges that end at their last send, where no operator of theirs begins behind it. CPU ranks alone have sends here."""
    main = on_main_thread(events)
    sends = main.filter(pl.col("name").cast(pl.String) == "c10d::send").select("rank", pl.col("start_ns").alias("_at"))
    if ranges.is_empty() or sends.is_empty():
        return ranges
    work = outermost_operators(events).select("rank", pl.col("start_ns").alias("_work")).sort("_work")
    return (
        _latest(_latest(ranges, sends.sort("_at"), "_at"), work, "_work")
        .with_columns(
            pl.when((pl.col("_at") > pl.col("start_ns")) & (pl.col("_work").fill_null(0) < pl.col("_at")))
            .then("_at")
            .otherwise("end_ns")
            .alias("end_ns")
        )
        .drop("_at", "_work")
    )


def _latest(ranges: pl.DataFrame, points: pl.DataFrame, name: str) -> pl.DataFrame:
    """Add the last of `points` before each range's end."""
    return ranges.sort("end_ns").join_asof(
        points,
        left_on="end_ns",
        right_on=name,
        by="rank",
        strategy="backward",
        coalesce=False,
        check_sortedness=False,
    )


def halves(events: pl.DataFrame) -> pl.DataFrame:
    """Both actions of every overlapped pair: `rank`, `stage`, `phase`, `microbatch`, `start_ns`, `end_ns`."""
    pairs = _pairs(events)
    if pairs.is_empty():
        return pl.DataFrame(schema={name: ACTIONS[name] for name in _LABEL})
    inside = (
        outermost_operators(events)
        .sort("start_ns")
        .join_asof(
            pairs.sort("pair_start_ns"),
            left_on="start_ns",
            right_on="pair_start_ns",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("start_ns") < pl.col("pair_end_ns"))
    )
    back_starts, back_ends = pl.col("start_ns").filter("back").min(), pl.col("end_ns").filter("back").max()
    back = inside.group_by("rank", "pair_start_ns").agg(
        pl.col("start_ns").filter("back").min().alias("back_start_ns"),
        pl.col("end_ns").filter("back").max().alias("back_end_ns"),
        (pl.col("end_ns") - pl.col("start_ns")).filter(~pl.col("back")).sum().alias("_forward"),
        (pl.col("end_ns") - pl.col("start_ns")).filter("back").sum().alias("_back"),
        _spent(pl.col("start_ns") < back_starts).alias("_before"),
        _spent(pl.col("start_ns") >= back_ends).alias("_behind"),
        pl.col("start_ns").filter(~pl.col("back")).min().alias("forward_start_ns"),
        pl.col("end_ns").filter(~pl.col("back")).max().alias("forward_end_ns"),
        pl.col("end_ns").filter(pl.col("start_ns") < back_starts).max().alias("_ahead_end_ns"),
        pl.col("start_ns").filter(pl.col("start_ns") >= back_ends).min().alias("_behind_start_ns"),
    )
    spans = _spans(pairs.join(back, on=["rank", "pair_start_ns"]).drop_nulls(["back_start_ns", "forward_start_ns"]))
    return pl.concat([_half(spans, "F", "forward"), _half(spans, "B", "back")])


def _spent(where: pl.Expr) -> pl.Expr:
    """Time of the forward's operators where `where` holds."""
    return (pl.col("end_ns") - pl.col("start_ns")).filter(~pl.col("back") & where).sum()


def _spans(found: pl.DataFrame) -> pl.DataFrame:
    """Start and end of each half: `_SIDE` of the forward's operators before or behind the backward is one after the other."""
    first = pl.col("_before") >= _SIDE * pl.col("_forward")
    second = ~first & (pl.col("_behind") >= _SIDE * pl.col("_forward"))
    both_start = pl.min_horizontal("forward_start_ns", "back_start_ns")
    both_end = pl.max_horizontal("forward_end_ns", "back_end_ns")
    share = pl.col("_forward") / (pl.col("_forward") + pl.col("_back"))
    leads = pl.col("forward_start_ns") <= pl.col("back_start_ns")
    to_first = ((both_end - both_start) * pl.when(leads).then(share).otherwise(1 - share)).round().cast(pl.Int64)
    middle = both_start + to_first
    return found.with_columns(
        pl.when(first)
        .then("pair_start_ns")
        .when(second)
        .then("_behind_start_ns")
        .otherwise("forward_start_ns")
        .alias("_fs"),
        pl.when(first)
        .then("_ahead_end_ns")
        .when(second)
        .then("pair_end_ns")
        .otherwise(pl.when(leads).then(middle).otherwise(both_end))
        .alias("_fe"),
        pl.when(second)
        .then("pair_start_ns")
        .when(first)
        .then("back_start_ns")
        .otherwise(pl.when(leads).then(middle).otherwise(both_start))
        .alias("_bs"),
        pl.when(first)
        .then("pair_end_ns")
        .when(second)
        .then("back_end_ns")
        .otherwise(pl.when(leads).then(both_end).otherwise(middle))
        .alias("_be"),
    ).select(
        "rank",
        "F_stage",
        "F_microbatch",
        "B_stage",
        "B_microbatch",
        pl.col("_fs").alias("forward_start_ns"),
        pl.col("_fe").alias("forward_end_ns"),
        pl.col("_bs").alias("back_start_ns"),
        pl.col("_be").alias("back_end_ns"),
    )


_SIDE = 0.95
"""Of the forward's operators: what is outside the backward makes the two follow each other; the rest is bookkeeping."""


def _half(spans: pl.DataFrame, phase: str, side: str) -> pl.DataFrame:
    return spans.select(
        "rank",
        pl.col(f"{phase}_stage").alias("stage"),
        pl.lit(phase).cast(ACTIONS["phase"]).alias("phase"),
        pl.col(f"{phase}_microbatch").alias("microbatch"),
        pl.col(f"{side}_start_ns").alias("start_ns"),
        pl.col(f"{side}_end_ns").alias("end_ns"),
    )


def _pairs(events: pl.DataFrame) -> pl.DataFrame:
    """Ranges of pairs that hold no ranges of their halves."""
    main = on_main_thread(events).filter(pl.col("category") == "user_annotation")
    name = pl.col("name").cast(pl.String)
    numbers = [name.str.extract(_PAIR, group).cast(pl.Int32, strict=False) for group in (1, 2, 3, 4)]
    names = ("F_stage", "F_microbatch", "B_stage", "B_microbatch")
    pairs = main.filter(name.str.contains(_PAIR)).select(
        "rank",
        pl.col("start_ns").alias("pair_start_ns"),
        (pl.col("start_ns") + pl.col("duration_ns")).alias("pair_end_ns"),
        *(number.alias(column) for number, column in zip(numbers, names, strict=True)),
    )
    labelled = main.filter(name.str.contains(r"^(PP|compute):\d+[FBIW]\d+$")).select("rank", "start_ns")
    own = (
        labelled.sort("start_ns")
        .join_asof(
            pairs.select("rank", "pair_start_ns", "pair_end_ns").sort("pair_start_ns"),
            left_on="start_ns",
            right_on="pair_start_ns",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("start_ns") < pl.col("pair_end_ns"))
    )
    return pairs.join(own, on=["rank", "pair_start_ns"], how="anti")
