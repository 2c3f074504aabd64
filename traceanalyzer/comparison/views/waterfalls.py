"""The way from the old step to the new one, cut by owner, ranks, collectives and kernels; every cut sums exactly.

Both steps are cut alike: the mean rank's time over its typical steps, in whole nanoseconds, and a last part for what the
median step of the longest rank has beside it. A line is the difference of two such parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from traceanalyzer.comparison.places import stages_by_rank
from traceanalyzer.comparison.record import KernelChange, Line, View, Waterfall
from traceanalyzer.comparison.side import Side
from traceanalyzer.comparison.views.exclusive import exclusive_times
from traceanalyzer.review.words import byte_count

REST = "median step of the longest rank against the mean"
IDLE = "no kernel runs"
BESIDE_CALLS = "computation, copies and idle time"
MAX_LINES = 40
"""Lines of one waterfall; smaller ones are drawn together."""
_SAME = 0.01
"""Kernels whose mean time and number differ by less are the same."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one key has of a step: mean nanoseconds per rank and step, and how many of it there are."""

    ns: int
    count: float | None = None


Parts = Mapping[str, Part]


def waterfall(by: View, title: str, meaning: str, base: Parts, new: Parts, last: Sequence[str] = (REST,)) -> Waterfall:
    """Lines of all keys, largest change first; those of `last` at the end. The parts of each side sum to its step."""
    lines = [_line(by, key, base.get(key, Part(0)), new.get(key, Part(0))) for key in dict.fromkeys((*base, *new))]
    ordered = sorted(
        (each for each in lines if each.name not in last), key=lambda each: (-abs(each.change_ns), each.name)
    )
    shown = [*_drawn_together(ordered), *(each for name in last for each in lines if each.name == name)]
    start, end = (sum(part.ns for part in side.values()) for side in (base, new))
    assert start + sum(each.change_ns for each in shown) == end, "a waterfall does not close"  # noqa: S101 - our law
    return Waterfall(by=by, title=title, meaning=meaning, base_ns=start, new_ns=end, lines=shown)


def _line(by: View, name: str, base: Part, new: Part) -> Line:
    change = kernel_change(base, new) if by == "kernel" and name not in (REST, IDLE) else None
    return Line(
        name=name,
        base_ns=base.ns,
        new_ns=new.ns,
        change_ns=new.ns - base.ns,
        base_count=base.count,
        new_count=new.count,
        change=change,
    )


def _drawn_together(lines: list[Line]) -> list[Line]:
    if len(lines) <= MAX_LINES:
        return lines
    rest = lines[MAX_LINES - 1 :]
    sums = Line(
        name=f"{len(rest):,} more",
        base_ns=sum(each.base_ns for each in rest),
        new_ns=sum(each.new_ns for each in rest),
        change_ns=sum(each.change_ns for each in rest),
    )
    return [*lines[: MAX_LINES - 1], sums]


def kernel_change(base: Part, new: Part) -> KernelChange:
    """Whether kernels appeared, are gone, came more often or take longer; the larger of the two factors names it."""
    if not base.count:
        return "appeared" if new.count else "same"
    if not new.count:
        return "gone"
    often = math.log(new.count / base.count)
    longer = math.log((new.ns / new.count) / (base.ns / base.count)) if base.ns and new.ns else 0.0
    if max(abs(often), abs(longer)) <= _SAME:
        return "same"
    if abs(often) > abs(longer):
        return "more_often" if often > 0 else "less_often"
    return "slower" if longer > 0 else "faster"


