"""What the uncertainty of the clocks does to every metric that compares times of different ranks.

A wait by `clock` is wrong by up to the residuals of both ranks' clocks. Summed over a kind of communication, that is the
uncertainty of its wait and transfer; where it is of their order the split is taken back, and what is
built on it is withheld with the reason. Waits by `durations` need no clock; nor does the name of who was late, where one
member alone has the shortest duration.

The bubble's dependency compares an action's start with its producer's end. Its uncertainty is the largest change when
every clock is moved by its residual: all up, all down, and neighbours against each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from traceanalyzer.gaps.pipeline.bubble import PipelineGap, transfers_of, without_pipeline
from traceanalyzer.measurements.communication.collectives import hidden_by_clocks, naming_hidden_by_clocks
from traceanalyzer.measurements.pipeline.bubble import bubble, dependency_ns
from traceanalyzer.review import ClockEffect, Withheld
from traceanalyzer.review.words import milliseconds
from traceanalyzer.tables import Tables

MOVED_SHARE = 0.25
"""Of the bubble: if the clocks' residuals may move it by more, it is withheld."""
_SPLIT = ["wait_ns", "transfer_ns", "late_rank"]
_CAUSES = ["wait_dependency_ns", "wait_late_send_ns"]


@dataclass(frozen=True, slots=True)
class TrustedSplits:
    """Splits of communication without those that the clocks hide."""

    splits: pl.DataFrame
    """`COLLECTIVE_SPLITS`; a split that was taken back has basis `none` and keeps `wait_clock_ns`."""
    messages: pl.DataFrame
    """`P2P_SPLITS`."""
    effects: tuple[ClockEffect, ...]
    hidden: dict[str, str]
    """Reason by kind of communication (`p2p` for messages) whose split was taken back."""
    withheld: tuple[Withheld, ...]


def trusted_splits(splits: pl.DataFrame, messages: pl.DataFrame) -> TrustedSplits:
    """`COLLECTIVE_SPLITS` and `P2P_SPLITS` without the waits that the clocks' residuals hide."""
    kinds = sorted(splits["kind"].unique())
    parts = {kind: splits.filter(pl.col("kind") == kind) for kind in kinds} | {"p2p": messages}
    hidden = {kind: reason for kind, part in parts.items() if (reason := hidden_by_clocks(part)) is not None}
    nameless = [kind for kind in kinds if naming_hidden_by_clocks(parts[kind])]
    unnamed = pl.col("kind").is_in(nameless)
    taken = _taken_back(splits, pl.col("kind").is_in(list(hidden)))
    by_duration = _last_by_duration(taken)
    taken = taken.with_columns(pl.coalesce(pl.when(~unnamed).then("late_rank"), by_duration).alias("late_rank"))
    withheld = [
        Withheld(metric=f"accounting.owners (wait and transfer of {kind})", reason=reason, code="clocks")
        for kind, reason in hidden.items()
    ]
    named = taken.filter((pl.col("kind") == "all_to_all") & pl.col("late_rank").is_not_null())
    if "all_to_all" in nameless and named.is_empty():
        reason = "the clocks are uncertain by about as much as the waits, so who came last is not known"
        withheld.append(Withheld(metric="all_to_all.blame", reason=reason, code="clocks"))
    return TrustedSplits(
        splits=taken,
        messages=_taken_back(messages, pl.lit("p2p" in hidden)),
        effects=tuple(effect for kind, part in parts.items() for effect in _effects(kind, part, kind in hidden)),
        hidden=hidden,
        withheld=tuple(withheld),
    )


def _last_by_duration(splits: pl.DataFrame) -> pl.Expr:
    """Of equal exchanges whose members all are here, the one member with the shortest duration came last: no clock needed."""
    known = splits.filter(pl.col("wait_durations_ns").is_not_null() & (pl.col("basis") == "durations"))
    shortest = known.filter(pl.col("wait_durations_ns") == 0).group_by("match").agg(pl.col("rank").unique())
    last = shortest.filter(pl.col("rank").list.len() == 1).select("match", pl.col("rank").list.first())
    found: dict[int, int] = dict(last.iter_rows())
    return pl.col("match").replace_strict(found, default=None, return_dtype=pl.Int32)


