"""The first screen: the job in one line, the verdict and the tiles."""

from __future__ import annotations

from reports.page.model import Tile
from reports.sections.material import reason
from traceanalyzer import review as found
from traceanalyzer.review import Degrees, Review
from traceanalyzer.review.words import counted

REQUIRED_TILES = {
    "bubble": "Pipeline bubble",
    "all_to_all": "All-to-all imbalance",
    "mfu": "MFU",
}
"""Always on the first screen, in this order; withheld with the reason if they do not apply."""
_OF_THEORY = ("bubble", "all_to_all")
"""Tiles whose second line is what theory gives; the others say what the number is of."""


def subject(review: Review) -> str:
    """The job in a few words: schedule, stages, microbatches, degrees, device."""
    job = review.job
    said = [job.schedule.value if job.schedule else ""]
    for fact, noun in ((job.num_stages, "stage"), (job.num_microbatches, "microbatch")):
        if fact is not None and fact.value > 1:
            said.append(counted(fact.value, noun))
    said.append(_degrees(job.layout.value) if job.layout else "")
    said += [fact.value for fact in (job.compute_mode, job.backend) if fact is not None]
    said.append(job.hardware.value.device if job.hardware else "")
    steps = review.step.duration_ms.num_steps
    said.append(f"{counted(steps, 'step')} measured" if steps else "")
    return " · ".join(text for text in said if text)


def _degrees(layout: Degrees) -> str:
    shown = {"PP": layout.pp, "DP": layout.dp, "TP": layout.tp, "EP": layout.ep}
    return " × ".join(f"{name} {degree}" for name, degree in shown.items() if degree and degree > 1)


def verdict(review: Review) -> tuple[str, ...]:
    """The verdict; a review without one says so."""
    return tuple(review.headline.sentences) or ("This review states no verdict.",)


def tiles(review: Review) -> tuple[Tile, ...]:
    """Headline tiles, the required ones first; a missing one is withheld with its reason."""
    given = {tile.id: _tile(tile, review) for tile in review.headline.tiles}
    required = [given.pop(name, None) or _withheld(name, title, review) for name, title in REQUIRED_TILES.items()]
    return (*required, *given.values())


def _tile(tile: found.Tile, review: Review) -> Tile:
    if tile.status == "withheld" or not tile.value_text:
        return Tile(
            id=tile.id,
            title=tile.title,
            value="withheld",
            theory=tile.theory_text or "",
            status="withheld",
            note=tile.note or reason(review.quality, tile.id),
            definition=tile.definition,
        )
    of_theory = tile.theory_text and tile.id in _OF_THEORY
    return Tile(
        id=tile.id,
        title=tile.title,
        value=tile.value_text,
        theory=f"theory {tile.theory_text}" if of_theory else tile.theory_text or "",
        gap=tile.gap_text or "",
        status=tile.status,
        note=tile.note or "",
        definition=tile.definition,
    )


def _withheld(name: str, title: str, review: Review) -> Tile:
    return Tile(id=name, title=title, value="withheld", status="withheld", note=reason(review.quality, name))
