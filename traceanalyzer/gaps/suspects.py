"""Ranks that keep their process groups waiting by what they do themselves, priced by replay.

A rank is compared with the other captured members of the group in which it exchanges most often, of those groups whose
members do the same work (all of a stage). Its *excess* in a stretch is what it spends there beyond the others' median:
computing, waiting for its host, or idle without a known reason. It is named where the excess is beyond chance

* over the steps or over the stretches (Student's t; at least 3 standard errors), or where one stretch stands out of all;
* and beyond three times the spread (MAD) of the others, with three or more of them;
* or, of a single step with four or more members, where its repair saves four times as much as that of any other;

and where replaying all ranks with this one at the others' time makes the step shorter by more than half a percent and
more than the savings spread over the steps. A rank that is late because others kept it waiting has no excess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.gaps.dependency_graph import DependencyGraph
from traceanalyzer.gaps.lockstep import Lockstep, lockstep, measured_lengths, step_lengths
from traceanalyzer.measurements.own_work import KINDS, GroupWork, group_work
from traceanalyzer.measurements.rank_pieces import RankPieces, Vector, rank_pieces
from traceanalyzer.tables import Tables

MIN_SHARE = 0.005
"""Of the step: what an excess must cost."""
ASSUMED_NOISE = {"computing": 0.05, "host": 0.02, "idle": 0.05}
"""Of the step: what a single stretch in a single step must cost, where nothing tells how much such stretches vary."""
FIRST_OFF = 0.25
"""A first step further off the median is set apart."""
MAX_REPLAY_ERROR = 0.02
MAX_SUSPECTS = 24
MIN_STANDARD_ERRORS = 3.0
NUM_SPREADS = 3 * 1.4826
"""Times the median absolute deviation: three standard deviations of a normal spread."""
MIN_OTHERS = 3
"""Other members whose spread can be told."""
MIN_LEAD = 4.0
"""In a single step: times the savings of any other rank, which make one stand out among four or more."""
MIN_ALIKE = 5
"""Stretches at one place in the step, over ranks and steps, of which one can stand out."""
_T95 = {2: 12.71, 3: 4.30, 4: 3.18}
"""Two-sided 95% quantiles of Student's t by number of samples, where they exceed three."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Suspect:
    """One rank, and one kind of excess; milliseconds per step, means over the steps."""

    rank: int
    kind: str
    """`computing`, `host` or `idle`."""
    others: tuple[int, ...]
    """Ranks it is compared with."""
    roles: frozenset[str]
    excess_ms: float
    usual_ms: float
    """What the others spend so, and the rank itself would."""
    caused_wait_ms: float
    """What others waited at collectives to which the rank came last, summed over them."""
    worth_ms: float | None
    """What the step gains with the rank at the others' time; None where only bounds can be said."""
    high_ms: float
    """At most that."""
    step_ms: float
    steps: tuple[int, ...]
    """In which the excess lies."""
    num_steps: int
    start_ns: int
    """The stretch with the largest excess."""
    end_ns: int


@dataclass(frozen=True, slots=True)
class Suspects:
    """All that are beyond chance, dearest first, and what tells of them."""

    found: tuple[Suspect, ...] = ()
    ranks: tuple[RankPieces, ...] = ()
    works: tuple[GroupWork, ...] = ()
    graph: Lockstep | None = None
    typical: tuple[int, ...] = ()
    """Steps that count."""
    reason: str | None = None
    """Why savings are bounds alone."""


