"""What reading may cost at most: every limit has a name, a default and a place in the message that it causes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one reading. All sizes are bytes."""

    chunk_bytes: int = 4 << 20
    """Decompressed text that is decoded at a time; peak memory is about twelve times this."""
    metadata_bytes: int = 64 << 20
    """Text outside the event array that is kept."""
    event_bytes: int = 16 << 20
    """Longest single event."""
    file_bytes: int = 64 << 30
    """Decompressed size of one file."""
    compiled: bool = True
    """Whether compiled decoding may be loaded, which takes about 140 MB."""

    @classmethod
    def for_memory(cls, num_bytes: int) -> Limits:
        """Limits under which one process that ingests stays within `num_bytes` of memory (at least 300 MB)."""
        spare = max(num_bytes - _BASELINE, 24 << 20)
        chunk = min(16 << 20, spare // _PER_CHUNK_BYTE)
        return cls(
            chunk_bytes=chunk,
            event_bytes=min(16 << 20, spare // 4),
            metadata_bytes=min(64 << 20, spare // 4),
            compiled=num_bytes >= _COMPILED,
        )


_BASELINE = 250 << 20  # the interpreter, Polars, and the part that is being written
_PER_CHUNK_BYTE = 24
_COMPILED = 450 << 20
DEFAULT_LIMITS = Limits()
KEEPING_LIMITS = Limits(chunk_bytes=16 << 20)
"""Of readers that keep all events in memory anyway: a quarter of the pieces, and of the table operations that each costs."""
