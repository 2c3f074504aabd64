"""A moving window over a stream of bytes, every byte of which is accounted for when it is passed."""

from __future__ import annotations

from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.input.codecs import Reader
from traceanalyzer.traces.tally import Tally

_READ = 1 << 20


class Window:
    """The text in memory: `text[position:]` is not yet used; `offset` is where `text` begins in the file."""

    __slots__ = ("_left", "_log", "_stream", "_tally", "offset", "over", "position", "text")

    def __init__(self, stream: Reader, tally: Tally, log: DefectLog, *, most: int) -> None:
        self._stream = stream
        self._tally = tally
        self._log = log
        self._left = most
        self.text = b""
        self.position = 0
        self.offset = 0
        self.over = False
        """Nothing more will come."""

    @property
    def at(self) -> int:
        """Where the next byte stands in the file."""
        return self.offset + self.position

    def fill(self, size: int) -> None:
        """Have `size` unused bytes if the stream still has them."""
        missing = size - (len(self.text) - self.position)
        if missing <= 0 or self.over:
            return
        parts = [self.text[self.position :]]
        while missing > 0:
            data = self._stream.read(min(max(missing, _READ), self._left + 1))
            if not data:
                self.over = True
                break
            if len(data) > self._left:
                self._log.add("limit.file_bytes", events=0, byte_from=self.offset + self._tally.bytes_seen)
                data = data[: self._left]
                self.over = True
            self._left -= len(data)
            self._tally.bytes_seen += len(data)
            missing -= len(data)
            parts.append(data)
            if self.over:
                break
        self.offset += self.position
        self.position = 0
        self.text = b"".join(parts)

    def keep(self, position: int) -> None:
        """Pass to `position`; what was passed was used."""
        self._tally.bytes_kept += position - self.position
        self.position = position

    def drop(self, position: int, reason: str) -> None:
        """Pass to `position`; what was passed was not used."""
        if position > self.position:
            self._tally.bytes_dropped[reason] += position - self.position
            self.position = position

    def skip_space(self) -> int | None:
        """Pass white space; the next byte's value, None at the end."""
        while True:
            rest = len(self.text) - self.position
            stripped = self.text[self.position : self.position + 256].lstrip()
            if stripped:
                self.keep(self.position + min(rest, 256) - len(stripped))
                return stripped[0]
            if rest > 256:
                self.keep(len(self.text) - len(self.text[self.position :].lstrip()))
                continue
            self.keep(len(self.text))
            if self.over:
                return None
            self.fill(_READ)
