"""The different strings of a piece of text, numbered as they are met; compiled by numba.

A table is one array of int64: the next number; slots that hold numbers; for each number its hash, start and end.
Compiled code gets its address alone: numba counts references to arrays, at a cost that the scan would feel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from traceanalyzer.traces.decoding.compiled.grammar import inner, put, word_at

NUM_STRINGS = 1 << 13
_NUM_SLOTS = 1 << 14
_ENTRIES = 8 + 8 * _NUM_SLOTS
_ENTRY_BYTES = 24
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class StringTable:
    """Memory for the strings of one piece of text."""

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words = np.zeros(1 + _NUM_SLOTS + 3 * NUM_STRINGS, dtype=np.int64)
        self.clear()

    @property
    def address(self) -> int:
        """For `string_number`."""
        return self._words.ctypes.data

    def clear(self) -> None:
        """Forget all strings."""
        self._words[: 1 + _NUM_SLOTS] = 0
        self._words[0] = 1

    def spans(self, end: int) -> npt.NDArray[np.int64]:
        """(2, n): where each string met before `end` stands, by number; 0 belongs to no string and is left out."""
        entries = self._words[1 + _NUM_SLOTS :].reshape(-1, 3)[1 : self._words[0]]
        return np.ascontiguousarray(entries[entries[:, 2] <= end, 1:].T)


@inner
def first_bytes(word: Any, count: int) -> Any:  # noqa: ANN401 - uint64
    """A word of which only the first `count` (0 to 7) bytes are kept."""
    return word & ((np.uint64(1) << np.uint64(8 * count)) - np.uint64(1))


@inner
def _integer(address: int, position: int) -> Any:  # noqa: ANN401 - an int64
    return np.int64(word_at(address, position))


@inner
def string_number(address: int, start: int, end: int, table: int) -> int:
    """The number of the string at `start`, a new one if it was not met before; below zero if there are too many."""
    length = end - start
    value, at = np.uint64(length), start
    while end - at >= 8:
        value = (value ^ word_at(address, at)) * _MULTIPLIER
        value ^= value >> np.uint64(29)
        at += 8
    value = (value ^ first_bytes(word_at(address, at), end - at)) * _MULTIPLIER
    value ^= value >> np.uint64(32)
    slot = np.int64(value & np.uint64(_NUM_SLOTS - 1))
    while True:
        number = _integer(table, 8 + 8 * slot)
        if number == 0:
            break
        entry = _ENTRIES + number * _ENTRY_BYTES
        known = _integer(table, entry + 8)
        same = word_at(table, entry) == value and _integer(table, entry + 16) - known == length
        if same and _same(address, start, known, length):
            return number
        slot = (slot + 1) & (_NUM_SLOTS - 1)
    number = _integer(table, 0)
    if number == NUM_STRINGS:
        return -1
    put(table, 0, number + 1)
    put(table, 8 + 8 * slot, number)
    entry = _ENTRIES + number * _ENTRY_BYTES
    put(table, entry, np.int64(value))
    put(table, entry + 8, start)
    put(table, entry + 16, end)
    return number


@inner
def _same(address: int, one: int, other: int, length: int) -> bool:
    while length >= 8:
        if word_at(address, one) != word_at(address, other):
            return False
        one += 8
        other += 8
        length -= 8
    return first_bytes(word_at(address, one) ^ word_at(address, other), length) == 0
