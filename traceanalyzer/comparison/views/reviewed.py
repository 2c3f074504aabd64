"""What changed by what each review says of itself: used where tables of a side are missing and nothing can be replayed.

Each review prices its own faults within its own run, so these are differences of two estimates; what they leave of the
step's change is left. They are told only where they explain most of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from traceanalyzer.comparison.record import ChangeKind
from traceanalyzer.comparison.replay.pieces import Sized
from traceanalyzer.comparison.side import Side
from traceanalyzer.comparison.titles import Told
from traceanalyzer.review import Review
from traceanalyzer.review.words import ranks_text, spaced

MIN_EXPLAINED = 0.5
"""Of the step's change."""
Key = tuple[str, int | None]


_PIPELINE: dict[str, tuple[ChangeKind, str]] = {
    "stage": ("stage", "{who} computes {more} beyond the other stages"),
    "straggler": ("rank", "{who} computes {more} beyond the other ranks of its stage"),
    "transfer": ("link", "messages that {who} sends take {more}"),
    "chunk_comm": ("communication", "communication inside the chunks of {who} takes {more}"),
    "overlap_dp": ("communication", "exchanges between replicas slow computation on {who} {more}"),
    "host": ("host", "the host of {who} delays the pipeline {more}"),
}
_TOGETHER = "jitter, slack and what is unexplained"


def reviewed_changes(base: Side, new: Side, change_ns: int) -> Sized | None:
    """Pieces by two reviews, largest first; None where they do not explain the change."""
    if (
        base.review.bubble
        and new.review.bubble
        and base.review.bubble.attribution_ms
        and new.review.bubble.attribution_ms
    ):
        pieces = list(_attributed(base.review, new.review))
    else:
        pieces = list(_priced(base.review, new.review))
    ordered = sorted((each for each in pieces if each[1]), key=lambda each: -abs(each[1]))
    total = sum(ns for _, ns in ordered)
    named = max((abs(ns) for told, ns in ordered if told.kind != "unexplained"), default=0)
    if abs(change_ns - total) > MIN_EXPLAINED * abs(change_ns) or named < MIN_EXPLAINED * abs(change_ns) / 2:
        return None
    return Sized(tuple(ordered), change_ns - total)


def _attributed(base: Review, new: Review) -> Iterator[tuple[Told, int]]:
    """Of pipelines: the ideal of both runs and every cause and culprit beyond it."""
    before, after = _culprits(base), _culprits(new)
    loose = 0
    for cause, rank in dict.fromkeys((*after, *before)):
        ns = after.get((cause, rank), 0) - before.get((cause, rank), 0)
        words = _PIPELINE.get(cause)
        if words is None or rank is None:
            loose += ns
            continue
        kind, text = words
        stages = _stages(new, rank) or _stages(base, rank)
        who = (
            f"stage {stages[0]} ({ranks_text([rank])})" if kind == "stage" and len(stages) == 1 else ranks_text([rank])
        )
        title = text.format(who=who, more="longer" if ns > 0 else "less time")
        yield Told(kind=kind, title=title, ranks=(rank,), stages=tuple(stages)), ns
    yield Told(kind="unexplained", title=_TOGETHER), loose
    ideals = [each.bubble.attribution_ms if each.bubble else None for each in (base, new)]
    if ideals[0] is None or ideals[1] is None:
        return
    work = [round((each.ideal - each.schedule) * 1e6) for each in ideals if each]
    waits = [round(each.schedule * 1e6) for each in ideals if each]
    yield Told(kind="computation", title=f"the ranks' own computation takes {_more(work)}"), work[1] - work[0]
    yield Told(kind="configuration", title=f"the schedule itself leaves {_more(waits)} idle"), waits[1] - waits[0]


def _more(values: list[int]) -> str:
    return "more" if values[1] > values[0] else "less"


def _culprits(review: Review) -> dict[Key, int]:
    found = review.bubble.culprits if review.bubble else []
    return {(each.cause, each.culprit): round(each.ms * 1e6) for each in found}


def _stages(review: Review, rank: int) -> list[int]:
    found = review.bubble.culprits if review.bubble else []
    return next((each.stages for each in found if each.culprit == rank), list[int]())


def _priced(base: Review, new: Review) -> Iterator[tuple[Told, int]]:
    """Of other jobs: faults of ranks that were priced, and what the uneven load costs."""
    before, after = _faults(base), _faults(new)
    for cause, rank in dict.fromkeys((*after, *before)):
        ns = after.get((cause, rank), 0) - before.get((cause, rank), 0)
        yield _fault_told(cause, rank, ns), ns
    costs = [each.all_to_all.imbalance_cost_ms if each.all_to_all else None for each in (base, new)]
    if costs[0] is not None and costs[1] is not None:
        ns = round((costs[1] - costs[0]) * 1e6)
        loads = [each.all_to_all.rank_load_max_over_mean if each.all_to_all else None for each in (base, new)]
        word = "less even" if ns > 0 else "more even"
        yield Told(kind="expert_load", title=f"the expert load is {word}", before=loads[0], after=loads[1], unit="× the mean load"), ns  # fmt: skip


def _fault_told(cause: str, rank: int | None, ns: int) -> Told:
    word = "more" if ns > 0 else "less"
    ranks = () if rank is None else (rank,)
    if cause == "computation":
        return Told(kind="rank", title=f"rank {rank} computes {word} beyond its peers", ranks=ranks)
    kind: ChangeKind = "host" if cause == "host" else "late_starts"
    return Told(kind=kind, title=f"rank {rank} is late {word} beyond its peers ({spaced(cause)})", ranks=ranks)


def _faults(review: Review) -> dict[Key, int]:
    return {(each.cause, each.rank): round(each.ms * 1e6) for each in review.culprits if each.ms is not None}
