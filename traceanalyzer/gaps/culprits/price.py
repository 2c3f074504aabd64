"""What the step would gain if one rank did as its peers do, by replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.gaps.culprits.peers import PARTS, median_of_others
from traceanalyzer.gaps.culprits.program_graph import NO_LAUNCH, ProgramGraph

MAX_REPLAY_ERROR = 0.02
MIN_SHARE = 0.005
"""Of the step: less is not a fault."""
ASSUMED_NOISE = 0.02
"""Of the step, where one step tells no spread."""
RECURRING_SHARE = 0.8
"""Of five steps or more, so many must show a fault."""
MAX_CANDIDATES = 8
"""Ranks that are replayed: those with most beyond their peers."""
_KEY = ["rank", "step", "operation"]

Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Saving:
    """Per step, in nanoseconds."""

    ns: float
    low: float
    high: float
    recurs: bool

    @property
    def noise(self) -> float:
        """Half the width of the bounds."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Price:
    """What the repair of one rank saves."""

    rank: int
    whole: Saving
    parts: dict[str, Saving]
    """By part of `PARTS`: that part alone."""
    num_steps: int
    basis: str
    held_back_ns: int = 0
    """How much less it may save, for launches do not move as devices do."""

    @property
    def part(self) -> str:
        """The part that alone saves most."""
        return max(PARTS, key=lambda part: self.parts[part].ns)

    def saving(self, least_ns: float) -> Saving:
        """The saving of the largest part where no other saves anything, else of the whole."""
        others = [self.parts[part].ns for part in PARTS if part != self.part]
        return self.parts[self.part] if max(others) < least_ns else self.whole


def step_weights(graph: ProgramGraph) -> Array:
    """What every node lasts."""
    return graph.nodes.select(pl.sum_horizontal(*PARTS, "fixed_ns")).to_series().to_numpy()


def replay_error(graph: ProgramGraph, measured_ns: Mapping[int, float]) -> float:
    """|replay - measured| ÷ measured, of the median step; `measured_ns` by step.

    The first step of the capture is left out if there are others: when its ranks began it is not known.
    """
    replayed = dict(zip(graph.judged_steps, graph.lengths(step_weights(graph)[:, None])[:, 0].tolist(), strict=True))
    steps = [step for step in graph.judged_steps if step in measured_ns]
    later = [step for step in steps if step != graph.first_step]
    known = later or steps
    measured = float(np.median([measured_ns[step] for step in known]))
    return abs(float(np.median([replayed[step] for step in known])) - measured) / measured


def candidates(segments: pl.DataFrame, step_ns: float) -> list[int]:
    """Ranks with more to do or to wait for than their peers, most first.

    Of the first operation only computation counts: its lateness may be the profiler's start.
    """
    beyond = pl.sum_horizontal(
        [
            pl.when(pl.lit(part == "compute_ns") | ~pl.col("is_first"))
            .then((pl.col(part) - pl.col(f"base_{part}")).clip(lower_bound=0))
            .fill_null(0)
            for part in PARTS
        ]
    )
    by_step = segments.group_by("rank", "step").agg(beyond.sum().alias("beyond"))
    return (
        by_step.group_by("rank")
        .agg(pl.col("beyond").median())
        .filter(pl.col("beyond") > MIN_SHARE * step_ns)
        .sort("beyond", "rank", descending=[True, False])["rank"]
        .to_list()[:MAX_CANDIDATES]
    )


