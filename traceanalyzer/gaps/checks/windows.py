"""Where to look: the rank's moment that shows a failed finding best, so that it can be found in a trace viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import polars as pl
from msgspec.structs import replace

from traceanalyzer.gaps.checks.check import Window
from traceanalyzer.gaps.checks.registry import CHECKS
from traceanalyzer.measurements.pipeline.bubble import gaps_before
from traceanalyzer.review import Finding

_LENGTH = (pl.col("end_ns") - pl.col("start_ns")).alias("amount")


def with_windows(
    findings: Iterable[Finding],
    actions: pl.DataFrame,
    messages: pl.DataFrame,
    collectives: pl.DataFrame,
    exchanges: pl.DataFrame,
) -> list[Finding]:
    """Fill `start_ns` and `end_ns` of failed findings of one rank.

    A slow stage or rank shows in its longest action, jitter in the action that is furthest beyond the usual of its kind, a
    late start in the longest gap that could have been shorter, transfer and communication in their longest operation. A rank
    that others wait for at all-to-alls shows where one of them waits longest: it computes meanwhile.

    Args:
        findings: with `rank` where they are about one.
        actions: `ACTIONS` with `pipeline`; empty without a pipeline.
        messages: `P2P_SPLITS`.
        collectives: `COLLECTIVES`.
        exchanges: `COLLECTIVE_SPLITS`.
    """
    shown: dict[Window, Callable[[], pl.DataFrame]] = {
        "longest_action": lambda: actions.with_columns(_LENGTH),
        "beyond_usual": lambda: _beyond_usual(actions),
        "late_start": lambda: _late(actions),
        "sent_message": lambda: _sent(messages),
        "collective_inside": lambda: _inside(collectives, actions),
        "held_up": lambda: _held_up(exchanges),
    }
    windows: dict[str, Window | None] = {check.id: check.window for check in CHECKS}

    def placed(each: Finding) -> Finding:
        window = windows.get(each.id)
        if each.passed or each.rank is None or each.start_ns is not None or window is None:
            return each
        if window != "held_up" and actions.is_empty():
            return each
        return _placed(each, shown[window]())

    return [placed(each) for each in findings]


def _placed(finding: Finding, moments: pl.DataFrame) -> Finding:
    """`finding` at the moment of its rank with the largest `amount`; as it is where there is none."""
    own = moments.filter((pl.col("rank") == finding.rank) & (pl.col("amount") > 0))
    if own.is_empty():
        return finding
    row = own.sort("amount", "start_ns", descending=[True, False]).row(0, named=True)
    return replace(finding, start_ns=row["start_ns"], end_ns=row["end_ns"])


def _beyond_usual(actions: pl.DataFrame) -> pl.DataFrame:
    usual = pl.col("amount").median().over("rank", "stage", "phase")
    return actions.with_columns(_LENGTH).with_columns(pl.col("amount") - usual)


def _late(actions: pl.DataFrame) -> pl.DataFrame:
    """From when each action could have started to its start."""
    return gaps_before(actions).select(
        "rank",
        pl.col("ready_ns").alias("start_ns"),
        pl.col("start_ns").alias("end_ns"),
        (pl.col("start_ns") - pl.col("ready_ns")).alias("amount"),
    )


def _sent(messages: pl.DataFrame) -> pl.DataFrame:
    sends = messages.filter((pl.col("direction") == "send") & (pl.col("role") == "pp") & pl.col("end_ns").is_not_null())
    return sends.select("rank", "start_ns", "end_ns", pl.col("transfer_ns").fill_null(0).alias("amount"))


def _held_up(exchanges: pl.DataFrame) -> pl.DataFrame:
    """What others wait at all-to-alls, as moments of the rank that comes last."""
    waits = exchanges.filter(
        (pl.col("kind") == "all_to_all") & (pl.col("late_rank") != pl.col("rank")) & (pl.col("wait_ns") > 0)
    )
    return waits.select(
        pl.col("late_rank").alias("rank"),
        "start_ns",
        (pl.col("start_ns") + pl.col("wait_ns")).alias("end_ns"),
        pl.col("wait_ns").alias("amount"),
    )


def _inside(collectives: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Collectives that begin and end inside an action of their rank."""
    spans = actions.select("rank", pl.col("start_ns").alias("_from"), pl.col("end_ns").alias("_to")).sort("_from")
    return (
        collectives.select("rank", "start_ns", "end_ns")
        .sort("start_ns")
        .join_asof(spans, left_on="start_ns", right_on="_from", by="rank", strategy="backward", check_sortedness=False)
        .filter(pl.col("end_ns") <= pl.col("_to"))
        .with_columns(_LENGTH)
    )
