"""The counting law: everything that is seen is kept or dropped for a reason, events and bytes alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """`seen = kept + sum(dropped)`, for events and for bytes of decompressed text.

    A `B` and its `E` are two events seen and kept, and one row.
    """

    events_seen: int = 0
    events_kept: int = 0
    events_dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    bytes_seen: int = 0
    bytes_kept: int = 0
    bytes_dropped: Mapping[str, int] = field(default_factory=dict[str, int])

    def check(self) -> None:
        """Raise `AssertionError` where the law does not hold: then the reader itself is wrong."""
        events = self.events_kept + sum(self.events_dropped.values())
        data = self.bytes_kept + sum(self.bytes_dropped.values())
        if events != self.events_seen or data != self.bytes_seen:
            raise AssertionError(
                f"counting law: {events} of {self.events_seen} events, {data} of {self.bytes_seen} bytes"
            )


def total(counts: Iterable[Counts]) -> Counts:
    """Counts of several readings together."""
    items = list(counts)
    events, data = Counter[str](), Counter[str]()
    for item in items:
        events.update(item.events_dropped)
        data.update(item.bytes_dropped)
    return Counts(
        events_seen=sum(c.events_seen for c in items),
        events_kept=sum(c.events_kept for c in items),
        events_dropped=dict(events),
        bytes_seen=sum(c.bytes_seen for c in items),
        bytes_kept=sum(c.bytes_kept for c in items),
        bytes_dropped=dict(data),
    )


class Tally:
    """Counts while a file is read; each side is counted where it happens."""

    __slots__ = ("bytes_dropped", "bytes_kept", "bytes_seen", "events_dropped", "events_kept", "events_seen")

    def __init__(self) -> None:
        self.events_seen = 0
        self.events_kept = 0
        self.events_dropped: Counter[str] = Counter()
        self.bytes_seen = 0
        self.bytes_kept = 0
        self.bytes_dropped: Counter[str] = Counter()

    def drop_events(self, reason: str, count: int, *, seen: bool = True) -> None:
        """`count` events are left out; `seen` counts them as seen too."""
        if count:
            self.events_dropped[reason] += count
            self.events_seen += count if seen else 0

    def counts(self) -> Counts:
        """What was counted, with the law checked."""
        result = Counts(
            events_seen=self.events_seen,
            events_kept=self.events_kept,
            events_dropped=dict(self.events_dropped),
            bytes_seen=self.bytes_seen,
            bytes_kept=self.bytes_kept,
            bytes_dropped=dict(self.bytes_dropped),
        )
        result.check()
        return result
