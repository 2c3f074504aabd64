"""The different strings of a piece of text, numbered as they are met; compiled by numba."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from traceanalyzer.traces.json_scan import inner, word_at

NUM_SLOTS = 1 << 15
NUM_STRINGS = 1 << 14
MASKS = np.array([(1 << 8 * n) - 1 for n in range(8)], dtype=np.uint64)
"""What keeps the first n bytes of a word."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Strings(NamedTuple):
    """The different strings, by number."""

    slots: npt.NDArray[np.int32]
    hashes: npt.NDArray[np.uint64]
    spans: npt.NDArray[np.int64]
    """(2, n): from where to where the first of each stands."""
    next: npt.NDArray[np.int64]
    """(1): the number of the next string; 0 is no string's."""


def new_strings() -> Strings:
    """A table without strings."""
    return Strings(
        slots=np.zeros(NUM_SLOTS, dtype=np.int32),
        hashes=np.zeros(NUM_STRINGS, dtype=np.uint64),
        spans=np.zeros((2, NUM_STRINGS), dtype=np.int64),
        next=np.ones(1, dtype=np.int64),
    )


@inner
def string_number(address: int, start: int, end: int, strings: Strings) -> int:
    """The number of the string at `start`, a new one if it was not met before; below zero if there are too many."""
    length = end - start
    value, at = np.uint64(length), start
    while end - at >= 8:
        value = (value ^ word_at(address, at)) * _MULTIPLIER
        value ^= value >> np.uint64(29)
        at += 8
    value = (value ^ (word_at(address, at) & MASKS[end - at])) * _MULTIPLIER
    value ^= value >> np.uint64(32)
    slot = np.int64(value & np.uint64(NUM_SLOTS - 1))
    while True:
        number = strings.slots[slot]
        if number == 0:
            break
        same = strings.hashes[number] == value and strings.spans[1, number] - strings.spans[0, number] == length
        if same and _same(address, start, strings.spans[0, number], length):
            return number
        slot = (slot + 1) & (NUM_SLOTS - 1)
    number = strings.next[0]
    if number == NUM_STRINGS:
        return -1
    strings.next[0] = number + 1
    strings.slots[slot] = number
    strings.hashes[number] = value
    strings.spans[0, number] = start
    strings.spans[1, number] = end
    return number


@inner
def _same(address: int, one: int, other: int, length: int) -> bool:
    while length >= 8:
        if word_at(address, one) != word_at(address, other):
            return False
        one += 8
        other += 8
        length -= 8
    return (word_at(address, one) ^ word_at(address, other)) & MASKS[length] == 0
