"""Which marks of a trace are its steps, and what contradicts them.

In order of trust: `ProfilerStep#N`; other numbered ranges and ranges that a framework repeats; `Optimizer.step#...`; the first
forward of a pipeline; kernels of optimizers. The first that all ranks have, with equal counts, marks the steps. Another one
that counts differently is a contradiction: then nothing that is per step and declared from outside (tokens) can be used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from traceanalyzer.tables.steps.candidates import PLACE, RANGES, Candidate
from traceanalyzer.tables.steps.ends import action_steps, optimizer_kernel_steps, optimizer_steps
from traceanalyzer.tables.steps.main_threads import on_main_thread
from traceanalyzer.tables.steps.names import named_candidates, profiler_steps

STEP_RANGES = pl.Schema(
    {
        "rank": pl.Int32,
        "cycle": pl.Int32,
        "step": pl.Int32,
        "range_start_ns": pl.Int64,
        "range_end_ns": pl.Int64,
        "open_start": pl.Boolean,
        "open_end": pl.Boolean,
        "less_work": pl.Boolean,  # the first step of a rank, with fewer events than every other one
    }
)
MIN_RECORDED_SHARE = 0.5
"""A step with recorded bounds that holds less of the usual number of events is cut by the capture."""
MIN_ALIKE_SHARE = 0.95
"""Of the events of every other step: a first step with fewer does less, or was cut where the capture itself is its bound."""
MAX_SPREAD = 0.4
"""Other marks per step, as a distance from 1, up to which two bases agree: a few steps may lack one."""
MIN_OUTSIDE = 0.05
"""Of a step: less time outside of all steps is not worth a word."""


@dataclass(frozen=True, slots=True)
class StepBasis:
    """How the steps of a run are marked."""

    name: str | None = None
    """None: nothing marks them, so the whole capture is one step."""
    conflict: str | None = None
    """What another mark says, where it says something else."""
    why_none: str | None = None
    """Why nothing marks steps."""
    before_ns: int = 0
    """CPU time before the first step of a rank, the most of any; 0 if it is short."""
    after_ns: int = 0
    """The same after the last step."""


@dataclass(frozen=True, slots=True)
class FoundSteps:
    """The steps of all ranks by CPU time, on the ranks' own clocks."""

    ranges: pl.DataFrame
    """`STEP_RANGES`; without rows for ranks on which nothing marks steps."""
    basis: StepBasis = field(default_factory=StepBasis)

    @property
    def with_less_work(self) -> frozenset[int]:
        """Steps that do less than the others on every rank that has them."""
        by_step = self.ranges.group_by("step").agg(pl.col("less_work").all())
        return frozenset(by_step.filter("less_work")["step"])


def find_steps(events: pl.DataFrame, action_pattern: str | None = None) -> FoundSteps:
    """The steps of `EVENTS`; `action_pattern` labels actions in the job's own way."""
    main = on_main_thread(events).with_columns((pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))
    notes = main.filter(pl.col("category") == "user_annotation").with_columns(pl.col("name").cast(pl.String))
    bounds = main.group_by(PLACE).agg(pl.col("start_ns").min(), pl.col("end_ns").max())
    ranks = frozenset(events["rank"].unique())
    profiler, optimizer = profiler_steps(notes), optimizer_steps(events, notes, bounds)
    found = [
        profiler,
        *named_candidates(notes),
        *([optimizer] if optimizer else []),
        *_several(action_steps(notes, bounds, action_pattern)),
    ]
    able = [each for each in found if each.ranges.height and each.why_not(ranks) is None]
    chosen, conflict = _chosen(able)
    if chosen is None and profiler.ranges.is_empty():
        kernels = optimizer_kernel_steps(events, notes, bounds)
        chosen = kernels if kernels is not None and kernels.why_not(ranks) is None else None
    if chosen is None:  # ranks with `ProfilerStep` keep it where others have nothing
        reasons = [reason for each in found if each.ranges.height and (reason := each.why_not(ranks))]
        name = profiler.basis if profiler.ranges.height else None
        return FoundSteps(_ranges(profiler, main), StepBasis(name, None, "; ".join(reasons) or None))
    ranges = _ranges(chosen, main)
    return FoundSteps(ranges, StepBasis(chosen.basis, conflict, None, *_outside(ranges, bounds)))


