"""What to read: ranks of files, names of columns, chosen ranks and steps."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from traceanalyzer.errors import UsageError
from traceanalyzer.regular_file import read_regular
from traceanalyzer.traces.op_table import load_column_map

_MAX_RANK = 1 << 31
_MOST_CHOSEN = 1 << 20
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def load_columns(path: Path | None) -> dict[str, str] | None:
    """Our names of an op table's columns and the file's from a JSON object. Raises `UsageError`."""
    return None if path is None else load_column_map(path)


def load_rank_map(given: str | Path | None) -> dict[str, int] | None:
    """Ranks by file name or pattern from a JSON object or a file with one. Raises `UsageError`."""
    if given is None:
        return None
    text = str(given)
    hint = 'write a JSON object of file names (or patterns) and ranks: {"host_1234.*": 0}'
    try:
        content = text.encode() if text.lstrip().startswith("{") else read_regular(text, 16 << 20)
        ranks = msgspec.json.decode(content, type=dict[str, int])
    except (msgspec.MsgspecError, OSError, RecursionError, ValueError) as error:
        raise UsageError(f"{text}: not a rank map: {error}", hint) from None
    if any(not 0 <= rank < _MAX_RANK for rank in ranks.values()):
        raise UsageError(f"{text}: a rank is negative or too large", hint)
    return ranks


def chosen_numbers(option: str, text: str | None) -> frozenset[int] | None:
    """The numbers in a list such as `0,4-7`; None without one. Raises `UsageError`."""
    if text is None:
        return None
    ranges = number_ranges(option, text)
    if sum(last - first + 1 for first, last in ranges) > _MOST_CHOSEN:
        raise UsageError(f"{option} '{text}' names more than {_MOST_CHOSEN:,} numbers", "leave it out to take all")
    return frozenset(number for first, last in ranges for number in range(first, last + 1))


def number_ranges(option: str, text: str) -> list[tuple[int, int]]:
    """First and last number of every range of a list such as `0,4-7`. Raises `UsageError`."""
    found = [_RANGE.fullmatch(part.strip()) for part in text.split(",")]
    ranges = [(int(match[1]), int(match[2] or match[1])) for match in found if match]
    if len(ranges) < len(found) or any(first > last for first, last in ranges):
        noun = option.lstrip("-")
        raise UsageError(f"{option} '{text}' is not a list of {noun}", "write numbers and ranges, for example 0,4-7")
    return ranges
