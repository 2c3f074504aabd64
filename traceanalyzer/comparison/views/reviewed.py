"""What changed by what each review says of itself: used where tables of a side are missing and nothing can be replayed.

Each review prices its own faults within its own run, so these are differences of two estimates. A fault is priced by what
its repair is worth (a replay of that run), where its review says so, else by its blame. What they leave of the step's change is
left. They are reported only where they explain most of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from traceanalyzer.comparison.record import ChangeKind
from traceanalyzer.comparison.replay.pieces import Sized
from traceanalyzer.comparison.side import Side
from traceanalyzer.comparison.titles import Description
from traceanalyzer.review import Review
from traceanalyzer.review.words import ranks_text, spaced

MIN_EXPLAINED = 0.5
"""Of the step's change."""
Key = tuple[str, int | None]


_PIPELINE: dict[str, tuple[ChangeKind, str]] = {
    "stage": ("stage", "{who} computes {more} beyond the other stages"),
    "straggler": ("rank", "{who} computes {more} beyond the other ranks of its stage"),
    "chunk_comm": ("communication", "communication inside the chunks of {who} takes {more}"),
    "overlap_dp": ("communication", "exchanges between replicas slow computation on {who} {more}"),
    "host": ("host", "the host of {who} delays the pipeline {more}"),
}
_MOST = 0.4
"""Of all changes of transfer: a rank with so much of them is named."""
_HIDDEN = 0.5
"""Of the largest piece: transfers that change the other way by less are hidden or shown by it, and have not changed."""
_ALONE = 3.0
"""Times the next largest change of a rank's own actions."""
_LEAST = 0.01
"""Of a rank's own actions: a smaller change is not one."""
_MEDIAN_MOVED = 0.2
"""Of a rank's own piece: where the ideal changes by more, the median that all are held against has moved."""
_COMPUTING = ("stage", "straggler")
_TOGETHER = "jitter, slack, transfers that others hide, and what is unexplained"


def reviewed_changes(base: Side, new: Side, change_ns: int, program: str = "") -> Sized | None:
    """Pieces by two reviews, largest first; None if they do not explain the change.

    `program` says in words how the jobs' programs differ; empty: they run the same.
    """
    if (
        base.review.bubble
        and new.review.bubble
        and base.review.bubble.attribution_ms
        and new.review.bubble.attribution_ms
    ):
        pieces = list(_attributed(base.review, new.review, program))
    else:
        pieces = list(_priced(base.review, new.review))
    ordered = sorted((each for each in pieces if each[1]), key=lambda each: -abs(each[1]))
    total = sum(ns for _, ns in ordered)
    named = max((abs(ns) for described, ns in ordered if described.kind != "unexplained"), default=0)
    if abs(change_ns - total) > MIN_EXPLAINED * abs(change_ns) or named < MIN_EXPLAINED * abs(change_ns) / 2:
        return None
    return Sized(tuple(ordered), change_ns - total)


def _attributed(base: Review, new: Review, program: str) -> Iterator[tuple[Description, int]]:
    """Of pipelines: the ideal of both runs and every cause and culprit beyond it."""
    before, after = _culprits(base), _culprits(new)
    keys = list(dict.fromkeys((*after, *before)))
    blamed = {key: after.get(key, 0) - before.get(key, 0) for key in keys}
    costs = {
        (cause, rank): _cost_ns(base, new, (cause, rank), _held(base, new, rank))
        for cause, rank in keys
        if cause in _PIPELINE and rank is not None
    }
    loose = sum(ns for key, ns in blamed.items() if key not in costs and key[0] != "transfer")
    ideal_ns, transfer = _ideal_ns(base, new), _transfers(base, new, blamed)
    alone = None if program else _computes_otherwise(base, new)
    own = max((key for key in costs if key[1] == alone and key[0] in _COMPUTING), key=lambda key: abs(costs[key]), default=None)  # fmt: skip
    if own is not None:
        computing = [key for key in costs if key[0] in _COMPUTING]
        costs[own], hidden_ns = _of_one_rank(own, {key: (costs.pop(key), blamed[key]) for key in computing}, ideal_ns, transfer[1])  # fmt: skip
        transfer, ideal_ns = (transfer[0], transfer[1] - hidden_ns), 0
    largest = max((*costs.values(), ideal_ns), key=abs)
    if transfer[1] * largest < 0 and abs(transfer[1]) < _HIDDEN * abs(largest):
        transfer, loose = (transfer[0], 0), loose + transfer[1]
    yield from ((_pipeline_description(base, new, key, ns), ns) for key, ns in costs.items())
    yield transfer
    yield Description(kind="unexplained", title=_TOGETHER), loose
    if program:
        yield Description(kind="configuration", title=f"the job runs another program ({program})"), ideal_ns
    else:
        title = f"the ranks' own computation takes {'more' if ideal_ns > 0 else 'less'}"
        yield Description(kind="computation", title=title), ideal_ns


