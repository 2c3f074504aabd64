"""What a format of traces is: how its files are named and recognised, and how a document of it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from traceanalyzer.traces.decoding.decode import Decoded
from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.input.codecs import Reader
from traceanalyzer.traces.input.limits import Limits
from traceanalyzer.traces.tally import Tally


class OpenDocument(Protocol):
    """One document. When `frames` was iterated to its end, all else is complete."""

    @property
    def metadata(self) -> dict[str, bytes]:
        """What a Kineto trace says around its events, by key, each with its JSON text."""
        ...

    @property
    def ranks(self) -> Mapping[str, int] | None:
        """Rank by process; None if events tell it."""
        ...

    def frames(self) -> Iterator[Decoded]:
        """The events in order. Raises `NotATraceError` before the first if there are none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFormat:
    """One format."""

    endings: tuple[str, ...]
    """How names of its files end before a codec's own ending, without the dot."""
    examples: tuple[str, ...]
    """File names, for messages."""
    written_by: str
    """What writes such a file, for messages."""
    recognises: Callable[[bytes], bool]
    """Whether data with this beginning is of the format."""
    opened: Callable[[Reader, str, Limits, Tally, DefectLog], OpenDocument]
    """Opens the stream of a file's bytes, given the file's name."""
