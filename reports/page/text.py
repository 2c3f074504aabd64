"""Text and numbers as a reader sees them: the one place where data becomes words.

Names come from traces and may be hostile. Escaping for HTML is the template's work (autoescape); here the
characters that lie to a reader (controls, bidirectional overrides, zero-width characters) are made visible.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Literal

from markupsafe import Markup, escape

Unit = Literal["share", "ms", "us", "ns", "ratio", "count", "bytes", "flops", "flops_per_second", "number"]

WITHHELD = "withheld"
NO_REASON = "the review gives no value and no reason"
MAX_TEXT = 600
"""Longest text from data that is shown, in characters."""
SPACE = "\u202f"
"""Narrow no-break space: between digit groups, and between number and unit."""

_DECIMAL_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BINARY_PREFIXES = ((2.0**40, "Ti"), (2.0**30, "Gi"), (2.0**20, "Mi"), (2.0**10, "Ki"), (1.0, ""))
_TEX = re.compile(r"\$\$|\\[()\[\]]")
_NUMBER_IN_PROSE = re.compile(r"(?<![\w.])[−+-]?\d[\d\u202f\u2009 .,]*?\d?\s?(?:%|×|ms|µs|s|points|MFU)(?![\w])")


def safe_text(value: object, limit: int = MAX_TEXT) -> str:
    """`value` as one line of honest characters, at most `limit` long: invisible ones become `⟨U+202E⟩`.

    Lists are joined by commas, null is empty, and what is no number (NaN, infinity) is withheld.
    """
    text = _spelled(value)
    shown = "".join(_visible(c) for c in text[:limit])
    return shown + (f"… ({len(text)} characters)" if len(text) > limit else "")


def _spelled(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return WITHHELD
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_spelled(entry)}" for key, entry in value.items())
    return ", ".join(map(_spelled, value)) if isinstance(value, list | tuple) else str(value)


def _visible(character: str) -> str:
    if character in "\n\t" or character == SPACE:
        return " " if character != SPACE else character
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}:
        return f"⟨U+{ord(character):04X}⟩"
    return character


def chart_text(value: object, limit: int = 60) -> str:
    """`safe_text` for words drawn in a chart, where Bokeh would typeset what stands between TeX delimiters."""
    return _TEX.sub(lambda match: f"{match[0][0]}\u2060{match[0][1]}", safe_text(value, limit))


def number(value: object) -> float | None:
    """`value` as a finite number; None for everything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def quantity(value: object, unit: Unit) -> str:
    """A value with its unit: three significant digits, whole digits always kept; `withheld` where there is none."""
    finite = number(value)
    return WITHHELD if finite is None else _SPELLINGS[unit](finite)


def _digits(value: float, significant: int = 3) -> str:
    if value == 0:
        return "0"
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    text = f"{round(value, decimals):,.{decimals}f}".replace(",", SPACE)
    return text.replace("-", "−")


def _duration_text(milliseconds: float) -> str:
    size = abs(milliseconds)
    for least, factor, unit in ((10_000.0, 1e-3, "s"), (1.0, 1.0, "ms"), (1e-3, 1e3, "µs")):
        if size >= least:
            return f"{_digits(milliseconds * factor)}{SPACE}{unit}"
    return f"{_digits(round(milliseconds * 1e6))}{SPACE}ns" if size else f"0{SPACE}ms"


def _prefixed(value: float, prefixes: tuple[tuple[float, str], ...], unit: str) -> str:
    for factor, prefix in prefixes:
        if abs(value) >= factor:
            return f"{_digits(value / factor)}{SPACE}{prefix}{unit}"
    return f"{_digits(value)}{SPACE}{unit}"


_SPELLINGS: dict[Unit, Callable[[float], str]] = {
    "share": lambda value: f"{_digits(100 * value)}{SPACE}%",
    "ms": _duration_text,
    "us": lambda value: _duration_text(value / 1e3),
    "ns": lambda value: _duration_text(value / 1e6),
    "ratio": lambda value: f"{_digits(value)}×",
    "count": lambda value: _digits(round(value), 1),
    "bytes": lambda value: _prefixed(value, _BINARY_PREFIXES, "B"),
    "flops": lambda value: _prefixed(value, _DECIMAL_PREFIXES, "FLOP"),
    "flops_per_second": lambda value: _prefixed(value, _DECIMAL_PREFIXES, "FLOP/s"),
    "number": _digits,
}


def emphasised(sentence: str) -> Markup:
    """A sentence as HTML with its measured numbers set off; everything else is escaped."""
    text, parts, last = safe_text(sentence), list[str](), 0
    for match in _NUMBER_IN_PROSE.finditer(text):
        parts += [str(escape(text[last : match.start()])), f"<b>{escape(match[0])}</b>"]
        last = match.end()
    return Markup("").join(Markup(part) for part in [*parts, str(escape(text[last:]))])  # noqa: S704 - all parts escaped


def at(review: object, *path: str) -> Any:  # noqa: ANN401 - a review is JSON
    """The value at `path` in the review; None where any part of the path is missing or null."""
    for key in path:
        if not isinstance(review, Mapping):
            return None
        review = review.get(key)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - JSON
    return review


def listed(review: object, *path: str) -> list[Any]:
    """The list at `path`; empty where there is none."""
    found = at(review, *path)
    return list(found) if isinstance(found, list | tuple) else []


def records(review: object, *path: str) -> list[Mapping[str, Any]]:
    """The list of objects at `path`; anything that is no object is left out."""
    return [entry for entry in listed(review, *path) if isinstance(entry, Mapping)]


def texts(review: object, *path: str) -> list[str]:
    """The list of sentences at `path`, made safe; a lone sentence is a list of one."""
    found = at(review, *path)
    return [safe_text(entry) for entry in ([found] if isinstance(found, str) else listed(review, *path)) if entry]


def withheld_reason(review: Mapping[str, Any], *metrics: str) -> str:
    """Why the first of `metrics` (or a part or parent of it) has no value, in the review's own words."""
    for metric in metrics:
        for entry in records(review, "quality", "withheld"):
            name = str(entry.get("metric", ""))
            if name == metric or name.startswith(f"{metric}.") or metric.startswith(f"{name}."):
                return safe_text(entry.get("reason") or NO_REASON)
    return NO_REASON


def shown(review: Mapping[str, Any], unit: Unit, *path: str) -> str:
    """The value at `path` with its unit, or `withheld: reason`."""
    value = at(review, *path)
    if number(value) is None:
        return f"{WITHHELD}: {withheld_reason(review, '.'.join(path))}"
    return quantity(value, unit)