def _ideal_ns(base: Review, new: Review) -> int:
    """What the order of actions at their medians takes more."""
    ideals = [each.bubble.attribution_ms.ideal if each.bubble and each.bubble.attribution_ms else 0.0 for each in (base, new)]  # fmt: skip
    return round((ideals[1] - ideals[0]) * 1e6)


def _computes_otherwise(base: Review, new: Review) -> int | None:
    """The only rank whose own actions take another time; None if several ranks' do."""
    times = [{rank: each.chunk_ms for each in side.bubble.stages for rank in each.ranks} for side in (base, new) if side.bubble]  # fmt: skip
    changes = {rank: abs(times[1][rank] - ms) for rank, ms in times[0].items() if rank in times[1]}
    ordered = sorted(changes, key=lambda rank: -changes[rank])
    if len(ordered) < 2 or changes[ordered[0]] < max(_ALONE * changes[ordered[1]], _LEAST * times[0][ordered[0]]):
        return None
    return ordered[0]


def _of_one_rank(own: Key, computing: dict[Key, tuple[int, int]], ideal_ns: int, transfer_ns: int) -> tuple[int, int]:
    """What one rank's computation adds, and what of the change of transfers is part of it.

    Of more than two stages the median is the others', and the repair of the rank has its price. Of two it lies between
    them: then what both are blamed for and the ideal together tell it, less the transfers that the slow stage hides.
    `computing` has costs and blames.
    """
    if abs(ideal_ns) < _MEDIAN_MOVED * abs(computing[own][0]):
        return ideal_ns + sum(cost for cost, _ in computing.values()), 0
    total = ideal_ns + sum(blame for _, blame in computing.values())
    hidden = transfer_ns if transfer_ns * total < 0 and abs(transfer_ns) < _HIDDEN * abs(total) else 0
    return total + hidden, hidden


def _pipeline_description(base: Review, new: Review, key: Key, ns: int) -> Description:
    """One rank and one cause in words."""
    cause, rank = key
    kind, text = _PIPELINE[cause]
    ranks = () if rank is None else (rank,)
    stages = _held(base, new, rank)
    who = f"stage {stages[0]} ({ranks_text(ranks)})" if kind == "stage" and len(stages) == 1 else ranks_text(ranks)
    title = text.format(who=who, more="longer" if ns > 0 else "less time")
    return Description(kind=kind, title=title, ranks=ranks, stages=tuple(stages))


def _cost_ns(base: Review, new: Review, key: Key, stages: list[int]) -> int:
    """By the worth of the repair where the side that blames more knows it, else by blame."""
    blames = [_culprits(each).get(key, 0) for each in (base, new)]
    worths = [_worth_ns(each, *key, stages) for each in (base, new)]
    if worths[blames.index(max(blames))] is None:
        return blames[1] - blames[0]
    values = [blame if worth is None else worth for blame, worth in zip(blames, worths, strict=True)]
    return values[1] - values[0]


