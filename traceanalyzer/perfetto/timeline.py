"""What a timeline is made of: processes, their tracks and counters, and slices that nest properly on every lane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

SLICES = pl.Schema(
    {
        "name": pl.String(),
        "category": pl.String(),
        "start_ns": pl.Int64(),
        "end_ns": pl.Int64(),
        "lane": pl.Int32(),
        "depth": pl.Int32(),
        "args": pl.String(),
        "out": pl.List(pl.UInt64()),
        "into": pl.List(pl.UInt64()),
    }
)
"""Slices of one track. `lane`: slices of one lane nest; `depth`: of two slices with one extent the smaller is outside;
`args`: a JSON object; `out` and `into`: flows that leave and enter."""

POINTS = pl.Schema({"at_ns": pl.Int64(), "value": pl.Float64()})
"""Values of a counter, each until the next."""

NO_FLOWS = pl.lit([], dtype=pl.List(pl.UInt64))
_NULLS = r',"[a-z_]+":null|"[a-z_]+":null,'


@dataclass(frozen=True, slots=True)
class Track:
    """A row of slices; several rows where they overlap."""

    name: str
    slices: pl.DataFrame
    """`SLICES`."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Counter:
    """A curve."""

    name: str
    unit: str
    points: pl.DataFrame
    """`POINTS`."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """What is shown together under one heading."""

    id: int
    """Unique and positive."""
    name: str
    tracks: Sequence[Track] = ()
    counters: Sequence[Counter] = field(default=())


def slices(
    frame: pl.DataFrame,
    name: pl.Expr,
    category: pl.Expr,
    args: Iterable[pl.Expr | str] = (),
    *,
    lane: pl.Expr | None = None,
    depth: int = 0,
) -> pl.DataFrame:
    """`SLICES` of a frame with `start_ns` and `end_ns`, and `out` and `into` where it has flows.

    Arguments that are null are left out. Without `lane` slices are put on as many lanes as they need.
    """
    names = list(args)
    text = pl.struct(names).struct.json_encode().str.replace_all(_NULLS, "") if names else pl.lit(None, pl.String)
    flows = [pl.col(way) if way in frame.columns else NO_FLOWS.alias(way) for way in ("out", "into")]
    made = frame.select(
        name.cast(pl.String).fill_null("?").alias("name"),
        category.cast(pl.String).fill_null("").alias("category"),
        "start_ns",
        pl.max_horizontal("start_ns", pl.col("end_ns").fill_null(pl.col("start_ns"))).alias("end_ns"),
        (pl.lit(0) if lane is None else lane).cast(pl.Int32).alias("lane"),
        pl.lit(depth, pl.Int32).alias("depth"),
        text.alias("args"),
        *flows,
    )
    return made if lane is not None else in_lanes(made)


def in_lanes(made: pl.DataFrame, *, nested: bool = False) -> pl.DataFrame:
    """`SLICES` with lanes: slices of one lane follow each other or, `nested`, lie inside each other as well."""
    ordered = made.sort("start_ns", pl.col("end_ns"), descending=[False, True], maintain_order=True)
    if not nested and ordered.select((pl.col("start_ns") >= pl.col("end_ns").cum_max().shift(1)).all()).item():
        return ordered.with_columns(pl.lit(0, pl.Int32).alias("lane"))
    place = _nested_lanes if nested else _flat_lanes
    lanes = place(ordered["start_ns"].to_list(), ordered["end_ns"].to_list())
    return ordered.with_columns(pl.Series("lane", lanes, pl.Int32))


def _flat_lanes(starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    reached: list[int] = []
    lanes: list[int] = []
    for start, end in zip(starts, ends, strict=True):
        lane = next((i for i, until in enumerate(reached) if until <= start), len(reached))
        if lane == len(reached):
            reached.append(end)
        else:
            reached[lane] = end
        lanes.append(lane)
    return lanes


def _nested_lanes(starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    opened: list[list[int]] = []
    """Of every lane the ends of what is open, outermost first."""
    lanes: list[int] = []
    for start, end in zip(starts, ends, strict=True):
        for stack in opened:
            while stack and stack[-1] <= start:
                stack.pop()
        lane = next((i for i, stack in enumerate(opened) if not stack or end <= stack[-1]), len(opened))
        if lane == len(opened):
            opened.append([])
        opened[lane].append(end)
        lanes.append(lane)
    return lanes


@dataclass(frozen=True, slots=True)
class Mark:
    """A slice begins or ends."""

    at_ns: int
    row: int
    """Of the slice in its lane's frame."""
    begins: bool


def marks(starts: Sequence[int], ends: Sequence[int]) -> Iterable[Mark]:
    """Begins and ends of a lane's slices in order of time, inner ones ending first.

    The slices are sorted by start, those of one start outermost first.
    """
    stack: list[int] = []
    for row, start in enumerate(starts):
        while stack and ends[stack[-1]] <= start:
            ended = stack.pop()
            yield Mark(ends[ended], ended, begins=False)
        yield Mark(start, row, begins=True)
        stack.append(row)
    while stack:
        ended = stack.pop()
        yield Mark(ends[ended], ended, begins=False)


def lanes_of(track: Track) -> Iterable[tuple[int, pl.DataFrame]]:
    """Every lane with its slices in the order that `marks` takes."""
    order = ["start_ns", "end_ns", "depth"]
    ordered = track.slices.sort(order, descending=[False, True, False], maintain_order=True)
    for key, lane in ordered.partition_by("lane", as_dict=True).items():
        yield int(key[0]), lane
