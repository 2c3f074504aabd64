"""The accounting law: every nanosecond of a rank's step window has exactly one owner.

On CPU traces the main thread is the device. In order of precedence, a nanosecond belongs to

* `transfer`, `wait`: a collective, split by arrivals (`communication` where it cannot be split), and a receive that lies
  wholly inside one action or operator: these block the thread, so the computation around them stands still;
* `compute`: a compute action or expert computation (cause `action`; the sleep of a paced run included), or any other
  operator of the main thread (cause `operator`);
* `wait`: any other receive, from its posting to the return of its wait (gloo records no transfer); one that was posted
  early and overlaps computation costs only its exposed part;
* `host`: anything else on the main thread; `unknown` where only marks of the training loop were recorded.

The second axis is the phase of the step (`measurements.step_phases`).
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import clip, overlay, sweep, union
from traceanalyzer.schema import ACCOUNTING, OWNER, conform, empty

_KEYS = ["rank", "step"]
_LABELS = (
    "transfer/collective",
    "wait/collective",
    "communication/collective",
    "wait/receive/inside",
    "compute/action",
    "compute/operator",
    "wait/receive",
)
"""Owner and cause, first match wins."""


def accounting(
    windows: pl.DataFrame,
    actions: pl.DataFrame,
    operators: pl.DataFrame,
    receives: pl.DataFrame,
    collectives: pl.DataFrame,
    phases: pl.DataFrame,
    *,
    hosts: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Time by rank, step, owner, cause and phase (`ACCOUNTING`); sums to every window exactly.

    Args:
        windows: `STEPS`.
        actions: intervals of compute actions and expert computation: `rank`, `start_ns`, `end_ns`.
        operators: intervals of other operators on the main thread, likewise.
        receives: `RECEIVES`.
        collectives: `COLLECTIVE_SPLITS`; where the split is unknown all of the collective is `communication`.
        phases: what every window is doing, as `step_phases` gives it for (at least) these windows.
        hosts: `rank` of those whose main thread was recorded; None: of all.
    """
    if windows.is_empty():
        return empty(ACCOUNTING)
    table = by_owner(main_thread_segments(windows, actions, operators, receives, collectives, hosts=hosts), phases)
    check_sums(table, windows)
    return table