def _outside(ranges: pl.DataFrame, bounds: pl.DataFrame) -> tuple[int, int]:
    """What the capture holds before the first and after the last step of a rank, if it is a notable part of one."""
    length = pl.col("range_end_ns") - pl.col("range_start_ns")
    edges = ranges.group_by(PLACE).agg(
        pl.col("range_start_ns").min().alias("_first"),
        pl.col("range_end_ns").max().alias("_last"),
        length.median().alias("_usual"),
    )
    sides = edges.join(bounds, on=PLACE).select(
        (pl.col("_first") - pl.col("start_ns")).alias("before"), (pl.col("end_ns") - pl.col("_last")).alias("after"), "_usual"
    )  # fmt: skip
    notable = [pl.col(side).filter(pl.col(side) > MIN_OUTSIDE * pl.col("_usual")).max() for side in ("before", "after")]
    before, after = sides.select(notable).row(0)
    return int(before or 0), int(after or 0)


def _several(candidate: Candidate | None) -> list[Candidate]:
    """Actions that never recur do not mark steps."""
    if candidate is None or candidate.ranges.group_by(PLACE).len()["len"].max() == 1:
        return []
    return [candidate]


def _chosen(able: list[Candidate]) -> tuple[Candidate | None, str | None]:
    """The most trusted candidate, and what contradicts it."""
    sure = [each for each in able if not each.needs_agreement]
    for each in able:
        conflict = next((text for other in sure if other is not each and (text := _conflict(each, other))), None)
        if conflict is None or not each.needs_agreement:
            return each, conflict or _outvoted(able, each)
    return None, None


def _outvoted(able: list[Candidate], chosen: Candidate) -> str | None:
    """What repeated ranges of a framework say that were not taken as steps, for another mark contradicts them."""
    repeated = [each for each in able[: able.index(chosen)] if not each.is_numbered]
    return next((text for each in repeated if (text := _conflict(chosen, each))), None)


def _conflict(one: Candidate, other: Candidate) -> str | None:
    """In words, if the steps of `one` hold more or fewer than one mark of `other` each."""
    windows, marks = _with_long_end(_tiled(one.ranges)), other.ranges.select(*PLACE, "at_ns")
    inside = marks.sort("at_ns").join_asof(
        windows.sort("start_ns").select(*PLACE, pl.col("start_ns").alias("_from"), pl.col("end_ns").alias("_to")),
        left_on="at_ns",
        right_on="_from",
        by=PLACE,
        strategy="backward",
        check_sortedness=False,
    )
    num_marks = inside.filter(pl.col("at_ns") < pl.col("_to")).height
    if abs(num_marks / windows.height - 1) <= MAX_SPREAD:
        return None
    num_ranks = windows["rank"].n_unique()
    return (
        f"{one.basis} gives {windows.height / num_ranks:.3g} steps per rank, in which {other.basis} gives "
        f"{num_marks / num_ranks:.3g}"
    )


def _with_long_end(windows: pl.DataFrame) -> pl.DataFrame:
    """The last window as long as the longest before it; a lone one to the end: what follows its range may belong to it."""
    last = pl.col("start_ns") == pl.col("start_ns").max().over(PLACE)
    length = (pl.col("end_ns") - pl.col("start_ns")).filter(~last).max().over(PLACE)
    long_end = (pl.col("start_ns") + length).fill_null((1 << 63) - 1)
    return windows.with_columns(
        pl.when(last).then(pl.max_horizontal("end_ns", long_end)).otherwise("end_ns").alias("end_ns")
    )


