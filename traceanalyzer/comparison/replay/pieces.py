"""What each change does to the step: the new run replayed with one piece after the other at the old run's times.

Pieces are computation (`computation`), late launches and other delays of a rank, transfers (`links`), and what ranks compute
and exchange more or less because tokens moved between experts. Each is sized in turn, the largest alone first, so that the
sizes sum to what all of them do; what is left of the step's change is said to be left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import polars as pl

from traceanalyzer.comparison.replay.computation import Computed, computed_changes
from traceanalyzer.comparison.replay.configured import at_old_speeds, microbatch_scale, transfers_at_old_speeds
from traceanalyzer.comparison.replay.expert_load import load_change
from traceanalyzer.comparison.replay.links import Moved, link_changes
from traceanalyzer.comparison.replay.program_times import PARTS, SEGMENT, Array, ProgramTimes, moved
from traceanalyzer.comparison.side import lower_median
from traceanalyzer.comparison.titles import Description, computed_title, delay_title, link_title
from traceanalyzer.gaps.culprits.price import MAX_REPLAY_ERROR

LEAST_SHARE = 0.0005
"""Of the step: pieces that do less alone are left to the rest."""
_CHANGE = {"rank": pl.Int64, "place": pl.Int64, "part": pl.String, "ns": pl.Int64}


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that changed, with how each segment moves back to the old run's times."""

    description: Description
    back: pl.DataFrame
    """`rank`, `place`, `part`, `ns`."""


@dataclass(frozen=True, slots=True)
class Sized:
    """Pieces with what they add to the new step, and what is left of its change."""

    pieces: tuple[tuple[Description, int], ...]
    rest_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Both programs, rank by rank."""

    base: ProgramTimes
    new: ProgramTimes
    ranks: Mapping[int, int]
    """Rank of the base by rank of the new run."""
    stages: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    """Of the new run's ranks."""
    loads: tuple[float | None, float | None] = (None, None)
    """Fullest rank's load over the mean, before and after."""
    microbatches: float = 1.0
    """Per step, now ÷ before; 1 where not known."""
    is_same_program: bool = True
    """Matched ranks run the same operations in the same order; else only speeds can be compared piece by piece."""


def replay_error(times: ProgramTimes) -> float:
    """|replay − measured| ÷ measured of the median step."""
    measured = lower_median(list(times.measured_ns)) or 0
    replayed = lower_median([int(ns) for ns in times.lengths([])[:, 0]]) or 0
    return abs(replayed - measured) / measured if measured else 1.0


def is_faithful(times: ProgramTimes) -> bool:
    """Whether the replay follows the measured steps."""
    return replay_error(times) <= MAX_REPLAY_ERROR


def sized_changes(both: Matched) -> Sized:
    """Every piece that changed, with its size. Where the programs differ, the rest is what the other program does."""
    base_step, new_step = (lower_median(list(each.measured_ns)) or 0 for each in (both.base, both.new))
    pieces = pieces_of(both)
    columns = [moved(both.new, piece.back) for piece in pieces]
    alone = both.new.lengths(columns)
    sizes = [_median(alone[:, 0] - alone[:, 1 + at]) for at in range(len(pieces))]
    order = sorted(range(len(pieces)), key=lambda at: (-abs(sizes[at]), at))
    order = [at for at in order if abs(sizes[at]) >= LEAST_SHARE * base_step]
    lengths = both.new.lengths(list(accumulate(columns[at] for at in order)))
    steps = [_median(lengths[:, at] - lengths[:, at + 1]) for at in range(len(order))]
    described = tuple((pieces[at].description, size) for at, size in zip(order, steps, strict=True))
    return Sized(described, new_step - base_step - sum(steps))


def _median(values: Array) -> int:
    return lower_median([int(value) for value in values]) or 0