def main_thread_segments(
    windows: pl.DataFrame,
    actions: pl.DataFrame,
    operators: pl.DataFrame,
    receives: pl.DataFrame,
    collectives: pl.DataFrame,
    *,
    hosts: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Who owns which time: `rank`, `step`, `label` (`owner/cause`), `start_ns`, `end_ns`; they tile every window.

    Takes what `accounting` takes.
    """
    waits = collectives.with_columns((pl.col("start_ns") + pl.col("wait_ns")).alias("wait_end_ns"))
    split, whole = (waits.filter(known) for known in (pl.col("wait_ns").is_not_null(), pl.col("wait_ns").is_null()))
    labelled = pl.concat(
        [
            _label(split.select("rank", pl.col("wait_end_ns").alias("start_ns"), "end_ns"), _LABELS[0]),
            _label(split.select("rank", "start_ns", pl.col("wait_end_ns").alias("end_ns")), _LABELS[1]),
            _label(whole, _LABELS[2]),
            *_receives(receives, pl.concat([_label(actions, ""), _label(operators, "")])),
            _label(actions, _LABELS[4]),
            _label(operators, _LABELS[5]),
        ]
    )
    segments = sweep(_merged(clip(labelled, _bounds(windows), ["rank"])), _bounds(windows), _KEYS, _LABELS)
    recorded = pl.lit(value=True) if hosts is None else pl.col("rank").is_in(hosts["rank"].to_list())
    rest = pl.when(recorded).then(pl.lit("host/main thread")).otherwise(pl.lit("unknown/not recorded"))
    label = pl.coalesce("label", rest).str.strip_suffix("/inside")
    return segments.with_columns(label)


def _bounds(windows: pl.DataFrame) -> pl.DataFrame:
    return windows.select("rank", "step", "start_ns", "end_ns").filter(pl.col("end_ns") > pl.col("start_ns"))


def _label(intervals: pl.DataFrame, label: str) -> pl.DataFrame:
    return intervals.select("rank", "start_ns", "end_ns", pl.lit(label).alias("label"))


def _receives(receives: pl.DataFrame, computing: pl.DataFrame) -> list[pl.DataFrame]:
    """Receives wholly inside one computing interval, and the others.

    Of the intervals that begin before a receive it is enough to look at the one that reaches furthest.
    """
    reach = computing.sort("start_ns").select(
        "rank", pl.col("start_ns").alias("_from"), pl.col("end_ns").cum_max().over("rank").alias("_reach")
    )
    placed = receives.select("rank", "start_ns", "end_ns").sort("start_ns")
    found = placed.join_asof(
        reach, left_on="start_ns", right_on="_from", by="rank", strategy="backward", check_sortedness=False
    )
    inside = (pl.col("end_ns") <= pl.col("_reach")).fill_null(value=False)
    return [_label(found.filter(inside), _LABELS[3]), _label(found.filter(~inside), _LABELS[6])]


def _merged(intervals: pl.DataFrame) -> pl.DataFrame:
    return union(intervals, ["rank", "step", "label"])


def by_owner(segments: pl.DataFrame, phases: pl.DataFrame) -> pl.DataFrame:
    """Time by owner, cause and phase (`ACCOUNTING`).

    Both tile the windows: `segments` with labels `owner/cause/...`, `phases` with labels of `STEP_PHASE`.
    """
    phases = phases.join(segments, on=_KEYS, how="semi")
    parts = pl.col("label").str.split("/")
    rows = (
        overlay(segments, phases, _KEYS)
        .with_columns(parts.list.get(0).alias("owner"), parts.list.get(1).alias("cause"))
        .group_by([*_KEYS, pl.col("owner").cast(OWNER), "cause", pl.col("second").alias("phase")])
        .agg((pl.col("end_ns") - pl.col("start_ns")).sum().alias("duration_ns"))
    )
    return conform(rows, ACCOUNTING).sort([*_KEYS, "owner", "cause", "phase"])


def check_sums(table: pl.DataFrame, windows: pl.DataFrame) -> None:
    """Owners must sum to the window to the nanosecond; anything else is a bug here."""
    owned = table.group_by(_KEYS).agg(pl.col("duration_ns").sum())
    wrong = (
        _bounds(windows)
        .join(owned, on=_KEYS, how="left")
        .filter((pl.col("end_ns") - pl.col("start_ns")).ne_missing(pl.col("duration_ns")))
    )
    assert wrong.is_empty(), f"owners do not sum to the window on {wrong.head(3).rows()}"  # noqa: S101


def phase_shares(table: pl.DataFrame) -> pl.DataFrame:
    """Share of every owner in every phase over all ranks and steps, from `ACCOUNTING`.

    Columns `phase`, `owner`, `share` (of all time; they sum to 1) and `ms` (mean per rank and step).
    """
    num_windows = table.select(_KEYS).n_unique()
    return (
        table.group_by("phase", "owner")
        .agg(pl.col("duration_ns").sum())
        .sort("phase", "owner")
        .select(
            pl.col("phase").cast(pl.String),
            pl.col("owner").cast(pl.String),
            (pl.col("duration_ns") / pl.col("duration_ns").sum()).alias("share"),
            (pl.col("duration_ns") / 1e6 / max(num_windows, 1)).alias("ms"),
        )
    )


def owner_shares(table: pl.DataFrame) -> pl.DataFrame:
    """Share of every owner over all ranks and steps, from `ACCOUNTING`.

    Columns `owner`, `share` and `ms` (mean per rank and step).
    """
    num_windows = table.select(_KEYS).n_unique()
    return (
        table.group_by("owner")
        .agg(pl.col("duration_ns").sum())
        .select(
            pl.col("owner").cast(pl.String),
            (pl.col("duration_ns") / pl.col("duration_ns").sum()).alias("share"),
            (pl.col("duration_ns") / 1e6 / max(num_windows, 1)).alias("ms"),
            pl.col("owner").to_physical().alias("_order"),
        )
        .sort("_order")
        .drop("_order")
    )