def suspects(
    tables: Tables,
    splits: pl.DataFrame,
    messages: pl.DataFrame,
    communications: pl.DataFrame,
    pipelines: Sequence[DependencyGraph] = (),
) -> Suspects:
    """Suspects among device ranks, from `COLLECTIVE_SPLITS`, `P2P_SPLITS` and `COMMUNICATIONS`.

    `pipelines` are the graphs of whole pipeline steps: they tell which action needs which message.
    """
    if tables.kernels.is_empty() or tables.steps.is_empty():
        return Suspects()
    ranks = rank_pieces(tables.kernels, communications, messages, tables.steps, _consumers(pipelines))
    works = group_work(ranks, splits, comparable_groups(splits, tables))
    if not works:
        return Suspects(ranks=tuple(ranks))
    graph = lockstep(ranks, splits, messages, tables.steps, one_clock=tables.clock.one_clock)
    lengths = measured_lengths(tables.steps)
    steps = sorted(tables.steps["step"].unique().to_list())
    typical = _typical(lengths)
    judge = _Judge(ranks, splits, lengths, np.array(steps), typical)
    judged = [each for work, at in _chosen(works) for each in judge.candidates(work, at)]
    judged = sorted(judged, key=lambda each: -each.high_ms)[:MAX_SUSPECTS]
    graph, reason = _trusted(graph, lengths, typical)
    priced = judge.priced(graph, judged) if graph is not None else judge.bounded(judged)
    return Suspects(
        found=tuple(sorted(priced, key=lambda each: -(each.worth_ms or each.high_ms))),
        ranks=tuple(ranks),
        works=tuple(works),
        graph=graph,
        typical=tuple(int(step) for step, kept in zip(steps, typical, strict=True) if kept),
        reason=reason,
    )


def _consumers(pipelines: Sequence[DependencyGraph]) -> dict[tuple[int, int], int]:
    """When the action started that needs what a kernel received; the first, where one kernel received for several."""
    found: dict[tuple[int, int], int] = {}
    for graph in pipelines:
        starts = graph.actions["start_ns"].to_list()
        for kernel, action in zip(graph.messages.receive, graph.messages.consumer, strict=True):
            found[kernel] = min(found.get(kernel, starts[action]), starts[action])
    return found


def comparable_groups(splits: pl.DataFrame, tables: Tables) -> list[str]:
    """Groups whose members do the same work: all ranks of one stage, or all of a job without a pipeline."""
    stages: dict[int, frozenset[int]] = {
        int(rank): frozenset(held) for rank, held in tables.actions.group_by("rank").agg(pl.col("stage").unique()).iter_rows()
    }
    pipelines = tables.p2p.filter((pl.col("role") == "pp") & pl.col("group").is_not_null())["group"].unique()
    neighbours = [frozenset(text.split(",")) for text in pipelines]
    found: list[str] = []
    for group in splits.filter(pl.col("group").is_not_null() & pl.col("role").ne_missing("pp"))["group"].unique().sort():
        members = frozenset(group.split(","))
        held = {stages.get(int(rank)) for rank in members} - {None}
        if len(held) <= 1 and all(len(members & ranks) <= 1 for ranks in neighbours):
            found.append(group)
    return found


def _chosen(works: Sequence[GroupWork]) -> list[tuple[GroupWork, int]]:
    """Every rank in the group that exchanges most often."""
    found: dict[int, tuple[GroupWork, int]] = {}
    for work in works:
        for at, rank in enumerate(work.ranks):
            found.setdefault(rank, (work, at))
    return [found[rank] for rank in sorted(found)]


def _typical(lengths: Vector) -> npt.NDArray[np.bool_]:
    """Steps that count: with eight or more those near the median, with fewer all but a first one that is far off."""
    median, kept = float(np.median(lengths)), np.ones(len(lengths), dtype=bool)
    if len(lengths) >= 8:
        far = max(3 * 1.4826 * float(np.median(np.abs(lengths - median))), 0.05 * median)
        near = np.abs(lengths - median) <= far
        return near if (~near).mean() <= 0.1 else kept
    if len(lengths) >= 3 and abs(lengths[0] / float(np.median(lengths[1:])) - 1) > FIRST_OFF:
        kept[0] = False
    return kept


