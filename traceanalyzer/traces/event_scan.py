"""Events of a trace to numbers in arrays, in one pass over the text, compiled by numba.

What an event holds that is written in no common way makes the event *odd*: its row only tells where it stands, and the
exact decoder reads it. So there is one meaning of every text, and this module need not know it whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from traceanalyzer.traces import json_scan, string_table
from traceanalyzer.traces.json_scan import (
    DOUBTFUL,
    ESCAPES,
    byte_at,
    entry,
    inner,
    member,
    next_member,
    number_end,
    space_end,
    string_end,
    value_end,
    word_at,
)
from traceanalyzer.traces.string_table import MASKS, Strings, string_number

PH, CATEGORY, NAME, PROCESS, THREAD = range(5)
"""Rows of `Columns.texts`."""
START, DURATION, DEVICE, STREAM, CORRELATION, EXTERNAL, FLOW = range(7)
"""Rows of `Columns.numbers` and bits of `Columns.known`."""
ODD = 1 << 7
"""Bit of `Columns.known`: the event is odd, and `spans` is its own text's."""
_ARGS, _OTHER, _TEXT = 8, 9, 10
_MOST_ID_DIGITS = 18
_MOST_MICROSECONDS = 9_223_372_036_854_774


class Columns(NamedTuple):
    """What is known of each event."""

    texts: npt.NDArray[np.int32]
    """(5, n): number of the string, 0 if absent."""
    numbers: npt.NDArray[np.int64]
    """(7, n): nanoseconds and ids; ids that are unsigned fit int64 too."""
    known: npt.NDArray[np.uint8]
    """(n): which numbers there are."""
    spans: npt.NDArray[np.int64]
    """(2, n): from where to where the text of `args` stands; both 0 if there is none."""


