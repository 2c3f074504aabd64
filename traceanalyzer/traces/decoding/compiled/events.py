"""Events of a trace to numbers in arrays, in one pass over the text, compiled by numba.

What an event holds that is written in no common way makes the event *odd*: its row only shows where it stands, and the
exact decoder reads it. So there is one meaning of every text, and this module need not know it whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from traceanalyzer.traces.decoding.compiled import grammar as json_scan
from traceanalyzer.traces.decoding.compiled import strings as string_table
from traceanalyzer.traces.decoding.compiled.grammar import (
    DOUBTFUL,
    ESCAPES,
    byte_at,
    entry,
    inner,
    member,
    next_member,
    number_end,
    put,
    space_end,
    string_end,
    value_end,
    word_at,
)
from traceanalyzer.traces.decoding.compiled.strings import first_bytes, string_number

START, DURATION, DEVICE, STREAM, CORRELATION, EXTERNAL, FLOW = range(7)
"""Columns of a row that hold nanoseconds and ids, and bits of `KNOWN`; ids that are unsigned fit int64 too."""
KNOWN = 7
"""Column of a row: which numbers there are."""
PH, CATEGORY, NAME, PROCESS, THREAD = range(8, 13)
"""Columns of a row: the number of the string, 0 if absent."""
ARGS_START, ARGS_END = 13, 14
"""Columns of a row: from where to where the text of `args` stands; of the event itself if it is odd."""
NUM_COLUMNS = 16
ODD = 1 << 7
"""Bit of `KNOWN`: the event is odd."""
_ARGS, _OTHER = 14, 15
_ROW_BYTES = 8 * NUM_COLUMNS
_MOST_ID_DIGITS = 18
_MOST_MICROSECONDS = 9_223_372_036_854_774


def _word(key: bytes) -> np.uint64:
    """The first eight bytes of a key."""
    return np.uint64(int.from_bytes(key[:8].ljust(8, b"\0"), "little"))


_W_PH, _W_CAT, _W_NAME, _W_PID, _W_TID = _word(b"ph"), _word(b"cat"), _word(b"name"), _word(b"pid"), _word(b"tid")
_W_TS, _W_DUR, _W_ID, _W_ARGS = _word(b"ts"), _word(b"dur"), _word(b"id"), _word(b"args")
_W_DEVICE, _W_STREAM, _W_CORRELATION = _word(b"device"), _word(b"stream"), _word(b"correlat")
_W_EXTERNAL, _W_OLDER, _W_ION, _W_ID3 = _word(b"External"), _word(b"external"), _word(b"ion"), _word(b" id")
_LONGEST_KEY, _SHORT_ARGUMENT, _LONG_ARGUMENT = 4, 6, 11


@inner
def _field(address: int, start: int, end: int) -> int:  # noqa: PLR0911 - a loop over a table takes twice the time
    """What a member of an event is: a column of a row, `_ARGS` or `_OTHER`."""
    if end - start > _LONGEST_KEY:
        return _OTHER
    word = first_bytes(word_at(address, start), end - start)
    if word == _W_PH:
        return PH
    if word == _W_CAT:
        return CATEGORY
    if word == _W_NAME:
        return NAME
    if word == _W_PID:
        return PROCESS
    if word == _W_TID:
        return THREAD
    if word == _W_TS:
        return START
    if word == _W_DUR:
        return DURATION
    if word == _W_ID:
        return FLOW
    return _ARGS if word == _W_ARGS else _OTHER


@inner
def _argument(address: int, start: int, end: int) -> int:
    """The column that a member of the arguments fills; `_OTHER` if none."""
    word = word_at(address, start)
    if end - start == _SHORT_ARGUMENT:
        word = first_bytes(word, _SHORT_ARGUMENT)
        return STREAM if word == _W_STREAM else DEVICE if word == _W_DEVICE else _OTHER
    if end - start != _LONG_ARGUMENT:
        return _OTHER
    rest = first_bytes(word_at(address, start + 8), _LONG_ARGUMENT - 8)
    if word == _W_CORRELATION and rest == _W_ION:
        return CORRELATION
    return EXTERNAL if rest == _W_ID3 and (word == _W_EXTERNAL or word == _W_OLDER) else _OTHER  # noqa: PLR1714, SIM109 - slower


@inner
def _text(address: int, at: int, field: int, row: int, table: int) -> tuple[int, int]:
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
    number = string_number(address, start, end, table)
    put(row, 8 * field, number)
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
def _fill(row: int, field: int, value: int) -> None:
    put(row, 8 * field, value)
    put(row, 8 * KNOWN, np.int64(word_at(row, 8 * KNOWN)) | (1 << field))


@inner
def _time(address: int, at: int, field: int, row: int) -> tuple[int, int]:
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
    _fill(row, field, -value if negative else value)
    return end, 0


@inner
def _id(address: int, at: int, field: int, row: int) -> tuple[int, int]:
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
    _fill(row, field, -value if negative else value)
    return end, 0


@inner
def _note_span(row: int, start: int, end: int) -> None:
    put(row, 8 * ARGS_START, start)
    put(row, 8 * ARGS_END, end)


@inner
def _arguments(address: int, at: int, row: int) -> tuple[int, int]:
    """The arguments: where they stand, and the ids in them."""
    if byte_at(address, at) != ord("{"):
        end, _ = value_end(address, at)
        return end, DOUBTFUL
    start, holds, seen = at, 0, 0
    at = space_end(address, at + 1)
    if byte_at(address, at) == ord("}"):
        if at > start + 1:
            _note_span(row, start, at + 1)
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
        at, found_in = value_end(address, at) if field == _OTHER else _id(address, at, field, row)
        holds |= found | found_in
        if at < 0:
            return -1, holds
        at, ended = next_member(address, at)
    _note_span(row, start, at)
    return at, holds


@inner
def _value(address: int, at: int, field: int, row: int, table: int) -> tuple[int, int]:
    """The value of a member of an event."""
    if field == _ARGS:
        return _arguments(address, at, row)
    if PH <= field <= THREAD:
        return _text(address, at, field, row, table)
    if field == FLOW:
        return _id(address, at, FLOW, row)
    return value_end(address, at) if field == _OTHER else _time(address, at, field, row)


@inner
def _event(address: int, at: int, row: int, table: int) -> tuple[int, int]:
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
        at, found_in = _value(address, at, field, row, table)
        holds |= found | found_in
        if at < 0:
            return -1, holds
        at, ended = next_member(address, at)
    return at, holds


@inner
def _scan(address: int, row: int, most: int, table: int) -> tuple[int, int, int, int]:
    """Events of the text at `address`, which begins with one, as far as they are sure: another or the end follows.

    Fills at most `most` rows from the address `row` on. Returns how many there are, where the last ends, where the
    next event or the array's end is, what they hold.
    """
    num_rows, end, following, holds, at = 0, 0, 0, 0, 0
    while num_rows < most:
        start = at
        for column in range(KNOWN, NUM_COLUMNS):
            put(row, 8 * column, 0)
        at, found = _event(address, start, row, table)
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
            put(row, 8 * KNOWN, ODD)
            _note_span(row, start, last)
        num_rows += 1
        row += _ROW_BYTES
        end, following = last, at
        holds |= found
        if c == ord("]"):
            break
    return num_rows, end, following, holds


def _fingerprint() -> int:
    """Of the source of everything compiled into `scan_events`: numba compares only the file a function stands in."""
    files = (Path(str(module.__file__)) for module in (json_scan, string_table))
    return zlib.crc32(b"".join([*(file.read_bytes() for file in files), Path(__file__).read_bytes()]))


def _kept(fingerprint: int) -> Callable[[int, int, int, int], tuple[int, int, int, int]]:
    """`_scan` as machine code that is kept on disk under this fingerprint."""

    @entry
    def scan(address: int, row: int, most: int, table: int) -> tuple[int, int, int, int]:
        if fingerprint < 0:  # never: but what a function closes over is part of its key on disk
            return 0, 0, 0, 0
        return _scan(address, row, most, table)

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
