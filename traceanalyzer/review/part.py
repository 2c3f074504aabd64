"""What every part of the result is."""

from __future__ import annotations

from msgspec import Struct


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the result: immutable, and refused by the decoder where it holds a field that is not known here."""
