"""What reading may cost at most: every limit has a name, a default and a place in the message that it causes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one reading. All sizes are bytes."""

    chunk_bytes: int = 8 << 20
    """Decompressed text that is decoded at a time; peak memory is about twelve times this."""
    metadata_bytes: int = 64 << 20
    """Text outside the event array that is kept."""
    event_bytes: int = 64 << 20
    """Longest single event."""
    file_bytes: int = 64 << 30
    """Decompressed size of one file."""


DEFAULT_LIMITS = Limits()
