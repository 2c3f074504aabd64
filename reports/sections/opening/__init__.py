"""The first screen beside verdict and tiles: who the run is, what to do first, and where the time went."""

from __future__ import annotations

from reports.page.model import Opening
from reports.sections.coverage.answers import answers
from reports.sections.material import Material
from reports.sections.opening.identity import identity
from reports.sections.opening.remedies import remedies, remedies_note
from reports.sections.opening.waterfall import waterfall


def opening(material: Material) -> Opening:
    """The first screen of a review."""
    chart, bars = waterfall(material)
    priced = remedies(material)
    return Opening(
        identity=identity(material),
        remedies=priced,
        remedies_note=remedies_note(material),
        answers=None if priced else answers(material),
        waterfall=chart,
        bars=bars,
    )
