"""Which ranks and kernels compute longer or shorter: the fewest words that explain most of the difference.

Computation is a table of ranks × kernels (kernels that one operator launches at one shape are one). Candidates are all of
it, the ranks of a stage, a rank, a kernel, and a kernel on a rank. A candidate says that all its cells changed by one
ratio, the weighted median of theirs; it explains Σ|change| − Σ|change − ratio · before|. The best one is taken with all its
cells, and the rest is explained alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.comparison.record import ChangeKind
from traceanalyzer.review.words import ranks_text

MAX_FOUND = 6
_PREFERRED = 1.05
"""A wider explanation is taken if a narrower one explains less than this much more."""

Vector = npt.NDArray[np.float64]
_ORDER: tuple[ChangeKind, ...] = ("computation", "stage", "rank", "kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """One explanation of changed computation."""

    kind: ChangeKind
    ranks: tuple[int, ...]
    stages: tuple[int, ...]
    kernel: str | None
    shape: str | None
    before_ns: int
    after_ns: int
    """Of its cells, summed over its ranks, per step."""
    before_number: float
    after_number: float
    cells: pl.DataFrame
    """`rank`, `what` of its cells."""
    is_rest: bool = False
    """Other explanations came first, and took their cells."""

    @property
    def ratio(self) -> float | None:
        """After ÷ before, less 1; None if there was none before."""
        return self.after_ns / self.before_ns - 1 if self.before_ns else None


@dataclass(frozen=True, slots=True)
class _Candidate:
    kind: ChangeKind
    chosen: npt.NDArray[np.bool_]
    stages: tuple[int, ...] = ()


def computed_changes(cells: pl.DataFrame, stages: Mapping[int, tuple[int, ...]]) -> list[Computed]:
    """Explanations, best first.

    Args:
        cells: `rank`, `what` (shape, else kernel), `kernel` (that has most time), `shape`, `before_ns`, `after_ns`,
            `before_number`, `after_number`, one row per rank and `what`.
        stages: what each rank holds; ranks without one are missing.
    """
    found: list[Computed] = []
    left = cells.filter((pl.col("before_ns") > 0) | (pl.col("after_ns") > 0)).sort("rank", "what")
    while len(found) < MAX_FOUND and not left.is_empty():
        best = _best(left, stages)
        if best is None:
            break
        found.append(replace(_described(left.filter(pl.Series(best.chosen)), best), is_rest=bool(found)))
        left = left.filter(pl.Series(~best.chosen))
    return found


def _best(cells: pl.DataFrame, stages: Mapping[int, tuple[int, ...]]) -> _Candidate | None:
    before, after = (cells[name].to_numpy().astype(np.float64) for name in ("before_ns", "after_ns"))
    best, most = None, 0.0
    for candidate in _candidates(cells, stages):
        explained = _explained(before[candidate.chosen], after[candidate.chosen])
        if explained > most * (_PREFERRED if best is not None else 1.0):
            best, most = candidate, explained
    return best


def _explained(before: Vector, after: Vector) -> float:
    change = after - before
    if not before.any():  # all of it appeared
        return float(np.abs(change).sum())
    known = before > 0
    ratio = _weighted_median(change[known] / before[known], before[known])
    return float(np.abs(change[known]).sum() - np.abs(change[known] - ratio * before[known]).sum())


def _weighted_median(values: Vector, weights: Vector) -> float:
    order = np.argsort(values)
    through = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(through, through[-1] / 2)])


def _candidates(cells: pl.DataFrame, stages: Mapping[int, tuple[int, ...]]) -> Iterator[_Candidate]:
    """Widest first."""
    rank, what = cells["rank"].to_numpy(), cells["what"].to_numpy()
    present = sorted(set(rank.tolist()))
    if len(present) > 1 or len(set(what.tolist())) > 1:
        yield _Candidate("computation", np.ones(cells.height, dtype=bool))
    for held in sorted({stages[each] for each in present if each in stages}):
        yield _Candidate("stage", np.isin(rank, [each for each in present if stages.get(each) == held]), held)
    if len(present) > 1:
        for each in present:
            if not _alone(each, stages):
                yield _Candidate("rank", rank == each)
    for each in sorted(set(what.tolist())):
        yield _Candidate("kernel", what == each)
    if len(present) > 1:
        for at in range(cells.height):
            yield _Candidate("kernel", np.arange(cells.height) == at)


def _alone(rank: int, stages: Mapping[int, tuple[int, ...]]) -> bool:
    """Whether the rank is its whole stage, as far as captured."""
    return rank in stages and sum(held == stages[rank] for held in stages.values()) == 1


def _described(cells: pl.DataFrame, candidate: _Candidate) -> Computed:
    kernel = shape = None
    if candidate.kind == "kernel":
        by_kernel = cells.sort("after_ns", "before_ns", descending=True)
        kernel, shape = by_kernel["kernel"][0], by_kernel["shape"][0]
    return Computed(
        kind=candidate.kind,
        ranks=tuple(cells["rank"].unique().sort().to_list()),
        stages=candidate.stages,
        kernel=kernel,
        shape=shape,
        before_ns=int(cells["before_ns"].sum()),
        after_ns=int(cells["after_ns"].sum()),
        before_number=float(cells["before_number"].sum()),
        after_number=float(cells["after_number"].sum()),
        cells=cells.select("rank", "what"),
    )


def who_text(ranks: Sequence[int], stages: Sequence[int], all_ranks: int) -> str:
    """Ranks as a reader knows them: by stage where they are one, else by number; empty for all."""
    if stages:
        named = f"stage{'s' if len(stages) > 1 else ''} {', '.join(map(str, stages))}"
        return f"{named} ({ranks_text(list(ranks))})"
    return "" if len(ranks) == all_ranks and all_ranks > 1 else ranks_text(list(ranks))
