"""The first screen: the job in one line, the verdict and the tiles."""

from __future__ import annotations

from reports.page.model import Tile
from traceanalyzer import review as found
from traceanalyzer.review import Degrees, Review
from traceanalyzer.review.words import counted

_OF_THEORY = ("bubble", "all_to_all")
"""Tiles whose second line is what theory gives; the others say what the number is of."""


def subject(review: Review) -> str:
    """The job in a few words: schedule, stages, microbatches, degrees, device."""
    job = review.job
    said = [job.schedule.value if job.schedule else ""]
    for fact, noun in ((job.num_stages, "stage"), (job.num_microbatches, "microbatch")):
        if fact is not None and fact.value > 1:
            said.append(counted(fact.value, noun))
    said.append(degrees_text(job.layout.value) if job.layout else "")
    said += [fact.value for fact in (job.compute_mode, job.backend) if fact is not None]
    said.append(job.hardware.value.device if job.hardware else "")
    steps = review.step.duration_ms.num_steps
    said.append(f"{counted(steps, 'step')} measured" if steps else "")
    return " · ".join(text for text in said if text)


def degrees_text(layout: Degrees) -> str:
    """Parallel degrees above one, for example `PP 4 × DP 2`."""
    shown = {"PP": layout.pp, "DP": layout.dp, "TP": layout.tp, "CP": layout.cp, "EP": layout.ep}
    return " × ".join(f"{name} {degree}" for name, degree in shown.items() if degree and degree > 1)


def verdict(review: Review) -> tuple[str, ...]:
    """The verdict without `following`; a review without one says so."""
    said = review.headline.sentences
    return tuple(said[: len(said) - len(review.headline.next_sentences)]) or ("This review states no verdict.",)


def following(review: Review) -> tuple[str, ...]:
    """Which ranks to profile next."""
    return tuple(review.headline.next_sentences)


def tiles(review: Review) -> tuple[Tile, ...]:
    """The headline numbers that are known."""
    return tuple(_tile(tile) for tile in review.headline.tiles if tile.value_text)


def _tile(tile: found.Tile) -> Tile:
    of_theory = tile.theory_text and tile.id in _OF_THEORY
    return Tile(
        id=tile.id,
        title=tile.title,
        value=tile.value_text or "",
        theory=f"theory {tile.theory_text}" if of_theory else tile.theory_text or "",
        gap=tile.gap_text or "",
        status=tile.status,
        note=tile.note or "",
        definition=tile.definition,
    )


def withheld_causes(review: Review) -> tuple[tuple[str, str], ...]:
    """What is not known, once per cause: (figures, why and what would unlock it)."""
    return tuple(
        (each.what, f"{each.reason} ({each.unlock})" if each.unlock else each.reason)
        for each in review.headline.withheld_causes
    )