def pieces_of(both: Matched) -> list[Piece]:
    """Everything that may have changed, piece by piece; together they are all segments' differences."""
    cells = _joined(both, both.base.cells, both.new.cells, ["rank", "place", "key"], ["ns", "number"])
    if not both.is_same_program:
        return _pieces_of_speed(both, cells)
    load, cells = load_change(cells, both.base.operations, both.new.operations, both.ranks)
    computed = computed_changes(_by_kernel(cells), both.stages)
    found = [
        Piece(computed_title(each, both.new.operations["rank"].n_unique()), _back_of(each, cells)) for each in computed
    ]
    transfers = _transfers(both)
    if not load.is_empty():
        found.append(_load_piece(both, load, transfers))
        transfers = transfers.filter(~pl.col("is_load"))
    found += [Piece(link_title(each), _back_of_links(each, transfers)) for each in link_changes(transfers)]
    return [*found, *_delays(both)]


def _pieces_of_speed(both: Matched, cells: pl.DataFrame) -> list[Piece]:
    """What kernels and transfers take more or less than before, where the program is another one."""
    work = both.microbatches * microbatch_scale(both.base, both.new)
    speeds = at_old_speeds(cells, _renamed(both, both.base.cells), both.new.cells, work)
    computed = computed_changes(_by_kernel(speeds), both.stages)
    found = [
        Piece(computed_title(each, both.new.operations["rank"].n_unique()), _back_of(each, speeds)) for each in computed
    ]
    transfers = transfers_at_old_speeds(_renamed(both, _timed(both.base)), _timed(both.new))
    return [*found, *(Piece(link_title(each), _back_of_links(each, transfers)) for each in link_changes(transfers))]


