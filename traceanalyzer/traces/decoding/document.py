"""One document: what stands before the events, the events, what stands after them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from traceanalyzer.traces.decoding.decode import Decoded
from traceanalyzer.traces.decoding.repair import repair_quotes, repair_tokens
from traceanalyzer.traces.decoding.scan import EventScanner
from traceanalyzer.traces.decoding.trace_format import OpenDocument, TraceFormat
from traceanalyzer.traces.decoding.window import Window
from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.input.codecs import Reader
from traceanalyzer.traces.input.limits import Limits
from traceanalyzer.traces.tally import Tally

_KEY = re.compile(rb'"traceEvents"\s*:\s*(?=\S)')
_BOM = b"\xef\xbb\xbf"
_SEARCH = 1 << 16
_KNOWN = re.compile(
    rb'"(baseTimeNanoseconds|schemaVersion|traceName|displayTimeUnit|host_name)"\s*:\s*("[^"\n]*"|-?\d+)'
)
_DISTRIBUTED = re.compile(rb'"distributedInfo"\s*:\s*\{')
_SCALARS = re.compile(rb'"(backend|rank|world_size|pg_count)"\s*:\s*("[^"\n]*"|-?\d+)')


EMPTY = "it is empty"


class NotATraceError(Exception):
    """The data holds no event array. `what` says what it is instead; `foreign` if it is sound but something else."""

    def __init__(self, what: str, *, foreign: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.foreign = foreign


class Document:
    """One trace document. Iterate `frames` to its end, then `metadata` is complete."""

    __slots__ = ("_bare", "_limits", "_log", "_scanner", "_tally", "_window", "metadata")

    def __init__(self, window: Window, limits: Limits, tally: Tally, log: DefectLog) -> None:
        self._window = window
        self._limits = limits
        self._tally = tally
        self._log = log
        self._scanner = EventScanner(window, limits, tally, log)
        self._bare = False
        self.metadata: dict[str, bytes] = {}
        """Top-level keys but `traceEvents`, each with its JSON text."""

    @property
    def ranks(self) -> None:
        """Events tell the ranks."""

    def frames(self) -> Iterator[Decoded]:
        """The events in order. Raises `NotATraceError` before the first if there is no event array."""
        self._head()
        while True:
            yield from self._scanner.array()
            if not self._another_array():
                break
        self._tail()

    # before the events -----------------------------------------------------------------------------------------------

    def _head(self) -> None:
        window = self._window
        window.fill(_SEARCH)
        if window.text.startswith(_BOM):
            window.keep(len(_BOM))
        first = window.skip_space()
        if first == ord("["):
            self._bare = True
            window.keep(window.position + 1)
            self._require_object_first()
            return
        if first != ord("{"):
            raise NotATraceError(_describe(window.text[window.position :]))
        match = self._find_key()
        if match is None:
            self._no_events()
            return
        if window.text[match.end() : match.end() + 1] != b"[":
            raise NotATraceError("its `traceEvents` is not a list", foreign=True)
        self._add_metadata(window.text[window.position + 1 : match.start()])
        window.keep(match.end() + 1)

    def _require_object_first(self) -> None:
        first = self._window.skip_space()
        if first is not None and first not in b"{]":
            raise NotATraceError("a JSON list whose elements are not events", foreign=True)

    def _find_key(self) -> re.Match[bytes] | None:
        """The first `"traceEvents":` that is a key of the document itself; the first of all if none can be proved."""
        window = self._window
        size = _SEARCH
        while True:
            window.fill(size)
            matches = list(_KEY.finditer(window.text, window.position + 1))
            for match in matches:
                if _parse_members(window.text[window.position + 1 : match.start()]) is not None:
                    return match
            if matches or window.over or size >= self._limits.metadata_bytes:
                return matches[0] if matches else None
            size *= 8

    def _no_events(self) -> None:
        text = self._window.text[self._window.position :]
        if self._window.over and _parse_members(text[1:].rstrip().removesuffix(b"}")) is not None:
            raise NotATraceError("JSON without `traceEvents`", foreign=True)
        raise NotATraceError("it ends before its first event" if self._window.over else _describe(text))

    def _add_metadata(self, members: bytes) -> None:
        found = _parse_members(members)
        if found is None:
            found = _parse_members(repair_tokens(members)[0]) or _parse_members(
                repair_tokens(repair_quotes(members))[0]
            )
            self._log.add("json.damaged_metadata", events=0, byte_from=self._window.at)
        if found is None:
            found = {m[1].decode(): m[2] for m in _KNOWN.finditer(members)}
            if distributed := _DISTRIBUTED.search(members):
                scalars = dict(_SCALARS.findall(members, distributed.end())[:4])
                found["distributedInfo"] = b"{" + b",".join(b'"%s":%s' % item for item in scalars.items()) + b"}"
        self.metadata.update({key: value for key, value in found.items() if key != "traceEvents"})

    # after the events ------------------------------------------------------------------------------------------------

    def _another_array(self) -> bool:
        """Whether the document has one more event array; passes to its first element."""
        window = self._window
        if self._bare or window.skip_space() is None:
            return False
        window.fill(_SEARCH)
        for match in _KEY.finditer(window.text, window.position):
            members = window.text[window.position : match.start()].strip().strip(b",")
            if window.text[match.end() : match.end() + 1] != b"[" or _parse_members(members) is None:
                continue
            self._add_metadata(members)
            self._log.add("json.repeated_events_key", events=0, byte_from=window.offset + match.start())
            window.keep(match.end() + 1)
            return True
        return False

    def _tail(self) -> None:
        window = self._window
        if "json.truncated" in self._log and window.over and window.position == len(window.text):
            return
        window.fill(self._limits.metadata_bytes)
        if self._bare:
            self._after_document()
            return
        first = window.skip_space()
        if first is None:
            self._log.add("json.truncated", events=0, byte_from=window.at)
            return
        text = window.text[window.position :]
        members = text.lstrip(b", \t\r\n")
        try:
            found = _MEMBERS.decode(b"{" + members)
            end = len(window.text)
        except msgspec.DecodeError as error:
            place = re.search(r"trailing characters \(byte (\d+)\)", str(error))
            if place is None:
                self._damaged_tail(text)
                return
            end = len(window.text) - len(members) + int(place[1]) - 2
            found = _parse_members(window.text[len(window.text) - len(members) : end - 1]) or {}
        except (RecursionError, UnicodeDecodeError):
            self._damaged_tail(text)
            return
        self.metadata.update({key: bytes(value) for key, value in found.items() if key != "traceEvents"})
        window.keep(end)
        self._after_document()

    def _damaged_tail(self, text: bytes) -> None:
        """The rest is no JSON: what can be read of it, whether it ends or was cut."""
        stripped = text.rstrip()
        if stripped.endswith(b"}"):
            self._add_metadata(stripped.removesuffix(b"}").strip().strip(b","))
        else:
            self._log.add("json.truncated", events=0, byte_from=self._window.at)
            found = {m[1].decode(): m[2] for m in _KNOWN.finditer(text)}
            self.metadata.update(found)
        self._window.keep(len(self._window.text))

    def _after_document(self) -> None:
        """Account for what follows the document, without keeping it in memory."""
        window = self._window
        if window.skip_space() is None:
            return
        begin = window.at
        padding, lost, another = True, 0, False
        while window.position < len(window.text) or not window.over:
            text = window.text[window.position :]
            padding = padding and not text.strip(b"\0 \r\n\t")
            lost += text.count(b'"ph"')
            another = another or b'"traceEvents"' in text
            window.drop(len(window.text), "trailing")
            window.fill(_SEARCH)
        if lost and another:
            self._tally.drop_events("second_document", lost)
        code = "json.second_document" if lost and another else "json.trailing_bytes"
        self._log.add(code, events=lost if another else 0, byte_from=begin, byte_to=window.at)


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _parse_members(text: bytes) -> dict[str, bytes] | None:
    """The members of an object without its braces; None if they are no JSON."""
    try:
        found = _MEMBERS.decode(b"{" + text.strip().strip(b",") + b"}")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return {key: bytes(value) for key, value in found.items()}


def _describe(text: bytes) -> str:
    """What data that is no JSON object looks like."""
    start = text[:256].lstrip()
    if not start.strip(b"\0 \r\n\t"):
        return EMPTY if not text else "it holds nothing but padding"
    if start[:1] == b"<":
        return "it is an HTML or XML page, not JSON"
    if b"'traceEvents'" in text[:65536] or start.startswith(b"{'"):
        return "it is a printed Python object, not JSON"
    return "it is not JSON"


def _opened(stream: Reader, _file: str, limits: Limits, tally: Tally, log: DefectLog) -> OpenDocument:
    return Document(Window(stream, tally, log, most=limits.file_bytes), limits, tally, log)


CHROME_TRACE = TraceFormat(
    endings=("json",),
    examples=("rank0.json", "x.pt.trace.json.gz"),
    written_by=(
        "a Kineto trace that has at least one complete event (what torch.profiler's export_chrome_trace wrote)"
    ),
    recognises=lambda head: head.lstrip().startswith((b"{", b"[")),
    opened=_opened,
)