def _trusted(
    graph: Lockstep | None, lengths: Vector, typical: npt.NDArray[np.bool_]
) -> tuple[Lockstep | None, str | None]:  # fmt: skip
    """The graph if its replay gives the measured steps, else why not."""
    if graph is None:
        return None, "the ranks' communications cannot be put in an order that a replay could follow"
    replayed = step_lengths(graph, np.array(graph.costs, dtype=np.int64)[:, None])[:, 0]
    error = abs(float(replayed[typical].mean()) / float(lengths[typical].mean()) - 1)
    if error > MAX_REPLAY_ERROR:
        return None, f"the replay of all ranks misses the measured steps by {error:.1%} (limit {MAX_REPLAY_ERROR:.0%})"
    return graph, None


@dataclass(frozen=True, slots=True)
class _Candidate:
    work: GroupWork
    at: int
    kind: str
    excess: Floats
    """By stretch; nothing where it is not priced."""
    high_ms: float
    is_sure: bool
    """Beyond chance by its excess alone."""


@dataclass(frozen=True, slots=True)
class _Judge:
    ranks: Sequence[RankPieces]
    splits: pl.DataFrame
    lengths: Vector
    steps: Vector
    typical: npt.NDArray[np.bool_]

    @property
    def step_ns(self) -> float:
        return float(self.lengths[self.typical].mean())

    def candidates(self, work: GroupWork, at: int) -> list[_Candidate]:
        """Kinds in which the rank exceeds the others beyond chance."""
        found: list[_Candidate] = []
        counted = np.isin(work.steps, self.steps[self.typical])
        for kind in KINDS:
            excess = np.where(counted, work.spent[kind][at] - work.usual(kind)[at], 0.0)
            if kind != "computing" and len(self.steps) == 1:
                excess[0] = 0.0  # ranks may begin apart because their profilers did
            per_step = self._per_step(work, excess)
            mean = float(per_step.mean())
            sure = mean > MIN_SHARE * self.step_ns and self._beyond_chance(work, at, kind, excess)
            if mean > MIN_SHARE * self.step_ns and (sure or self.typical.sum() == 1):
                high = min(mean, self._most(work, at, excess))
                found.append(_Candidate(work, at, kind, excess, high / 1e6, sure))
        return found

    def _per_step(self, work: GroupWork, excess: Floats) -> Floats:
        return np.array([excess[work.steps == step].sum() for step in self.steps[self.typical]])

    def _most(self, work: GroupWork, at: int, excess: Floats) -> float:
        """Per step what the rank's collectives could gain at most: its excess, but no more than the others wait for it."""
        waits = self.splits.filter(
            (pl.col("group") == work.group) & pl.col("wait_ns").is_not_null() & (pl.col("rank") != work.ranks[at])
        )
        least: dict[int, int] = dict(waits.group_by("match").agg(pl.col("wait_ns").min()).iter_rows())
        gained = [min(max(float(ns), 0.0), least.get(match, 0)) for ns, match in zip(excess, work.matches, strict=False)]
        return (sum(gained) + max(float(excess[-1]), 0.0)) / int(self.typical.sum())

    def _beyond_chance(self, work: GroupWork, at: int, kind: str, excess: Floats) -> bool:
        per_step = self._per_step(work, excess)
        if self._stands_out(work, at, kind, excess):
            return True
        others = np.delete(work.spent[kind] / work.rows, at, axis=0) * work.rows[at]
        if len(others) >= MIN_OTHERS:
            totals = np.stack([self._per_step(work, each) for each in others])
            spread = np.median(np.abs(totals - np.median(totals, axis=0)), axis=0)
            if per_step.mean() <= NUM_SPREADS * spread.mean():
                return False
        told = excess[np.isin(work.steps, self.steps[self.typical])]
        return _significant(per_step) or _significant(told)

    def _stands_out(self, work: GroupWork, at: int, kind: str, excess: Floats) -> bool:
        """Whether the largest excess is beyond what such stretches vary by, over ranks and steps."""
        largest = int(excess.argmax())
        if excess[largest] < ASSUMED_NOISE[kind] * self.step_ns:
            return False
        place = _places(work.steps)
        alike = work.spent[kind][:, place == place[largest]]
        if alike.size < MIN_ALIKE:
            return True
        spread = np.median(np.abs(alike - np.median(alike)))
        return bool(work.spent[kind][at, largest] - np.median(alike) > NUM_SPREADS * spread)

    def priced(self, graph: Lockstep, judged: Sequence[_Candidate]) -> list[Suspect]:
        """Those whose repair saves time by replay."""
        by_rank = {each.rank: each for each in self.ranks}
        base = np.array(graph.costs, dtype=np.int64)
        scenarios = [base, *(repaired_costs(graph, base, by_rank, each.work, each.at, each.kind) for each in judged)]
        lengths = step_lengths(graph, np.stack(scenarios, axis=1))[self.typical]
        savings = (lengths[:, :1] - lengths[:, 1:]).astype(np.float64)
        noise = (savings.max(axis=0) - savings.min(axis=0)) / 2 / np.sqrt(len(savings))
        means: list[float] = savings.mean(axis=0).tolist()
        found: list[Suspect] = []
        for at, each in enumerate(judged):
            rivals = [mean for mean, other in zip(means, judged, strict=True) if other is not each and other.kind == each.kind]
            alone = len(each.work.ranks) > MIN_OTHERS and means[at] >= MIN_LEAD * max([0.0, *rivals])
            if means[at] >= max(MIN_SHARE * self.step_ns, float(noise[at])) and (each.is_sure or alone):
                found.append(self._suspect(each, by_rank, means[at] / 1e6))
        return found

    def bounded(self, judged: Sequence[_Candidate]) -> list[Suspect]:
        """Those that may cost enough, without a replay."""
        by_rank = {each.rank: each for each in self.ranks}
        least = MIN_SHARE * self.step_ns / 1e6
        return [self._suspect(each, by_rank, None) for each in judged if each.is_sure and each.high_ms >= least]

    def _suspect(self, each: _Candidate, by_rank: dict[int, RankPieces], worth_ms: float | None) -> Suspect:
        work, at, num = each.work, each.at, int(self.typical.sum())
        rank = work.ranks[at]
        per_step, largest = self._per_step(work, each.excess), int(each.excess.argmax())
        counted = np.isin(work.steps, self.steps[self.typical])
        own = by_rank[rank]
        first, last = work.pieces[at][largest]
        start = int(own.end_ns[first - 1]) if first > 0 else int(own.start_ns[0])
        late = work.operations[at][largest]
        ends = [int(own.end_ns[last - 1])] if last > first else []
        ends += [int(own.operations.start_ns[operation]) for operation in late]
        affected = per_step > MIN_SHARE * self.step_ns
        return Suspect(
            rank=rank,
            kind=each.kind,
            others=tuple(other for other in work.ranks if other != rank),
            roles=work.roles,
            excess_ms=float(per_step.mean()) / 1e6,
            usual_ms=float(work.usual(each.kind)[at][counted].sum()) / num / 1e6,
            caused_wait_ms=self._caused(rank, work) / 1e6,
            worth_ms=worth_ms,
            high_ms=each.high_ms,
            step_ms=self.step_ns / 1e6,
            steps=tuple(int(step) for step, hit in zip(self.steps[self.typical], affected, strict=True) if hit),
            num_steps=num,
            start_ns=start,
            end_ns=max([start, *ends]),
        )

    def _caused(self, rank: int, work: GroupWork) -> float:
        """Waiting for the rank; not at the first collective of a single step, to which ranks may come as their profilers did."""
        unpriced = work.matches[:1] if len(self.steps) == 1 else ()
        late = self.splits.filter(
            (pl.col("late_rank") == rank) & (pl.col("rank") != rank)
            & pl.col("step").is_in(self.steps[self.typical].tolist())
            & ~pl.col("match").is_in(list(unpriced))
        )  # fmt: skip
        return int(late["wait_ns"].sum()) / int(self.typical.sum())