def _taken_back(rows: pl.DataFrame, chosen: pl.Expr) -> pl.DataFrame:
    hide = chosen & (pl.col("basis") == "clock")
    none = pl.lit("none").cast(rows.schema["basis"])
    return rows.with_columns(
        *[pl.when(~hide).then(name).alias(name) for name in (*_SPLIT, *_CAUSES) if name in rows.columns],
        pl.when(hide).then(none).otherwise("basis").alias("basis"),
    )


def _effects(kind: str, part: pl.DataFrame, hidden: bool) -> list[ClockEffect]:  # noqa: FBT001 - read from a set at its one call
    by_clock = part.filter((pl.col("basis") == "clock") & pl.col("wait_ns").is_not_null())
    if by_clock.is_empty():
        return []
    unknown = by_clock["clock_residual_ns"].null_count() > 0
    return [
        ClockEffect(
            metric=f"wait of {kind}",
            value_ms=int(by_clock["wait_ns"].sum()) / 1e6,
            uncertainty_ms=None if unknown else int(by_clock["clock_residual_ns"].sum()) / 1e6,
            withheld=hidden,
        )
    ]


def trusted_pipeline(found: PipelineGap, tables: Tables, communications: pl.DataFrame) -> PipelineGap:
    """The bubble section, or why the clocks hide it, and what they do to it."""
    residual = tables.clock.residual_ns
    if found.figures is None or found.figures.measured_share is None or not residual:
        return found
    dependency = found.table.select(dependency_ns().sum()).item()
    uncertain = _uncertainty(found, tables, communications)
    hidden = uncertain > dependency * MOVED_SHARE
    effect = ClockEffect(
        metric="bubble.measured_share",
        value_ms=dependency / 1e6,
        uncertainty_ms=uncertain / 1e6,
        withheld=hidden,
    )
    if not hidden:
        return replace(found, clock_effects=(effect,))
    reason = (
        f"the clocks of these ranks may be off by {milliseconds(residual / 1e6)}, which moves the dependency of "
        f"{milliseconds(dependency / 1e6)} by up to {milliseconds(uncertain / 1e6)}"
    )
    return replace(without_pipeline(reason, "clocks"), clock_effects=(effect,))


def _uncertainty(found: PipelineGap, tables: Tables, communications: pl.DataFrame) -> int:
    """Largest change in nanoseconds of all dependency when the clocks are moved by their residuals."""
    transfers = transfers_of(communications)
    turn = 1 - 2 * (pl.int_range(pl.len()) % 2)
    residuals = tables.clocks.sort("rank").select("rank", pl.col("residual_ns").fill_null(0).alias("_by"))
    base = _dependency(found.actions, transfers)
    moved = [residuals.with_columns(pl.col("_by") * sign) for sign in (1, -1, turn, -turn)]
    return max(abs(_dependency(_moved(found.actions, by), _moved(transfers, by)) - base) for by in moved)


def _moved(frame: pl.DataFrame, by: pl.DataFrame) -> pl.DataFrame:
    times = [name for name in ("start_ns", "end_ns", "release_ns") if name in frame.columns]
    if "needed_ns" in frame.columns:  # a time of another rank
        source = by.rename({"rank": "needed_rank", "_by": "_source_by"})
        needed = pl.col("needed_ns") + pl.col("_source_by").fill_null(0)
        frame = frame.join(source, on="needed_rank", how="left", maintain_order="left").with_columns(
            needed.alias("needed_ns")
        )
    joined = frame.join(by, on="rank", how="left", maintain_order="left")
    return joined.with_columns([(pl.col(name) + pl.col("_by").fill_null(0)).alias(name) for name in times]).drop("_by")


def _dependency(actions: pl.DataFrame, transfers: pl.DataFrame) -> int:
    return int(bubble(actions, transfers).select(dependency_ns().sum()).item())
