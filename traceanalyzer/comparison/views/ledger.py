"""What changed where no replay is possible: differences of the mean rank's time, by kernel, communication and owner.

They add up to the change of the mean step. What the longest rank's median step has beside them is left.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.comparison.places import stages_by_rank
from traceanalyzer.comparison.record import Line, Waterfall
from traceanalyzer.comparison.replay.computation import Computed, computed_changes
from traceanalyzer.comparison.replay.pieces import Sized
from traceanalyzer.comparison.side import Side
from traceanalyzer.comparison.titles import Description, computed_title
from traceanalyzer.comparison.views.exclusive import exclusive_times
from traceanalyzer.comparison.views.waterfalls import BESIDE_CALLS, REST, kernel_name
from traceanalyzer.measurements.communication.programs import COMPUTING
from traceanalyzer.review.words import spaced

_OF_KERNELS = ("compute",)
_OF_CALLS = ("transfer", "wait", "communication")
_NO_CALLS = (BESIDE_CALLS, REST)
_OWNER_TITLES = {
    "compute": "computation",
    "transfer": "exposed transfer",
    "wait": "waiting for other ranks",
    "communication": "exposed communication",
    "copy": "exposed copying",
    "queued": "waiting of launched kernels to start",
    "launch_gap": "gaps between launches",
    "host": "waiting for the host",
    "unknown": "time that nobody owns",
}


def ledger_changes(base: Side, new: Side, owners: Waterfall, calls: Waterfall | None) -> Sized:
    """Every change of the mean rank's ledger with its size, largest first.

    `owners` is the waterfall by owner, `calls` that by group and size of communication, where there is one.
    """
    pieces: list[tuple[Description, int]] = []
    for line in owners.lines:
        if line.name == REST or not line.change_ns:
            continue
        if line.name in _OF_KERNELS and base.has_tables and new.has_tables:
            pieces += _computation(base, new, line)
        elif line.name in _OF_CALLS and calls is not None:
            continue
        else:
            pieces.append((_owner_description(line), line.change_ns))
    if calls is not None:
        pieces += [
            (_call_description(each), each.change_ns)
            for each in calls.lines
            if each.change_ns and each.name not in _NO_CALLS
        ]
    ordered = sorted(pieces, key=lambda each: (-abs(each[1]), each[0].title))
    change = owners.new_ns - owners.base_ns
    return Sized(tuple(ordered), change - sum(ns for _, ns in ordered))


def _computation(base: Side, new: Side, line: Line) -> list[tuple[Description, int]]:
    """The owner `compute` cut into explanations; what they leave of it is one more piece."""
    sides = [_cells(side) for side in (base, new)]
    if any(each is None for each in sides) or sides[0] is None or sides[1] is None:
        return [(_owner_description(line), line.change_ns)]
    rows = sides[0].join(sides[1], on=["rank", "what"], how="full", coalesce=True, suffix="_new")
    cells = rows.select(
        "rank", "what", pl.coalesce("kernel_new", "kernel").alias("kernel"), pl.coalesce("shape_new", "shape").alias("shape"),
        pl.col("ns").fill_null(0).alias("before_ns"), pl.col("ns_new").fill_null(0).alias("after_ns"),
        pl.col("number").fill_null(0.0).alias("before_number"), pl.col("number_new").fill_null(0.0).alias("after_number"),
    )  # fmt: skip
    num_ranks = cells["rank"].n_unique()
    found = computed_changes(cells, stages_by_rank(new))
    pieces = [(computed_title(each, num_ranks), _size(each, num_ranks)) for each in found]
    rest = line.change_ns - sum(ns for _, ns in pieces)
    return (
        [*pieces, (Description(kind="owner", title=f"there is {_more(rest)} other computation"), rest)]
        if rest
        else pieces
    )


def _size(each: Computed, num_ranks: int) -> int:
    return round((each.after_ns - each.before_ns) / num_ranks)


def _cells(side: Side) -> pl.DataFrame | None:
    """`rank`, `what`, `kernel`, `shape`, `ns`, `number`: time of computing kernels for themselves, mean per step."""
    windows = side.windows.join(side.table("kernels"), on="rank", how="semi")
    if windows.is_empty():
        return None
    rows = exclusive_times(side.table("kernels"), windows).filter(pl.col("kind").is_in(COMPUTING))
    num_steps = windows["step"].n_unique()
    named = rows.with_columns(
        pl.coalesce(pl.col("shape").cast(pl.String), pl.col("name").cast(pl.String)).alias("what"),
        kernel_name().alias("key"),
    )
    most = pl.col("name").cast(pl.String).sort_by("own_ns", descending=True).first().alias("kernel")
    return named.group_by(pl.col("rank").cast(pl.Int64), "what").agg(
        most,
        pl.col("shape").cast(pl.String).first(),
        (pl.col("own_ns").sum() // num_steps).alias("ns"),
        (pl.len() / num_steps).alias("number"),
    )


def _owner_description(line: Line) -> Description:
    title = f"there is {_more(line.change_ns)} {_OWNER_TITLES.get(line.name, spaced(line.name))}"
    return _with_times(Description(kind="owner", title=title), line)


def _call_description(line: Line) -> Description:
    title = f"there is {_more(line.change_ns)} exposed communication ({line.name})"
    return _with_times(Description(kind="communication", title=title), line)


def _with_times(described: Description, line: Line) -> Description:
    return Description(
        kind=described.kind,
        title=described.title,
        before=line.base_ns / 1e6,
        after=line.new_ns / 1e6,
        unit="ms per rank and step",
    )


def _more(ns: int) -> str:
    return "more" if ns > 0 else "less"