def _words(*keys: bytes) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each key."""
    return np.array([int.from_bytes(key[:8].ljust(8, b"\0"), "little") for key in keys], dtype=np.uint64)


_KEYS = _words(b"ts", b"dur", b"id", b"args", b"ph", b"cat", b"name", b"pid", b"tid")
_FIELDS = np.array([START, DURATION, FLOW, _ARGS, *(_TEXT + n for n in (PH, CATEGORY, NAME, PROCESS, THREAD))])
_LONGEST_KEY = 4
_ARGUMENTS = _words(b"stream", b"device", b"correlation", b"External id", b"external id")
_ENDS = _words(b"", b"", b"ion", b" id", b" id")
_LENGTHS = np.array([6, 6, 11, 11, 11])
_ARGUMENT_FIELDS = np.array([STREAM, DEVICE, CORRELATION, EXTERNAL, EXTERNAL])


@inner
def _field(address: int, start: int, end: int) -> int:
    """What a member of an event is: a row of `numbers`, `_TEXT` and a row of `texts`, `_ARGS` or `_OTHER`."""
    length = end - start
    if length <= _LONGEST_KEY:
        word = word_at(address, start) & MASKS[length]
        for n in range(_KEYS.size):
            if word == _KEYS[n]:
                return _FIELDS[n]
    return _OTHER


@inner
def _argument(address: int, start: int, end: int) -> int:
    """The row of `numbers` that a member of the arguments fills; `_OTHER` if none."""
    length = end - start
    if length != _LENGTHS[0] and length != _LENGTHS[-1]:
        return _OTHER
    word = word_at(address, start) & (MASKS[length] if length < 8 else ~np.uint64(0))
    rest = word_at(address, start + 8) & MASKS[length - 8] if length > 8 else np.uint64(0)
    for n in range(_ARGUMENTS.size):
        if word == _ARGUMENTS[n] and rest == _ENDS[n] and length == _LENGTHS[n]:
            return _ARGUMENT_FIELDS[n]
    return _OTHER


@inner
def _text(address: int, at: int, field: int, row: int, columns: Columns, strings: Strings) -> tuple[int, int]:
    """A member that is text, or for process and thread a number."""
    c = byte_at(address, at)
    start, end, following, holds = at, at, at, 0
    if c == ord('"'):
        start = at + 1
        end, holds = string_end(address, start)
        following = end + 1
        if end < 0:
            return -1, 0
        if holds & ESCAPES:
            return following, DOUBTFUL
        if start == end and field < PROCESS:
            return following, 0
    elif field >= PROCESS and (c == ord("-") or (c >= ord("0") and c <= ord("9"))):
        end, _ = number_end(address, at)
        following = end
        if end < 0:
            return (-end - 2, DOUBTFUL) if end < -1 else (-1, 0)
    else:
        end, _ = value_end(address, at)
        return end, DOUBTFUL
    number = string_number(address, start, end, strings)
    columns.texts[field, row] = number
    return (following if number >= 0 else -1), holds


@inner
def _whole(address: int, at: int, end: int) -> int:
    """The number that digits mean."""
    value = 0
    while at < end:
        value = value * 10 + (byte_at(address, at) - 48)
        at += 1
    return value


@inner
def _time(address: int, at: int, field: int, row: int, columns: Columns) -> tuple[int, int]:
    """A decimal number of microseconds as nanoseconds."""
    c = byte_at(address, at)
    if c != ord("-") and (c < ord("0") or c > ord("9")):
        end, _ = value_end(address, at)
        return end, DOUBTFUL
    end, fraction = number_end(address, at)
    if end < 0:
        return (-end - 2, DOUBTFUL) if end < -1 else (-1, 0)
    negative = c == ord("-")
    value = _whole(address, at + negative, end if fraction < 0 else fraction - 1)
    num_digits = 0 if fraction < 0 else end - fraction
    if value > _MOST_MICROSECONDS or num_digits > 3:
        return end, DOUBTFUL
    rest = 0 if fraction < 0 else _whole(address, fraction, end)
    while num_digits < 3:
        rest *= 10
        num_digits += 1
    value = value * 1000 + rest
    columns.numbers[field, row] = -value if negative else value
    columns.known[row] |= 1 << field
    return end, 0


@inner
def _id(address: int, at: int, field: int, row: int, columns: Columns) -> tuple[int, int]:
    """An integer; only device and stream may be negative."""
    c = byte_at(address, at)
    negative = c == ord("-")
    if not negative and (c < ord("0") or c > ord("9")):
        end, _ = value_end(address, at)
        return end, DOUBTFUL
    end, fraction = number_end(address, at)
    if end < 0:
        return (-end - 2, DOUBTFUL) if end < -1 else (-1, 0)
    signed = field == DEVICE or field == STREAM  # noqa: PLR1714 - `in` is slower compiled
    if fraction >= 0 or end - at > _MOST_ID_DIGITS or (negative and not signed):
        return end, DOUBTFUL
    value = _whole(address, at + negative, end)
    columns.numbers[field, row] = -value if negative else value
    columns.known[row] |= 1 << field
    return end, 0


@inner
def _arguments(address: int, at: int, row: int, columns: Columns) -> tuple[int, int]:
    """The arguments: where they stand, and the ids in them."""
    if byte_at(address, at) != ord("{"):
        end, _ = value_end(address, at)
        return end, DOUBTFUL
    start, holds, seen = at, 0, 0
    at = space_end(address, at + 1)
    if byte_at(address, at) == ord("}"):
        if at > start + 1:
            columns.spans[0, row], columns.spans[1, row] = start, at + 1
        return at + 1, 0
    ended = False
    while not ended:
        key = at + 1
        at, end, found = member(address, at)
        if at < 0:
            return -1, holds
        field = _argument(address, key, end)
        if found & ESCAPES or (field != _OTHER and seen & (1 << field)):
            holds |= DOUBTFUL
        seen |= 1 << field
        at, found_in = value_end(address, at) if field == _OTHER else _id(address, at, field, row, columns)
        holds |= found | found_in
        if at < 0:
            return -1, holds
        at, ended = next_member(address, at)
    columns.spans[0, row], columns.spans[1, row] = start, at
    return at, holds


@inner
def _value(address: int, at: int, field: int, row: int, columns: Columns, strings: Strings) -> tuple[int, int]:
    """The value of a member of an event."""
    if field >= _TEXT:
        return _text(address, at, field - _TEXT, row, columns, strings)
    if field == _ARGS:
        return _arguments(address, at, row, columns)
    if field == FLOW:
        return _id(address, at, FLOW, row, columns)
    return value_end(address, at) if field == _OTHER else _time(address, at, field, row, columns)


@inner
def _event(address: int, at: int, row: int, columns: Columns, strings: Strings) -> tuple[int, int]:
    """Where the event whose opening brace is at `at` ends, and what it holds."""
    holds, seen = 0, 0
    at = space_end(address, at + 1)
    if byte_at(address, at) == ord("}"):
        return at + 1, DOUBTFUL
    ended = False
    while not ended:
        key = at + 1
        at, end, found = member(address, at)
        if at < 0:
            return -1, holds
        field = _field(address, key, end)
        if found & ESCAPES or (field != _OTHER and seen & (1 << field)):
            holds |= DOUBTFUL
        seen |= 1 << field
        at, found_in = _value(address, at, field, row, columns, strings)
        holds |= found | found_in
        if at < 0:
            return -1, holds
        at, ended = next_member(address, at)
    return at, holds


@inner
def _scan(address: int, columns: Columns, strings: Strings) -> tuple[int, int, int, int]:
    """Events of the text at `address`, from the opening brace that it begins with, as far as they are sure: each followed by another or the array's end.

    Returns how many there are, where the last ends, where the next event or the array's end is, what they hold.
    """
    num_rows, end, following, holds = 0, 0, 0, 0
    at = 0
    while num_rows < columns.known.size:
        start = at
        columns.known[num_rows] = 0
        for field in range(columns.texts.shape[0]):
            columns.texts[field, num_rows] = 0
        columns.spans[0, num_rows], columns.spans[1, num_rows] = 0, 0
        at, found = _event(address, start, num_rows, columns, strings)
        if at < 0:
            break
        last = at
        at = space_end(address, at)
        c = byte_at(address, at)
        if c == ord(","):
            at = space_end(address, at + 1)
            if byte_at(address, at) != ord("{"):
                break
        elif c != ord("]"):
            break
        if found & DOUBTFUL:
            columns.known[num_rows] = ODD
            columns.spans[0, num_rows], columns.spans[1, num_rows] = start, last
        num_rows += 1
        end, following = last, at
        holds |= found
        if c == ord("]"):
            break
    return num_rows, end, following, holds


def _fingerprint() -> int:
    """Of the source of everything compiled into `scan_events`: numba compares only the file a function stands in."""
    files = (Path(str(module.__file__)) for module in (json_scan, string_table))
    return zlib.crc32(b"".join([*(file.read_bytes() for file in files), Path(__file__).read_bytes()]))


def _kept(fingerprint: int) -> Callable[[int, Columns, Strings], tuple[int, int, int, int]]:
    """`_scan` as machine code that is kept on disk under this fingerprint."""

    @entry
    def scan(address: int, columns: Columns, strings: Strings) -> tuple[int, int, int, int]:
        if fingerprint < 0:  # never: but what a function closes over is part of its key on disk
            return 0, 0, 0, 0
        return _scan(address, columns, strings)

    return scan


scan_events = _kept(_fingerprint())


@entry
def gather_text(text: npt.NDArray[np.uint8], spans: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> Any:  # noqa: ANN401 - an array of bytes
    """The pieces of `text` that `spans` (2, n) names, one after another; `offsets` (n + 1) is filled with their ends."""
    total = 0
    for row in range(spans.shape[1]):
        offsets[row] = total
        total += spans[1, row] - spans[0, row]
    offsets[spans.shape[1]] = total
    result = np.empty(total, dtype=np.uint8)
    for row in range(spans.shape[1]):
        start, at = spans[0, row], offsets[row]
        for i in range(spans[1, row] - start):
            result[at + i] = text[start + i]
    return result
