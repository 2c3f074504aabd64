"""What every part of the result is."""

from __future__ import annotations

from msgspec import Meta, Struct


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the result: immutable, and refused by the decoder where it holds a field that is not known here."""


BASIS = "basis"


def measured(basis: str, description: str | None = None) -> Meta:
    """Marks a section of the result that measures: every number in it gets its bounds, and `basis` says what it rests on."""
    return Meta(description=description, extra={BASIS: basis})