def _renamed(both: Matched, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of the base by the new run's ranks; of ranks that have a match."""
    renamed = {old: rank for rank, old in both.ranks.items()}
    return rows.filter(pl.col("rank").is_in(list(renamed))).with_columns(
        pl.col("rank").replace_strict(renamed, return_dtype=pl.Int64)
    )


def _timed(times: ProgramTimes) -> pl.DataFrame:
    """Operations with `ns`, their transfer, where all that exchange were captured: else it is not known."""
    captured = times.operations["rank"].unique().cast(pl.String).to_list()
    known = pl.col("members").str.split(",").list.eval(pl.element().is_in(captured)).list.all()
    rows = times.segments.select(*SEGMENT, pl.col("fixed_ns").alias("ns")).join(
        times.operations.with_columns(_ordered_members()), on=SEGMENT, how="inner"
    )
    return rows.filter(known | pl.col("members").is_null())


def _joined(
    both: Matched, base: pl.DataFrame, new: pl.DataFrame, keys: Sequence[str], values: Sequence[str]
) -> pl.DataFrame:
    """Rows of both sides by the new run's ranks: of each value `before_…` and `after_…`, 0 if a side has none."""
    before = _renamed(both, base)
    after = new.filter(pl.col("rank").is_in(list(both.ranks)))
    rows = before.rename({name: f"before_{name}" for name in values}).join(
        after.rename({name: f"after_{name}" for name in values}),
        on=list(keys),
        how="full",
        coalesce=True,
        suffix="_new",
    )
    others = [name for name in new.columns if name not in (*keys, *values)]
    described = [pl.coalesce(f"{name}_new", name).alias(name) for name in others]
    filled = [pl.col(f"{side}_{name}").fill_null(0) for side in ("before", "after") for name in values]
    return rows.with_columns(*described, *filled).drop([f"{name}_new" for name in others]).sort(keys)


def _by_kernel(cells: pl.DataFrame) -> pl.DataFrame:
    """Cells of a rank by shape, else kernel, whatever the place: what `computed_changes` takes."""
    most = pl.col("kernel").sort_by(pl.col("after_ns") + pl.col("before_ns"), descending=True).first()
    return (
        cells.with_columns(pl.coalesce("shape", "kernel").alias("what"))
        .group_by("rank", "what")
        .agg(most, pl.col("shape").first(), pl.col("^(before|after)_(ns|number)$").sum())
    )


def _back_of(computed: Computed, cells: pl.DataFrame) -> pl.DataFrame:
    chosen = cells.with_columns(pl.coalesce("shape", "kernel").alias("what")).join(
        computed.cells, on=["rank", "what"], how="semi"
    )
    return _back(chosen, "compute_ns")


def _back(rows: pl.DataFrame, part: str) -> pl.DataFrame:
    change = (pl.col("before_ns") - pl.col("after_ns")).sum().alias("ns")
    return (
        rows.group_by(SEGMENT)
        .agg(change)
        .with_columns(pl.lit(part).alias("part"))
        .select(pl.col(name).cast(dtype) for name, dtype in _CHANGE.items())
    )


def _transfers(both: Matched) -> pl.DataFrame:
    """Transfers of both sides by rank and place, with `is_load`: an expert exchange whose bytes changed."""
    sides = [_timed(each) for each in (both.base, both.new)]
    values = ["ns", "bytes", "received_bytes", "number"]
    rows = _joined(both, sides[0], sides[1], SEGMENT, values)
    rows = rows.filter((pl.col("before_number") > 0) & (pl.col("after_number") > 0))
    moved_bytes = (pl.col("after_bytes") - pl.col("before_bytes")).abs() > 0.01 * pl.col("before_bytes")
    received = (pl.col("after_received_bytes") - pl.col("before_received_bytes")).abs() > 0.01 * pl.col(
        "before_received_bytes"
    )
    of_experts = (pl.col("role") == "ep") & (pl.col("kind") == "all_to_all")
    return rows.with_columns((of_experts & (moved_bytes | received)).fill_null(value=False).alias("is_load"))


def _ordered_members() -> pl.Expr:
    ranks = pl.col("members").str.split(",").cast(pl.List(pl.Int64)).list.unique().list.sort()
    return ranks.cast(pl.List(pl.String)).list.join(",").alias("members")


def _back_of_links(link: Moved, transfers: pl.DataFrame) -> pl.DataFrame:
    return _back(transfers.join(link.places, on=SEGMENT, how="semi"), "fixed_ns")


def _load_piece(both: Matched, load: pl.DataFrame, transfers: pl.DataFrame) -> Piece:
    back = pl.concat([_back(load, "compute_ns"), _back(transfers.filter("is_load"), "fixed_ns")])
    grown = load.group_by("rank").agg((pl.col("after_ns") - pl.col("before_ns")).sum().alias("ns")).sort("ns", "rank")
    before, after = both.loads
    fullest = int(grown["rank"][-1])
    ratios = "" if before is None or after is None else f" (fullest rank {after:.2f}× the mean, was {before:.2f}×)"
    worse = before is None or after is None or after >= before
    title = f"the expert load is {'less even' if worse else 'more even'}{ratios}: rank {fullest} gets more tokens"
    if not worse:
        title = f"the expert load is more even{ratios}"
    return Piece(
        Description(
            kind="expert_load", title=title, ranks=(fullest,), before=before, after=after, unit="× the mean load"
        ),
        back,
    )


def _delays(both: Matched) -> list[Piece]:
    """Late launches and other delays, rank by rank."""
    rows = _joined(both, both.base.segments, both.new.segments, SEGMENT, PARTS)
    pieces: list[Piece] = []
    for part in ("host_ns", "other_ns"):
        named = rows.select(
            *SEGMENT, pl.col(f"before_{part}").alias("before_ns"), pl.col(f"after_{part}").alias("after_ns")
        )
        for (rank,), own in sorted(named.partition_by("rank", as_dict=True).items()):
            before, after = int(own["before_ns"].sum()), int(own["after_ns"].sum())
            if before != after:
                pieces.append(Piece(delay_title(part, int(str(rank)), before, after), _back(own, part)))
    return pieces
