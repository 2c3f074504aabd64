"""What a lone rank answers of the questions one has about its job, and what would answer the rest."""

from __future__ import annotations

from collections.abc import Iterator

from reports.page.grids import grid
from reports.page.model import Grid
from reports.sections.material import Material
from traceanalyzer.review import Accounting, RankFigures, RooflineShape, Sample, WithheldCause
from traceanalyzer.review.words import milliseconds, percent, ranks_text, spaced, times

_SETTLED = "settled"
_MOST_LOSSES = 3
_SIDES = {
    "this": "it sets the pace itself, or no stage is slower",
    "upstream": "a stage before it is slower",
    "downstream": "a stage behind it is slower",
}

Answer = tuple[str, str, str]
"""Question, answer from the rank alone, and what would settle it."""


def answers(material: Material) -> Grid | None:
    """The questions in the order in which one asks them; None if more than one rank was captured."""
    sample = material.review.sample
    if sample is None or sample.coverage != "one_rank":
        return None
    rank = sample.ranks[0]
    return grid(
        "answers",
        "What this rank answers, and what it leaves open",
        [*_own(material, rank), *_of_others(rank), *_withheld(material, sample)],
        [
            ("question", lambda a: a[0], None),
            (f"rank {rank.rank} alone", lambda a: a[1], None),
            ("what would settle it", lambda a: a[2], None),
        ],
        limit=16,
        few=16,
    )


def next_text(sample: Sample) -> str:
    """Which ranks to profile next, and why; empty if nothing is known of it."""
    return _listed(sample.next_ranks, sample.next_reason)


def recommended_text(sample: Sample) -> str:
    """A sample of ranks that answers everything; empty if it is not known."""
    return _listed(sample.recommended_ranks, sample.recommended_reason)


def _listed(ranks: list[int], why: str | None) -> str:
    return ": ".join(text for text in (f"profile {ranks_text(ranks, 16)}" if ranks else "", why or "") if text)


def _own(material: Material, rank: RankFigures) -> Iterator[Answer]:
    """What needs no other rank."""
    review = material.review
    if review.accounting.owners:
        yield ("Where its step goes", _losses(review.accounting), _SETTLED)
    if any(shape.lost_ms for shape in review.roofline):
        yield ("How far its kernels are from their roof", _roof(review.roofline), _SETTLED)
    if rank.pace_ms is not None and rank.own_ms is not None:
        pace = f"{milliseconds(rank.pace_ms)} per microbatch against {milliseconds(rank.own_ms)} of its own"
        yield ("What sets the pipeline's pace", f"{pace}: {_side(rank)}", _SETTLED if rank.side else _second(rank))


def _losses(accounting: Accounting) -> str:
    lost = sorted((row for row in accounting.owners if row.owner != "compute" and row.ms > 0), key=lambda row: -row.ms)
    computed = next((row.share for row in accounting.owners if row.owner == "compute"), 0.0)
    named = [f"{spaced(row.owner)} {milliseconds(row.ms)} ({percent(row.share)})" for row in lost[:_MOST_LOSSES]]
    return ", ".join([f"computing {percent(computed)}", *named])


def _roof(shapes: list[RooflineShape]) -> str:
    most = max(shapes, key=lambda shape: shape.lost_ms or 0.0)
    lost = sum(shape.lost_ms or 0.0 for shape in shapes)
    return (
        f"its largest shapes lose {milliseconds(lost)} per step, most {milliseconds(most.lost_ms or 0.0)} ({most.name})"
    )


def _side(rank: RankFigures) -> str:
    if rank.side is None:
        return (
            f"on which side the slowest stage lies is not known{f' ({rank.side_reason})' if rank.side_reason else ''}"
        )
    cost = f", which costs it {milliseconds(rank.others_cost_ms)} per step" if rank.others_cost_ms else ""
    return f"{_SIDES[rank.side]}{cost if rank.side != 'this' else ''}"


def _of_others(rank: RankFigures) -> Iterator[Answer]:
    """What other ranks have a share in."""
    duration = sum(wait.duration_ms for wait in rank.waits)
    if duration:
        low, high = (sum(getattr(wait, end) for wait in rank.waits) for end in ("low_ms", "high_ms"))
        between = f"{milliseconds(low)} to {milliseconds(high)} of" if high < duration or low > 0 else "any part of"
        yield (
            "How long it waits for others",
            f"{between} its {milliseconds(duration)} per step inside communication",
            _second(rank),
        )
    if rank.routing is not None:
        sent = f"{times(rank.routing.sent_max_over_mean)} ({times(rank.routing.low)} to {times(rank.routing.high)})"
        yield (
            "How even the experts are",
            f"of its own tokens rank {rank.routing.hottest} gets {sent} the mean part",
            "the other ranks of its expert group",
        )


def _second(rank: RankFigures) -> str:
    return f"another rank of the groups of rank {rank.rank}"


def _withheld(material: Material, sample: Sample) -> Iterator[Answer]:
    """What cannot be said, each with what it would take."""
    review = material.review
    if review.mfu.mfu is not None:
        yield ("MFU", percent(review.mfu.mfu), _SETTLED)
    for cause in review.headline.withheld_causes:
        yield (cause.what, f"not known: {cause.reason}", _unlock(cause, sample))
    wide = recommended_text(sample)
    if wide and sample.recommended_ranks != sample.next_ranks:
        yield ("Everything at once", "one rank is too few", wide)


def _unlock(cause: WithheldCause, sample: Sample) -> str:
    """Which ranks to profile where it is other ranks that are missing."""
    return next_text(sample) if "stragglers" in cause.metrics and next_text(sample) else cause.unlock or ""
