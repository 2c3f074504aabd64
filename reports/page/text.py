"""Text of traces made safe to read. Escaping for HTML is the template's work (autoescape).

Names come from traces and may be hostile: characters that lie to a reader (controls, bidirectional overrides,
zero-width characters) are made visible.
"""

from __future__ import annotations

import re
import unicodedata

MAX_TEXT = 2000
"""Longest text that is shown, in characters."""

_TEX = re.compile(r"\$\$|\\[()\[\]]")


def safe_text(text: str, limit: int = MAX_TEXT) -> str:
    """One line of honest characters, at most `limit` long: invisible ones become `⟨U+202E⟩`."""
    shown = "".join(map(_visible, text[:limit]))
    return shown + (f"… ({len(text):,} characters)" if len(text) > limit else "")


def _visible(character: str) -> str:
    if character in "\n\t":
        return " "
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}:
        return f"⟨U+{ord(character):04X}⟩"
    return character


def chart_text(text: str, limit: int = 60) -> str:
    """`safe_text` for words drawn in a chart, where Bokeh would typeset what stands between TeX delimiters."""
    return _TEX.sub(lambda match: f"{match[0][0]}\u2060{match[0][1]}", safe_text(text, limit))
