"""JSON text, byte by byte, compiled by numba: the grammar of RFC 8259 and nothing else.

Functions take the address of text that ends in sixteen zero bytes: zero is legal nowhere in JSON, so no position has
to be compared with the end. A position below zero says that the text is no JSON here. Positions are int64, words of
eight bytes uint64; they must not be mixed, or numba computes in floats.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

_numba: Any = importlib.import_module("numba")  # has no types
_extending: Any = importlib.import_module("numba.extending")
_ir: Any = importlib.import_module("llvmlite.ir")
_types: Any = importlib.import_module("numba.core.types")

inner: Any = _numba.njit(nogil=True, error_model="numpy")
"""Compiles with the function that calls it."""
entry: Any = _numba.njit(cache=True, nogil=True, error_model="numpy")
"""Compiles at the first call and keeps the machine code on disk; runs without the interpreter's lock."""

ESCAPES, NON_ASCII, DOUBTFUL = 1, 2, 4
"""What a text holds: simple escapes; bytes beyond ASCII; something the exact decoder has to look at."""

_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_QUOTES = np.uint64(0x2222222222222222)
_BACKSLASHES = np.uint64(0x5C5C5C5C5C5C5C5C)
SPACES = np.uint64(0x2020202020202020)
_TRUE, _FALSE, _NULL = np.uint64(0x65757274), np.uint64(0x65736C6166), np.uint64(0x6C6C756E)
_FOUR, _FIVE = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFFFF)
_MOST_NESTED = 60
_MOST_DIGITS = 18  # as many always fit int64


@_extending.intrinsic
def word_at(_context: Any, _address: Any, _position: Any) -> Any:  # noqa: ANN401 - numba's own types
    """The eight bytes at `address + position` as uint64, wherever they lie."""

    def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401 - llvmlite's own types
        word = _ir.IntType(64)
        pointer = builder.inttoptr(builder.add(args[0], args[1]), word.as_pointer())
        return builder.load(pointer, align=1)

    return _types.uint64(_types.int64, _types.int64), generate


@_extending.intrinsic
def byte_at(_context: Any, _address: Any, _position: Any) -> Any:  # noqa: ANN401 - numba's own types
    """The byte at `address + position` as int64."""

    def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401 - llvmlite's own types
        pointer = builder.inttoptr(builder.add(args[0], args[1]), _ir.IntType(8).as_pointer())
        return builder.zext(builder.load(pointer), _ir.IntType(64))

    return _types.int64(_types.int64, _types.int64), generate


@_extending.intrinsic
def put(_context: Any, _address: Any, _position: Any, _value: Any) -> Any:  # noqa: ANN401 - numba's own types
    """Write an int64 to `address + position`."""

    def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401 - llvmlite's own types
        pointer = builder.inttoptr(builder.add(args[0], args[1]), _ir.IntType(64).as_pointer())
        builder.store(args[2], pointer, align=8)

    return _types.void(_types.int64, _types.int64, _types.int64), generate


@_extending.intrinsic
def _trailing_zeros(_context: Any, _word: Any) -> Any:  # noqa: ANN401 - numba's own types
    """How many of a word's low bits are zero; the word is not zero."""

    def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:  # noqa: ANN401 - llvmlite's own types
        return builder.cttz(args[0], _ir.Constant(_ir.IntType(1), 1))

    return _types.int64(_types.uint64), generate


@inner
def space_end(address: int, at: int) -> int:
    """The next byte that is no white space."""
    while True:
        c = byte_at(address, at)
        if c > 32:
            return at
        if c == 32 and word_at(address, at) == SPACES:
            at += 8
        elif c == 32 or c == 10 or c == 13 or c == 9:  # noqa: PLR1714 - `in` is slower compiled
            at += 1
        else:
            return at


@inner
def string_end(address: int, at: int) -> tuple[int, int]:
    """The closing quote of the string whose first byte is at `at`, and what the string holds."""
    holds = 0
    while True:
        word = word_at(address, at)
        quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
        # the lowest set bit is right: a borrow only reaches bytes above a hit
        hits = ((quote - _ONES) & ~quote) | ((backslash - _ONES) & ~backslash) | ((word - SPACES) & ~word)
        hits &= _HIGHS
        if hits == 0:
            if word & _HIGHS:
                holds |= NON_ASCII
            at += 8
            continue
        skipped = _trailing_zeros(hits) >> 3
        if (word & _HIGHS) & ((np.uint64(1) << np.uint64(8 * skipped)) - np.uint64(1)):
            holds |= NON_ASCII
        at += skipped
        c = byte_at(address, at)
        if c == ord('"'):
            return at, holds
        if c != ord("\\"):
            return -1, holds  # a control character, or the end
        c = byte_at(address, at + 1)
        if c == ord("u"):
            holds |= DOUBTFUL
        elif not (
            c == ord('"') or c == ord("\\") or c == ord("/") or c == ord("n") or c == ord("t") or c == ord("r")
            or c == ord("b") or c == ord("f")
        ):  # fmt: skip
            return -1, holds
        holds |= ESCAPES
        at += 2


