"""Text that is nearly JSON to JSON: tokens that no JSON number or word may look like, strings that were not escaped.

Nothing here guesses at values: what cannot be known becomes null, and a repaired text still has to decode.
"""

from __future__ import annotations

import math
import re

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN = re.compile(
    rb"(?P<string>" + _STRING + rb")"
    rb"|(?P<empty>:(?=\s*[,}]))"
    rb"|(?P<comma>,(?=\s*[,}\]]))"
    rb"|(?P<number>[-+]?\.?\d[\d.eE+\-]*)"
    rb"|(?P<word>[-+]?[A-Za-z][A-Za-z/]*)",
    re.DOTALL,
)
_NUMBER = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NEGATIVE_SPAN = re.compile(rb"(-?\d+)\.-(\d+)")  # Kineto prints both halves of a negative time with a sign
_LEADING_ZEROS = re.compile(rb"(-?)0+(\d+(?:\.\d+)?)")
_WORDS = (b"true", b"false", b"null")
_CONTROL = re.compile(rb"[\x00-\x1f]")
_BAD_ESCAPE = re.compile(rb"\\(?:(?P<good>[\"\\/bfnrt]|u[0-9a-fA-F]{4})|(?P<bad>.))", re.DOTALL)
_HIGH_LOW = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_VALUE = re.compile(
    rb'(?P<key>"[^"\\\n]{1,80}"\s*:\s*)"(?P<value>.*?)"(?=\s*(?:,\s*"[^"\\\n]{1,80}"\s*:|[}\]]))',
    re.DOTALL,
)
_BARE_QUOTE = re.compile(rb'(?<!\\)"')
_MAX_QUOTE_REPAIR = 1 << 20


def repair_tokens(text: bytes) -> tuple[bytes, frozenset[str]]:
    """Make tokens legal, trusting where strings begin and end. Returns the text and the defect codes it cost."""
    codes: set[str] = set()

    def fix(match: re.Match[bytes]) -> bytes:
        token, kind = match[0], match.lastgroup
        if kind == "string":
            fixed = _fix_string(token)
            codes.update(["json.repaired_text"] if fixed != token else [])
            return fixed
        fixed = _fix_scalar(token, kind)
        codes.update(["json.repaired_number"] if fixed != token else [])
        return fixed

    return _TOKEN.sub(fix, text), frozenset(codes)


def _fix_scalar(token: bytes, kind: str | None) -> bytes:
    if kind == "empty":
        return b": null"
    if kind == "comma":
        return b""
    if kind == "word":
        return token if token in _WORDS else b"null"
    if _NUMBER.fullmatch(token):
        return token
    negative, zeros = _NEGATIVE_SPAN.fullmatch(token), _LEADING_ZEROS.fullmatch(token)
    if negative:
        return negative[1] + b"." + negative[2]
    return zeros[1] + zeros[2] if zeros else b"null"


def _fix_string(token: bytes) -> bytes:
    body = token[1:-1]
    if b"\\" in body:
        body = _BAD_ESCAPE.sub(lambda m: m[0] if m["good"] else b"\\\\" + m["bad"], body)
        body = _HIGH_LOW.sub(lambda m: rb"\ufffd" if m["lone"] else m[0], body)
    body = _CONTROL.sub(lambda m: b"\\u%04x" % m[0][0], body)
    return b'"' + body + b'"'


def fitting_numbers(text: str) -> str:
    """JSON text in which numbers that fit neither 64 bits nor a double are text."""
    return _TOKEN.sub(_quote_unfit, text.encode()).decode()


def _quote_unfit(match: re.Match[bytes]) -> bytes:
    token = match[0]
    if match.lastgroup != "number" or not _NUMBER.fullmatch(token):
        return token
    if token.lstrip(b"-").isdigit():
        fits = len(token) <= 21 and -(1 << 63) <= int(token) < 1 << 64
    else:
        fits = math.isfinite(float(token))
    return token if fits else b'"' + token + b'"'


def repair_quotes(text: bytes) -> bytes:
    """Escape quotes inside string values: a value ends where the next key, or the end of its object, follows."""
    if len(text) > _MAX_QUOTE_REPAIR:
        return text
    return _VALUE.sub(lambda m: m["key"] + b'"' + _BARE_QUOTE.sub(rb"\\\"", m["value"]) + b'"', text)