def _worth_ns(review: Review, cause: str, rank: int | None, stages: list[int]) -> int | None:
    """What a repair would save; None if the review does not say it. `rank` None: of all ranks."""
    for each in review.bubble.worth if review.bubble else ():
        is_stage = cause == "stage" and each.stage is not None and [each.stage] == stages
        if each.cause == cause and (is_stage or (each.rank == rank and cause != "stage")):
            return round(each.ms * 1e6)
    return None


def _transfers(base: Review, new: Review, blamed: dict[Key, int]) -> tuple[Description, int]:
    """Messages between stages: one piece, because a slow link delays what both of its ends send."""
    by_rank = {rank: ns for (cause, rank), ns in blamed.items() if cause == "transfer"}
    worths = [_worth_ns(each, "transfer", None, []) for each in (base, new)]
    ns = sum(by_rank.values())
    if worths[0] is not None and worths[1] is not None:
        ns = worths[1] - worths[0]
    most = max((rank for rank in by_rank if rank is not None), key=lambda rank: abs(by_rank[rank]), default=None)
    title = f"messages between stages delay the step {'more' if ns > 0 else 'less'}"
    total = sum(abs(each) for each in by_rank.values())
    if most is None or len(by_rank) == 1 or abs(by_rank[most]) < _MOST * total or by_rank[most] * ns <= 0:
        return Description(kind="communication", title=title), ns
    return Description(kind="link", title=f"{title}, most of all those that rank {most} sends", ranks=(most,)), ns


def _held(base: Review, new: Review, rank: int | None) -> list[int]:
    return [] if rank is None else _stages(new, rank) or _stages(base, rank)


def _culprits(review: Review) -> dict[Key, int]:
    found = review.bubble.culprits if review.bubble else []
    return {(each.cause, each.culprit): round(each.ms * 1e6) for each in found}


def _stages(review: Review, rank: int) -> list[int]:
    found = review.bubble.culprits if review.bubble else []
    return next((each.stages for each in found if each.culprit == rank), list[int]())


def _priced(base: Review, new: Review) -> Iterator[tuple[Description, int]]:
    """Of other jobs: faults of ranks that were priced, and what the uneven load costs."""
    before, after = _faults(base), _faults(new)
    for cause, rank in dict.fromkeys((*after, *before)):
        ns = after.get((cause, rank), 0) - before.get((cause, rank), 0)
        yield _fault_description(cause, rank, ns), ns
    costs = [_imbalance_ns(each) for each in (base, new)]
    if costs[0] is not None and costs[1] is not None:
        ns = costs[1] - costs[0]
        loads = [each.all_to_all.rank_load_max_over_mean if each.all_to_all else None for each in (base, new)]
        word = "less even" if ns > 0 else "more even"
        yield Description(kind="expert_load", title=f"the expert load is {word}", before=loads[0], after=loads[1], unit="× the mean load"), ns  # fmt: skip


def _imbalance_ns(review: Review) -> int | None:
    """What balanced experts would save by replay, exchanges included; else what the fullest ranks compute beyond the mean."""
    found = review.all_to_all
    if found is None:
        return None
    saved = next((each.ms for each in found.worth if each.remedy == "balanced_experts"), found.imbalance_cost_ms)
    return None if saved is None else round(saved * 1e6)


def _fault_description(cause: str, rank: int | None, ns: int) -> Description:
    word = "more" if ns > 0 else "less"
    ranks = () if rank is None else (rank,)
    if cause == "computation":
        return Description(kind="rank", title=f"rank {rank} computes {word} beyond its peers", ranks=ranks)
    kind: ChangeKind = "host" if cause == "host" else "late_starts"
    return Description(kind=kind, title=f"rank {rank} is late {word} beyond its peers ({spaced(cause)})", ranks=ranks)


def _faults(review: Review) -> dict[Key, int]:
    return {(each.cause, each.rank): round(each.ms * 1e6) for each in review.culprits if each.ms is not None}