@inner
def _digits_end(address: int, at: int) -> int:
    while True:
        c = byte_at(address, at)
        if c < ord("0") or c > ord("9"):
            return at
        at += 1


@inner
def number_end(address: int, at: int) -> tuple[int, int]:
    """Where the number at `at` ends, and where its fraction's first digit stands: below zero without fraction.

    A number that may fit neither 64 bits nor a double ends below zero less two: it is JSON, but doubtful.
    """
    start = at + 1 if byte_at(address, at) == ord("-") else at
    at = _digits_end(address, start)
    if at == start or (byte_at(address, start) == ord("0") and at > start + 1):
        return -1, -1
    doubtful = at - start > _MOST_DIGITS
    fraction = -1
    if byte_at(address, at) == ord("."):
        fraction = at + 1
        at = _digits_end(address, fraction)
        if at == fraction:
            return -1, -1
    if byte_at(address, at) | 32 == ord("e"):
        at += 1
        if byte_at(address, at) == ord("+") or byte_at(address, at) == ord("-"):
            at += 1
        start = at
        at = _digits_end(address, at)
        if at == start:
            return -1, -1
        doubtful = True
    return (-at - 2 if doubtful else at), fraction


@inner
def scalar_end(address: int, at: int) -> tuple[int, int]:
    """Where the string, number or word at `at` ends, and what it holds."""
    c = byte_at(address, at)
    if c == ord('"'):
        end, holds = string_end(address, at + 1)
        return (end + 1 if end >= 0 else -1), holds
    if c == ord("-") or (c >= ord("0") and c <= ord("9")):
        end, _ = number_end(address, at)
        return (-end - 2, DOUBTFUL) if end < -1 else (end, 0)
    word = word_at(address, at)
    if word & _FOUR == _TRUE or word & _FOUR == _NULL:
        return at + 4, 0
    return (at + 5 if word & _FIVE == _FALSE else -1), 0


@inner
def member(address: int, at: int) -> tuple[int, int, int]:
    """Where the value of the member at `at` begins, where its key ends (it begins after `at`), what the key holds."""
    if byte_at(address, at) != ord('"'):
        return -1, -1, 0
    end, holds = string_end(address, at + 1)
    if end < 0:
        return -1, -1, 0
    at = space_end(address, end + 1)
    return (space_end(address, at + 1) if byte_at(address, at) == ord(":") else -1), end, holds


@inner
def next_member(address: int, at: int) -> tuple[int, bool]:
    """After a value at whose end `at` is: where the next member begins, or where the object ends and that it does."""
    at = space_end(address, at)
    c = byte_at(address, at)
    if c == ord("}"):
        return at + 1, True
    return (space_end(address, at + 1) if c == ord(",") else -1), False


@inner
def value_end(address: int, at: int) -> tuple[int, int]:
    """Where the JSON value at `at` ends, and what it holds; text nested more than sixty deep is taken for no JSON."""
    objects = np.uint64(0)  # one bit for each open bracket: is it an object's
    depth, holds = 0, 0
    while True:
        c = byte_at(address, at)
        if c == ord("[") or c == ord("{"):
            depth += 1
            if depth > _MOST_NESTED:
                return -1, holds
            is_object = c == ord("{")
            objects = (objects << np.uint64(1)) | np.uint64(is_object)
            at = space_end(address, at + 1)
            if byte_at(address, at) != c + 2:  # closing brackets stand two after opening ones
                if is_object:
                    at, _, found = member(address, at)
                    holds |= found
                    if at < 0:
                        return -1, holds
                continue
        else:
            at, found = scalar_end(address, at)
            holds |= found
            if at < 0 or depth == 0:
                return at, holds
        at, depth, objects, found = _closing(address, at, depth, objects)
        holds |= found
        if at < 0 or depth == 0:
            return at, holds


@inner
def _closing(address: int, at: int, depth: int, objects: Any) -> tuple[int, int, Any, int]:  # noqa: ANN401 - a uint64
    """Pass what closes after a value; where the next value begins, or the whole ends if `depth` becomes 0.

    Last, what the key before the next value holds.
    """
    holds = 0
    while True:
        at = space_end(address, at)
        c = byte_at(address, at)
        is_object = objects & np.uint64(1) == np.uint64(1)
        if c == ord(","):
            at = space_end(address, at + 1)
            if is_object:
                at, _, holds = member(address, at)
            return at, depth, objects, holds
        if c != (ord("}") if is_object else ord("]")):
            return -1, depth, objects, holds
        at += 1
        depth -= 1
        objects >>= np.uint64(1)
        if depth == 0:
            return at, depth, objects, holds