def excess(segments: pl.DataFrame, rank: int) -> Price:
    """What a rank needs beyond its peers, by part: a bound of what its repair saves, where who waits for it is not known.

    Computation without a base, and of experts, whose rows are not known of all, is taken to be as slow as the rest.
    """
    own = segments.filter(pl.col("rank") == rank)
    known = pl.col("base_compute_ns").is_not_null() & ~pl.col("is_experts")
    usual = pl.col("base_compute_ns").filter(known).sum() / pl.max_horizontal(
        pl.col("compute_ns").filter(known).sum(), 1
    )
    beyond = {"compute_ns": pl.col("compute_ns").sum() * (1 - usual)} | {
        part: (pl.col(part) - pl.col(f"base_{part}")).filter(~pl.col("is_first")).fill_null(0).sum()
        for part in PARTS
        if part != "compute_ns"
    }
    by_step = own.group_by("step").agg(**beyond)
    parts = {part: _of_each_step(by_step[part]) for part in PARTS}
    return Price(rank, max(parts.values(), key=lambda saving: saving.ns), parts, by_step.height, "excess")


def _of_each_step(values: pl.Series) -> Saving:
    """The median; it recurs where every step has half of it."""
    ns = values.to_numpy()
    middle = float(np.median(ns))
    return Saving(middle, 0.0, middle, bool((ns > middle / 2).all()) and middle > 0)


def prices(graph: ProgramGraph, segments: pl.DataFrame, ranks: Sequence[int], alone: set[int]) -> list[Price]:
    """The worth of repairing each of `ranks`; those in `alone` exchange messages with ranks that were not captured."""
    whole = leveled(graph, segments)
    return [_price(graph, segments, whole, rank, alone) for rank in ranks]


def leveled(graph: ProgramGraph, segments: pl.DataFrame) -> pl.DataFrame:
    """Nodes in order with each part at the level of the peers, `to_compute_ns`, ...: shared in proportion."""
    levels = segments.select(
        *_KEY,
        "is_first",
        (pl.col("place") <= 0).alias("is_start"),
        *[pl.col(part).alias(f"_whole_{part}") for part in PARTS],
        *[f"base_{part}" for part in PARTS],
    )
    rows = graph.nodes.join(levels, on=_KEY, how="left", maintain_order="left").with_columns(
        pl.col("is_first", "is_start").fill_null(value=True)
    )
    first = (pl.int_range(pl.len()).over(_KEY) == 0).cast(pl.Int64)  # what the rank has none of goes to the first node
    for part in PARTS:
        own, base = pl.col(f"_whole_{part}"), pl.col(f"base_{part}")
        share = pl.when(own > 0).then(pl.col(part) / own).otherwise(first)
        known = base.is_not_null() & (pl.lit(part == "compute_ns") | ~pl.col("is_first"))
        leveled = pl.when(known).then((base * share).round().cast(pl.Int64)).otherwise(part)
        rows = rows.with_columns(leveled.alias(f"to_{part}"))
    return rows


def _price(graph: ProgramGraph, segments: pl.DataFrame, rows: pl.DataFrame, rank: int, alone: set[int]) -> Price:
    own = step_weights(graph)
    mine = (rows["rank"] == rank).to_numpy()
    twin = _twin(segments, rank, alone) if rank in alone else None
    if twin is not None:
        rows, mine = _with_times_of(rows, segments, twin, rank), (rows["rank"] == twin).to_numpy()
        own = np.where(np.isin(rows["rank"].to_numpy(), list(alone)), 0, own)
    sign = -1 if twin is not None else 1
    changes = {part: np.where(mine, (rows[f"to_{part}"] - rows[part]).to_numpy(), 0) for part in PARTS}
    whole = own + sum(changes.values())
    starts = np.where(mine & rows["is_start"].to_numpy(), changes["host_ns"] + changes["other_ns"], 0)
    columns = [own, whole, *[own + change for change in changes.values()], whole - starts]
    lengths = graph.lengths(np.maximum(np.stack(columns, axis=1), 0))
    saved = sign * (lengths[:, :1] - lengths[:, 1:])
    if twin is None and _is_of_starts(saved, graph, float(np.median(lengths[:, 0]))):
        saved = saved[1:]  # when the first step began is not known, so it cannot show the delay that the others have
    step_ns = float(np.median(lengths[:, 0]))
    parts = {part: spread(saved[:, 1 + at], step_ns) for at, part in enumerate(PARTS)}
    basis = "replica" if twin is not None else "replay"
    price = Price(rank, spread(saved[:, 0], step_ns), parts, len(saved), basis)
    if twin is not None:
        return price
    return replace(price, held_back_ns=graph.held_back(own, np.maximum(whole, 0), _usual_leads(graph, segments, rank)))