def _significant(samples: Floats) -> bool:
    """Whether the mean is above 0 by more standard errors than chance gives."""
    num = len(samples)
    if num < 2:  # noqa: PLR2004 - no spread without two samples
        return False
    error = float(samples.std(ddof=1)) / np.sqrt(num)
    return float(samples.mean()) > _T95.get(num, MIN_STANDARD_ERRORS) * error


def _places(steps: Vector) -> Vector:
    """Of every stretch its place in its step."""
    first = np.concatenate([[0], np.flatnonzero(np.diff(steps)) + 1])
    return np.arange(len(steps)) - np.repeat(first, np.diff([*first.tolist(), len(steps)]))


def repaired_costs(
    graph: Lockstep, base: Vector, by_rank: dict[int, RankPieces], work: GroupWork, at: int, kind: str
) -> Vector:
    """Costs with one rank at the others' time. Idle time that the others have is not gained by faster computation."""
    rank = work.ranks[at]
    own = by_rank[rank]
    target = work.usual(kind)[at]
    spent = work.spent[kind][at]
    if kind == "computing":
        waits = sum(work.spent[each] - work.usual(each) for each in KINDS if each != kind)[at]  # type: ignore[index]
        target = np.where(spent > target, np.minimum(spent, target + np.clip(-waits, 0, None)), target)
    else:
        target = np.minimum(spent, target)
    costs = base.copy()
    first = graph.piece[rank]
    of_pieces: Vector = getattr(own, f"{kind}_ns")
    for stretch in np.flatnonzero(spent != target).tolist():
        begin, end = work.pieces[at][stretch]
        less = spent[stretch] - target[stretch]
        if kind == "computing":
            weights = slower_pieces(by_rank, work, at, stretch) if less > 0 else of_pieces[begin:end]
            weights = of_pieces[begin:end] if weights.sum() <= 0 else weights
            costs[first + begin : first + end] -= _shared(less, weights)
            continue
        operations = list(work.operations[at][stretch])
        waiting: Vector = getattr(own.operations, f"{kind}_ns")
        shares = _shared(less, np.concatenate([of_pieces[begin:end], waiting[operations]]))
        costs[first + begin : first + end] -= shares[: end - begin]
        for operation, share in zip(operations, shares[end - begin :].tolist(), strict=True):
            costs[graph.arrival[rank][operation]] -= share
    return np.maximum(costs, 0)