def _tiled(ranges: pl.DataFrame) -> pl.DataFrame:
    """`RANGES` that reach to the start of the next, unless steps in between were not recorded."""
    following = pl.col("start_ns").shift(-1).over(PLACE)
    is_next = (pl.col("number").shift(-1).over(PLACE) - pl.col("number") == 1).fill_null(value=True)
    gap_is_short = following - pl.col("end_ns") <= (pl.col("end_ns") - pl.col("start_ns")) // 2
    end = pl.when(is_next | gap_is_short).then(pl.coalesce(following, "end_ns")).otherwise("end_ns")
    return ranges.sort(*PLACE, "start_ns").with_columns(end.alias("end_ns"))


def _ranges(candidate: Candidate, main: pl.DataFrame) -> pl.DataFrame:
    if candidate.ranges.is_empty():
        return pl.DataFrame(schema=STEP_RANGES)
    counted = pl.int_range(pl.len(), dtype=pl.Int32).over("rank")
    number = pl.col("number") if candidate.is_numbered else counted
    numbered = _tiled(candidate.ranges.select(RANGES.names())).with_columns(number.alias("step"))
    rows = numbered.with_columns(_unique_number()).rename({"start_ns": "range_start_ns", "end_ns": "range_end_ns"})
    return _with_cuts(rows, main, candidate).select(STEP_RANGES.names())


def _unique_number() -> pl.Expr:
    """The step number, made unique on its rank: a profiler that starts again may count from the same number again.

    The k-th repetition of a number is that number plus k times one more than the largest, alike on all ranks.
    """
    again = pl.int_range(pl.len(), dtype=pl.Int32).over("rank", "step")
    return (pl.col("step") + again * (pl.col("step").max() + 1)).alias("step")


def _with_cuts(rows: pl.DataFrame, main: pl.DataFrame, candidate: Candidate) -> pl.DataFrame:
    """Add `open_start`, `open_end`, `less_work`: the first and last step of a rank with too few events of its main thread.

    A loop that ends while the profiler still records leaves a stump; a capture that begins at any moment cuts a step; and a
    first step may do less, as one whose update is skipped.
    """
    counts = (
        main.select(*PLACE, "start_ns")
        .sort("start_ns")
        .join_asof(
            rows.select(*PLACE, "step", "range_start_ns", "range_end_ns").sort("range_start_ns"),
            left_on="start_ns",
            right_on="range_start_ns",
            by=PLACE,
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("start_ns") < pl.col("range_end_ns"))
        .group_by("rank", "step")
        .agg(pl.len().alias("_events"))
    )
    known = rows.join(counts, on=["rank", "step"], how="left", maintain_order="left").with_columns(
        pl.col("_events").fill_null(0)
    )
    last = pl.col("range_start_ns") == pl.col("range_start_ns").max().over("rank")
    first = pl.col("range_start_ns") == pl.col("range_start_ns").min().over("rank")
    open_end = last & _too_few(last, recorded=candidate.ends_recorded, of_all=True)
    known = known.with_columns(open_end.fill_null(value=False).alias("open_end"))
    others = first | pl.col("open_end")
    open_start = first & ~pl.col("open_end") & _too_few(others, recorded=candidate.starts_recorded, of_all=False)
    less_work = first & _too_few(others, recorded=False, of_all=False)
    return known.with_columns(
        open_start.fill_null(value=False).alias("open_start"), less_work.fill_null(value=False).alias("less_work")
    )


def _too_few(apart: pl.Expr, *, recorded: bool, of_all: bool) -> pl.Expr:
    """Whether a step holds too few events: of the usual number where its bounds are recorded, else of every other step."""
    events = pl.col("_events")
    if not recorded:
        return events < MIN_ALIKE_SHARE * events.filter(~apart).min().over("rank")
    usual = events.median() if of_all else events.filter(~apart).median()
    enough = pl.len() > 1 if of_all else (~apart).sum() > 1
    return (events < MIN_RECORDED_SHARE * usual.over("rank")) & enough.over("rank")
