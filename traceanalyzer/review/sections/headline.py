"""The first screen: the verdict, the headline numbers beside their theory, and what was checked."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import RemedyClass, TileId, TileStatus


class Tile(Part, frozen=True, kw_only=True):
    """One headline number beside its theory."""

    id: TileId
    title: str
    value_text: Annotated[str | None, Meta(description="Measured value with unit; null if withheld.")]
    theory_text: Annotated[str | None, Meta(description="What theory says, with the name of the theory.")]
    gap_text: Annotated[str | None, Meta(description="Measured against theory in words.")]
    status: TileStatus
    note: Annotated[str | None, Meta(description="Reason if withheld, else what to know when reading it.")]
    definition: str


class Headline(Part, frozen=True, kw_only=True):
    """The first screen."""

    sentences: list[str]
    tiles: list[Tile]


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
    worth_ms: float | None
    worth_mfu_points: float | None
    evidence: str
    action: str | None
    rank: int | None = None
    start_ns: Annotated[
        int | None, Meta(description="Where to look: the moment of the rank that shows it best, on the tables' clock.")
    ] = None
    end_ns: int | None = None