def slower_pieces(by_rank: dict[int, RankPieces], work: GroupWork, at: int, stretch: int) -> Floats:
    """By how much the kernels of a rank's pieces in a stretch are longer than the others' median; 0 where kernels differ."""
    begin, end = work.pieces[at][stretch]
    found = np.zeros(end - begin)
    cut = [kernels_between(by_rank[rank], *work.pieces[place][stretch]) for place, rank in enumerate(work.ranks)]
    names = [by_rank[rank].kernel_names[part] for rank, part in zip(work.ranks, cut, strict=True)]
    if any(len(each) != len(names[at]) or not (each == names[at]).all() for each in names):
        return found
    own = by_rank[work.ranks[at]]
    others = [by_rank[rank].kernel_ns[part] / work.rows[place, stretch] for place, (rank, part) in enumerate(zip(work.ranks, cut, strict=True)) if place != at]
    usual = np.median(np.stack(others), axis=0) * work.rows[at, stretch]
    np.add.at(found, own.kernel_piece[cut[at]] - begin, np.clip(own.kernel_ns[cut[at]] - usual, 0, None))
    return found


def kernels_between(own: RankPieces, begin: int, end: int) -> slice:
    """The compute kernels of some pieces; in order of start they are in order of pieces."""
    first, last = np.searchsorted(np.maximum.accumulate(own.kernel_piece), [begin, end], "left").tolist()
    return slice(first, last)


def _shared(total: float, weights: npt.NDArray[Any]) -> Vector:
    """Integer shares of `total` in the proportions of `weights`."""
    whole = float(weights.sum())
    return np.round(weights * (total / whole)).astype(np.int64) if whole else np.zeros(len(weights), dtype=np.int64)
