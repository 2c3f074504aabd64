"""Where events begin and end in text that may be damaged."""

from __future__ import annotations

import re

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]"]', re.DOTALL)
_KEYS = rb'"(?:ph|name|cat|ts|pid|tid|dur|args|id|bp|s)"'
NEXT_EVENT = re.compile(rb"[}\]\s,](?=\{\s*" + _KEYS + rb"\s*:)")
"""Ends where an event may begin."""
BOUNDARY = re.compile(rb"\}\s*,\s*(?=\{)")
"""A place that may lie between two events; only a successful decode of what precedes it proves it."""
ARRAY_END = re.compile(rb"\}\s*(?=\]\s*(?:[,}]|$))")
_SCALAR = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^\s,\[\]{}"]+', re.DOTALL)


def value_end(text: bytes, start: int, stop: int) -> int | None:
    """End of the bracketed value that begins at `start`, if its brackets close before `stop`."""
    depth = 0
    for match in _TOKEN.finditer(text, start, stop):
        token = match[0]
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
            if depth == 0:
                return match.end()
        elif token == b'"':
            return None  # a string without end
    return None


def scalar_end(text: bytes, start: int) -> int | None:
    """End of the string, number or word that begins at `start`."""
    match = _SCALAR.match(text, start)
    return match.end() if match else None


def boundaries(text: bytes, start: int, stop: int, *, most: int) -> list[tuple[int, int]]:
    """The last places in `text[start:stop]` that may lie between events: (end of one, start of the next), last first.

    Looks at growing pieces from the end, so that a long text is not searched whole.
    """
    size = 1 << 14
    while True:
        begin = max(start, stop - size)
        found = [(m.start() + 1, m.end()) for m in BOUNDARY.finditer(text, begin, stop)]
        if len(found) >= most or begin == start:
            return found[: -most - 1 : -1]
        size *= 8
