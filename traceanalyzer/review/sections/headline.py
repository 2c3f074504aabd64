"""The first screen: the verdict, the headline numbers beside their theory, and what was checked."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import FaultBasis, RemedyClass, TileId, TileStatus


class Tile(Part, frozen=True, kw_only=True):
    """One headline number beside its theory."""

    id: TileId
    title: str
    value_text: Annotated[str | None, Meta(description="Measured value with unit. What is not known has no tile.")]
    theory_text: Annotated[str | None, Meta(description="What theory says, with the name of the theory.")]
    gap_text: Annotated[str | None, Meta(description="Measured against theory in words.")]
    status: TileStatus
    note: Annotated[str | None, Meta(description="What to know when reading it.")]
    definition: str


class WithheldCause(Part, frozen=True, kw_only=True):
    """What one cause keeps from being reported. Every metric it concerns stands in `quality.withheld`."""

    what: Annotated[str, Meta(description="The figures, in words.")]
    reason: str
    unlock: Annotated[str | None, Meta(description="What would make them known; null if nothing does.")] = None
    metrics: Annotated[list[str], Meta(description="As `quality.withheld` names them.")]


class Headline(Part, frozen=True, kw_only=True):
    """The first screen."""

    sentences: Annotated[
        list[str],
        Meta(description="The largest fault or that none was found, the largest change, then what else is known."),
    ]
    next_sentences: Annotated[
        list[str],
        Meta(description="Those of `sentences` that say which ranks to profile next: of a sample, the last ones."),
    ] = []
    tiles: Annotated[list[Tile], Meta(description="The numbers that are known.")]
    withheld_causes: Annotated[list[WithheldCause], Meta(description="What is withheld, one entry per cause.")] = []


class Finding(Part, frozen=True, kw_only=True):
    """One thing that was checked."""

    id: str
    title: str
    passed: bool
    remedy: Annotated[
        RemedyClass | None,
        Meta(description="Class of the remedy; null: passed, or nothing to repair in the job itself."),
    ] = None
    culprit: Annotated[str | None, Meta(description="Who or what, in words; null if nobody is named.")] = None
    statement: Annotated[
        str | None, Meta(description="What is the matter, as a clause that names the culprit; null if passed.")
    ] = None
    worth_ms: float | None
    at_most_ms: Annotated[
        float | None, Meta(description="What others wait for it per step, if only this bound of its worth is known.")
    ] = None
    at_most_basis: Annotated[
        FaultBasis | None,
        Meta(
            description="`waits`: others wait that long for it; `excess`: it needs that much beyond its peers; else `worth_ms` "
            "is the most that its repair saves. null: no bound."
        ),
    ] = None
    share_of_step: Annotated[float | None, Meta(description="`worth_ms`, or else `at_most_ms`, ÷ the median step.")] = (
        None
    )
    worth_mfu_points: float | None
    evidence: str
    action: str | None
    rank: int | None = None
    start_ns: Annotated[
        int | None, Meta(description="Where to look: the moment of the rank that shows it best, on the tables' clock.")
    ] = None
    end_ns: int | None = None
