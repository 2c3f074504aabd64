"""The first screen: the job in one line, the verdict and the tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from reports.page.model import Tile
from reports.sections.material import reason
from traceanalyzer.review import result
from traceanalyzer.review.result import Review
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

    def known(name: str) -> object:
        return review.job[name].value if name in review.job else None

    said = [str(known("schedule") or "")]
    for name, noun in (("num_stages", "stage"), ("num_microbatches", "microbatch")):
        count = known(name)
        if isinstance(count, int) and count > 1:
            said.append(f"{count:,} {noun}{'es' if noun.endswith('h') else 's'}")
    said.append(_degrees(known("layout")))
    hardware = known("hardware")
    device = cast("Mapping[str, object]", hardware).get("device") if isinstance(hardware, Mapping) else hardware
    said += [str(fact or "") for fact in (known("compute_mode"), known("backend"), device)]
    steps = review.step.duration_ms.num_steps
    said.append(f"{counted(steps, 'step')} measured" if steps else "")
    return " · ".join(text for text in said if text)


def _degrees(layout: object) -> str:
    if not isinstance(layout, Mapping):
        return ""
    degrees = cast("Mapping[str, object]", layout)
    shown = {name: degrees.get(name) for name in ("pp", "dp", "tp", "ep")}
    return " × ".join(
        f"{name.upper()} {degree}" for name, degree in shown.items() if isinstance(degree, int) and degree > 1
    )


def verdict(review: Review) -> tuple[str, ...]:
    """The verdict; a review without one says so."""
    return tuple(review.headline.sentences) or ("This review states no verdict.",)


def tiles(review: Review) -> tuple[Tile, ...]:
    """Headline tiles, the required ones first; a missing one is withheld with its reason."""
    given = {tile.id: _tile(tile, review) for tile in review.headline.tiles}
    required = [given.pop(name, None) or _withheld(name, title, review) for name, title in REQUIRED_TILES.items()]
    return (*required, *given.values())


def _tile(tile: result.Tile, review: Review) -> Tile:
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
