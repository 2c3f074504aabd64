"""A document to frames of events: chunks cut where a decode proves that an event ends, damage passed one event at a time.

Cutting is safe because decoding proves it: if `[` + text + `]` is valid JSON, then text is a complete list of values,
so its end lies between two elements of the array and inside no string.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from traceanalyzer.traces.decoding.compiled.acceleration import fast_decoder
from traceanalyzer.traces.decoding.decode import Decoded, MalformedError, decode_events
from traceanalyzer.traces.decoding.repair import repair_quotes, repair_tokens
from traceanalyzer.traces.decoding.structure import ARRAY_END, NEXT_EVENT, boundaries, scalar_end, value_end
from traceanalyzer.traces.decoding.window import Window
from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.input.limits import Limits
from traceanalyzer.traces.tally import Tally

_SMALLEST = 1 << 16
_COMMA, _CLOSE, _OPEN, _QUOTE, _LIST = b',]{"['
_LARGEST_REPAIR = 1 << 20
_TOO_OFTEN = 4


class EventScanner:
    """Reads event arrays out of a `Window`; counts, repairs and reports what it meets."""

    __slots__ = ("_bytes", "_fast", "_limits", "_log", "_repairs", "_tally", "_window")

    def __init__(self, window: Window, limits: Limits, tally: Tally, log: DefectLog) -> None:
        self._window = window
        self._limits = limits
        self._tally = tally
        self._log = log
        self._bytes = limits.chunk_bytes
        self._repairs = 0
        self._fast = fast_decoder(0) if limits.compiled else None

    def array(self) -> Iterator[Decoded]:
        """Frames of the array whose `[` was just passed; stops after its `]` or where the data ends."""
        window = self._window
        separated = True
        while (first := self._at_element(separated=separated)) is not None:
            separated = False
            if first == _OPEN:
                window.fill(self._bytes)
                decoded = self._quick() or self._chunk()
                if decoded is not None:
                    separated = True  # the comma after a chunk was passed with it
                    yield decoded
                else:
                    yield from self._one()
            else:
                self._not_an_object(first)
        self._fast = None  # its working memory is needed no more; one more array takes it anew

    def _at_element(self, *, separated: bool) -> int | None:
        """Pass what separates elements. The first byte of the next one; None at the end of the array or the data."""
        window = self._window
        while True:
            first = window.skip_space()
            if first is None:
                self._log.add("json.truncated", events=0, byte_from=window.at)
                return None
            if first == _CLOSE:
                window.keep(window.position + 1)
                return None
            if first != _COMMA:
                if not separated and first == _OPEN:
                    self._log.add("json.missing_comma", byte_from=window.at)
                return first
            window.keep(window.position + 1)
            separated = True

    # chunks ----------------------------------------------------------------------------------------------------------

    def _quick(self) -> Decoded | None:
        """The events that compiled code can decode here; None if it cannot, or is not in use."""
        if self._fast is None:
            return None
        window = self._window
        stop = min(len(window.text), window.position + self._bytes)
        fast = self._fast.decode(window.text, window.position, stop)
        if fast is None:
            return None
        self._bytes = min(2 * self._bytes, self._limits.chunk_bytes)
        return self._accept(*fast)

    def _chunk(self) -> Decoded | None:
        """Decode as much as can be proved to be events; None if not even the first can."""
        window = self._window
        stop = min(len(window.text), window.position + self._bytes)
        for end, following in boundaries(window.text, window.position, stop, most=3):
            try:
                decoded = decode_events(b"[" + window.text[window.position : end] + b"]")
            except MalformedError as error:
                if error.byte is None or window.position + error.byte - 1 >= end:
                    continue  # not between events after all, or the decoder cannot show where: try further ahead
                damage = window.position + error.byte - 1
                return self._array_ends(damage - 1) if error.ended else self._before(damage, end, following)
            self._bytes = min(2 * self._bytes, self._limits.chunk_bytes)
            return self._accept(decoded, following)
        if self._bytes > _SMALLEST and stop - window.position > _SMALLEST:
            self._bytes = max(self._bytes // 8, _SMALLEST)
            return self._chunk()
        return None

    def _array_ends(self, close: int) -> Decoded | None:
        window = self._window
        content = window.text[window.position : close].rstrip()
        try:
            return self._accept(decode_events(b"[" + content + b"]"), window.position + len(content))
        except MalformedError:
            return None

    def _before(self, damage: int, end: int, following: int) -> Decoded | None:
        """The events before a damaged one; all, if repairing tokens alone has helped before and helps again."""
        window = self._window
        if self._repairs >= _TOO_OFTEN:
            decoded = self._repaired(window.text[window.position : end], quotes=False)
            if decoded is not None:
                return self._accept(decoded, following)
        self._bytes = max(self._bytes // 8, _SMALLEST)
        for cut, after in boundaries(window.text, window.position, damage, most=5):
            try:
                return self._accept(decode_events(b"[" + window.text[window.position : cut] + b"]"), after)
            except MalformedError:
                continue
        return None

    def _accept(self, decoded: Decoded, position: int) -> Decoded:
        """Pass to `position` and count what was decoded; the row of the first event has this byte."""
        if self._fast is None and self._limits.compiled:
            self._fast = fast_decoder(position - self._window.position)
        others = decoded.notes.get("event.not_an_object", 0)
        self._tally.events_seen += decoded.frame.height
        self._tally.drop_events("not_an_object", others)
        for code, count in decoded.notes.items():
            self._log.add(code, events=count, byte_from=self._window.at)
        self._window.keep(position)
        return decoded

    def _repaired(self, text: bytes, *, quotes: bool) -> Decoded | None:
        if len(text) > max(_LARGEST_REPAIR, self._bytes):
            return None
        fixed, codes = repair_tokens(repair_quotes(text) if quotes else text)
        try:
            decoded = decode_events(b"[" + fixed + b"]")
        except MalformedError:
            return None
        for code in codes | ({"json.repaired_text"} if quotes else set[str]()):
            self._log.add(code, events=max(1, decoded.frame.height) if quotes else 1, byte_from=self._window.at)
        return decoded

    # one element -----------------------------------------------------------------------------------------------------

    def _not_an_object(self, first: int) -> None:
        """Pass an element that is not an object, or bytes that are not JSON at all."""
        window = self._window
        window.fill(_SMALLEST)
        end = (
            value_end(window.text, window.position, len(window.text))
            if first == _LIST
            else scalar_end(window.text, window.position)
        )
        element = window.text[window.position : end] if end else b""
        begin = window.at
        if end and _is_value(element):
            self._tally.drop_events("not_an_object", 1)
            self._log.add("event.not_an_object", byte_from=begin, byte_to=begin + len(element))
            window.drop(end, "not_an_object")
            return
        following = self._next_event(window.position + 1)
        text = window.text[window.position : following].lower()
        window.drop(following, "garbage")
        truncated = window.over and following == len(window.text) and not text.strip(b"\0 \r\n\t")
        self._log.add("json.truncated" if truncated else "json.garbage", events=0, byte_from=begin, byte_to=window.at)

    def _one(self) -> Iterator[Decoded]:
        """The one event at the window's position: as it is, repaired, or dropped with everything up to the next."""
        window = self._window
        end = self._event_end()
        if end is not None:
            text = window.text[window.position : end]
            decoded = self._alone(text)
            if decoded is None and (decoded := self._repaired(text, quotes=False)) is not None:
                self._repairs += 1
            if decoded is not None:
                yield self._accept(decoded, end)
                return
        following = self._next_event(window.position + 1)
        region = window.text[window.position : following]
        decoded = self._repaired(region.rstrip().rstrip(b","), quotes=True)
        if decoded is not None and decoded.frame.height:
            yield self._accept(decoded, following)
            return
        self._drop_region(region, following, ended=end is not None)

    def _drop_region(self, region: bytes, following: int, *, ended: bool) -> None:
        window = self._window
        truncated = window.over and following == len(window.text) and not ended
        reason = "truncated" if truncated else "damaged"
        lost = max(1, region.count(b'"ph"'))
        self._tally.drop_events(reason, lost)
        begin = window.at
        window.drop(following, reason)
        large = len(region) >= self._limits.event_bytes
        code = "limit.event_bytes" if large else "json.truncated" if truncated else "json.damaged_events"
        self._log.add(code, events=lost, byte_from=begin, byte_to=window.at)

    @staticmethod
    def _alone(text: bytes) -> Decoded | None:
        try:
            return decode_events(b"[" + text + b"]")
        except MalformedError:
            return None

    def _event_end(self) -> int | None:
        """Where the object at the position closes, reading on as far as an event may reach."""
        window = self._window
        size = _SMALLEST
        while True:
            window.fill(size)
            stop = min(len(window.text), window.position + size)
            near = NEXT_EVENT.search(window.text, window.position + 1, stop)
            for limit in {near.end() if near else stop, stop}:
                end = value_end(window.text, window.position, limit)
                if end is not None:
                    return end
            if near or (stop == len(window.text) and window.over) or size >= self._limits.event_bytes:
                return None
            size = min(8 * size, self._limits.event_bytes)

    def _next_event(self, start: int) -> int:
        """Where an undamaged event begins at or after `start`, else the array's end, else the end of the data."""
        window = self._window
        skip = start - window.position
        size = _SMALLEST
        while True:
            window.fill(size)
            start = window.position + skip
            for match in NEXT_EVENT.finditer(window.text, start):
                end = value_end(window.text, match.end(), min(len(window.text), match.end() + size))
                decoded = self._alone(window.text[match.end() : end]) if end else None
                if decoded is not None and decoded.frame["ph"].null_count() == 0:
                    return match.end()
            if window.over or size >= self._limits.event_bytes:
                break
            size = min(8 * size, self._limits.event_bytes)
        close = ARRAY_END.search(window.text, start - 1)
        if close and window.over:
            return close.end()
        # what is dropped does not depend on how much is held at once
        return len(window.text) if window.over else min(len(window.text), window.position + self._limits.event_bytes)


def _is_value(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