def _usual_leads(graph: ProgramGraph, segments: pl.DataFrame, rank: int) -> Array:
    """By node: how long before its start the peers launch at this place; -1 without peers, and on the rank itself."""
    own = graph.nodes.select(*_KEY, pl.Series("lead", graph.leads)).filter(pl.col("lead") < NO_LAUNCH)
    placed = own.group_by(_KEY).agg(pl.col("lead").min()).join(
        segments.select(*_KEY, "place", "peers").drop_nulls("peers"), on=_KEY
    )  # fmt: skip
    usual = placed.with_columns(median_of_others(placed, "lead", ["peers", "step", "place"]).alias("usual"))
    rows = graph.nodes.join(usual.select(*_KEY, "usual"), on=_KEY, how="left", maintain_order="left")
    return rows.select(pl.when(pl.col("rank") != rank).then("usual").fill_null(-1)).to_series().to_numpy()


def _is_of_starts(saved: Array, graph: ProgramGraph, step_ns: float) -> bool:
    """Whether the saving lies before the first operation of the steps, and the first judged one is the capture's first."""
    if len(saved) < 2 or graph.judged_steps[0] != graph.first_step:
        return False
    return float(np.median(saved[1:, 0] - saved[1:, -1])) > MIN_SHARE * step_ns


def _twin(segments: pl.DataFrame, rank: int, alone: set[int]) -> int | None:
    """A peer whose pipeline was captured."""
    sets = segments.filter(pl.col("rank") == rank)["peers"].drop_nulls()
    if sets.is_empty():
        return None
    others = segments.filter((pl.col("peers") == sets[0]) & ~pl.col("rank").is_in(list(alone)))["rank"].unique().sort()
    return int(others[0]) if len(others) else None


def _with_times_of(rows: pl.DataFrame, segments: pl.DataFrame, twin: int, rank: int) -> pl.DataFrame:
    """`rows` with the twin at the times of `rank`."""
    theirs = segments.filter(pl.col("rank") == rank).select(
        "step", "place", *[pl.col(part).alias(f"_their_{part}") for part in PARTS]
    )
    places = segments.filter(pl.col("rank") == twin).select(*_KEY, "place")
    joined = rows.join(places, on=_KEY, how="left", maintain_order="left").join(
        theirs, on=["step", "place"], how="left", maintain_order="left"
    )
    first = (pl.int_range(pl.len()).over(_KEY) == 0).cast(pl.Int64)
    for part in PARTS:
        share = pl.when(pl.col(f"_whole_{part}") > 0).then(pl.col(part) / pl.col(f"_whole_{part}")).otherwise(first)
        known = pl.col(f"_their_{part}").is_not_null() & (pl.lit(part == "compute_ns") | ~pl.col("is_first"))
        time = (pl.col(f"_their_{part}") * share).round().cast(pl.Int64)
        joined = joined.with_columns(pl.when(known).then(time).otherwise(part).alias(f"to_{part}"))
    return joined


def spread(saved: npt.NDArray[np.int64], step_ns: float) -> Saving:
    """The median with its bounds, and whether every step has it (with many, four of five)."""
    middle = float(np.median(saved))
    if len(saved) == 1:
        return Saving(middle, middle - ASSUMED_NOISE * step_ns, middle + ASSUMED_NOISE * step_ns, middle > 0)
    if len(saved) < 5:
        return Saving(middle, float(saved.min()), float(saved.max()), bool((saved > 0).all()))
    picked = np.random.default_rng(0).integers(0, len(saved), (1000, len(saved)))
    medians = np.median(saved[picked], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Saving(middle, float(low), float(high), bool((saved > 0).mean() >= RECURRING_SHARE))