def whole_parts(sums: pl.DataFrame, num_windows: int, step_ns: int, rest: str = REST) -> dict[str, Part]:
    """Mean of `duration_ns` per window by `name`, in whole nanoseconds, and a rest: together exactly `step_ns`.

    `sums` has `name`, `duration_ns` (over all windows) and may have `number`.
    """
    counted = "number" in sums.columns
    ordered = sums.sort("duration_ns", "name", descending=[True, False])
    parts = {
        row["name"]: Part(row["duration_ns"] // num_windows, row["number"] / num_windows if counted else None)
        for row in ordered.iter_rows(named=True)
    }
    return {**parts, rest: Part(step_ns - sum(part.ns for part in parts.values()))}


def owner_waterfall(base: Side, new: Side) -> Waterfall | None:
    """By owner of the ledger."""
    sides = [_owned(side, pl.col("owner").cast(pl.String)) for side in (base, new)]
    if sides[0] is None or sides[1] is None:
        return None
    meaning = f"Mean time per rank and step by what it went to; `{REST}` closes it."
    return waterfall("owner", "By owner of the time", meaning, sides[0], sides[1])


def rank_waterfall(base: Side, new: Side) -> Waterfall | None:
    """By the stage that ranks hold and what their time went to; None if no rank has a stage."""
    found: list[dict[str, Part]] = []
    for side in (base, new):
        stages = stages_by_rank(side)
        if not stages:
            return None
        names = {rank: _stage_name(held) for rank, held in stages.items()}
        group = pl.col("rank").replace_strict(names, default="other ranks", return_dtype=pl.String)
        parts = _owned(
            side, pl.concat_str(group, pl.lit(": "), pl.col("owner").cast(pl.String).str.replace_all("_", " "))
        )
        if parts is None:
            return None
        found.append(parts)
    meaning = "What ranks of a stage add to the mean rank's step, by what their time went to."
    return waterfall("ranks", "By group of ranks", meaning, found[0], found[1])


def _stage_name(stages: Sequence[int]) -> str:
    return f"stage{'s' if len(stages) > 1 else ''} {', '.join(map(str, stages))}"


def _owned(side: Side, name: pl.Expr) -> dict[str, Part] | None:
    windows, step = side.windows, side.step_ns
    if windows.is_empty() or step is None:
        return _owned_by_review(side)
    account = side.table("accounting").join(windows.select("rank", "step"), on=["rank", "step"], how="semi")
    sums = account.with_columns(name.alias("name")).group_by("name").agg(pl.col("duration_ns").sum())
    return whole_parts(sums, windows.height, step)


def _owned_by_review(side: Side) -> dict[str, Part] | None:
    owners, step = side.review.accounting.owners, side.step_ns
    if not owners or step is None or side.has_tables:
        return None
    parts = {each.owner: Part(round(each.ms * 1e6)) for each in owners}
    return {**parts, REST: Part(step - sum(part.ns for part in parts.values()))}


def kernel_waterfalls(base: Side, new: Side) -> list[Waterfall]:
    """By class, by name and shape, and by group, kind and size of communication; none where a side has no device."""
    sides: list[_OfKernels] = []
    for side in (base, new):
        windows = side.windows.join(side.table("kernels"), on="rank", how="semi")
        step = side.step_ns
        if windows.is_empty() or step is None:
            return []
        mean_ns = int((windows["end_ns"] - windows["start_ns"]).sum()) // windows.height
        sides.append(_OfKernels(exclusive_times(side.table("kernels"), windows), windows.height, mean_ns, step))
    joined = [replace(each, rows=_with_groups(each.rows, side)) for each, side in zip(sides, (base, new), strict=True)]
    own = (
        "Mean time per rank and step that kernels have for themselves (computation before communication before copies)"
    )
    waiting = f"what communication kernels take includes waiting for other ranks; `{REST}` closes it"
    return [
        _cut("kernel_class", "By class of kernels", f"{own}; {waiting}.", sides, pl.col("kind")),
        _cut("kernel", "By kernel and shape", f"{own}, by name and, if recorded, by operator and sizes; {waiting}.", sides, kernel_name()),
        _cut("collective", "By group and size of communication", f"{own}; exposed communication alone; `{REST}` closes it.", joined, pl.col("group_name")),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _OfKernels:
    """Kernels of one side's typical steps, and what these last."""

    rows: pl.DataFrame
    """From `exclusive_times`."""
    num_windows: int
    mean_ns: int
    """Of the windows of all ranks."""
    step_ns: int
    """The median step of the longest rank."""


def _cut(by: View, title: str, meaning: str, sides: Sequence[_OfKernels], name: pl.Expr) -> Waterfall:
    beside = IDLE if by != "collective" else BESIDE_CALLS
    parts: list[dict[str, Part]] = []
    for side in sides:
        named = side.rows.with_columns(name.alias("name")).filter(pl.col("name").is_not_null())
        sums = named.group_by("name").agg(pl.col("own_ns").sum().alias("duration_ns"), pl.len().alias("number"))
        of_mean = whole_parts(sums, side.num_windows, side.mean_ns, beside)
        parts.append({**of_mean, REST: Part(side.step_ns - side.mean_ns)})
    if all(side[beside].ns < len(side) for side in parts):  # less than 1 ns per line: the mean's fractions
        parts = [_without(side, beside) for side in parts]
    return waterfall(by, title, meaning, parts[0], parts[1], (beside, REST))


def _without(parts: Parts, name: str) -> dict[str, Part]:
    rest = Part(parts[REST].ns + parts[name].ns)
    return {key: part for key, part in parts.items() if key != name} | {REST: rest}


def kernel_name() -> pl.Expr:
    """Name of the kernel, with the operator and sizes that launched it where they were recorded."""
    name, shape = pl.col("name").cast(pl.String), pl.col("shape").cast(pl.String)
    return pl.when(shape.is_not_null()).then(pl.concat_str(name, pl.lit(" · "), shape)).otherwise(name)


def _with_groups(rows: pl.DataFrame, side: Side) -> pl.DataFrame:
    """Add `group_name` to communication kernels: dimension, kind, ranks of the group and size; null elsewhere."""
    calls = pl.concat(
        [
            side.table("collectives").select(
                "rank", "cycle", "index", "kind", pl.col("role").cast(pl.String), "num_members",
                pl.max_horizontal("send_bytes", "receive_bytes").alias("bytes"),
            ),
            side.table("p2p").select(
                "rank", "cycle", "index", pl.lit("message").alias("kind"), pl.col("role").cast(pl.String),
                pl.lit(None, pl.Int32).alias("num_members"), "bytes",
            ),
        ],
        how="vertical_relaxed",
    ).filter(pl.col("index").is_not_null())  # fmt: skip
    named = calls.unique(["rank", "cycle", "index"], keep="first", maintain_order=True).with_columns(_group_name())
    found = rows.filter(pl.col("kind").is_in(["communication", "barrier"])).join(
        named.select("rank", "cycle", "index", "group_name"), on=["rank", "cycle", "index"], how="left"
    )
    return found.with_columns(
        pl.coalesce("group_name", pl.concat_str(pl.lit("not known: "), pl.col("name").cast(pl.String)))
    )


def _group_name() -> pl.Expr:
    power = (pl.col("bytes").cast(pl.Float64).log(2) + 1e-9).floor()
    size = pl.when(pl.col("bytes") > 0).then(power).cast(pl.Int64).map_elements(_size_text, return_dtype=pl.String)
    members = pl.when(pl.col("num_members") > 1).then(
        pl.concat_str(pl.lit(" of "), pl.col("num_members"), pl.lit(" ranks"))
    )
    return pl.concat_str(
        pl.concat_str("role", pl.lit(" ")).fill_null(""), pl.col("kind").str.replace_all("_", " "),
        members.fill_null(""), pl.concat_str(pl.lit(", "), size).fill_null(""),
    ).alias("group_name")  # fmt: skip


def _size_text(power: int) -> str:
    return f"{byte_count(2**power)} to {byte_count(2 ** (power + 1))}"
