"""Names that are nearly right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`did you mean …? ` with at most three known names; empty if none is near.

    A name is near if it holds all words of `name`, or is spelt like it; letter case and punctuation do not count.
    """
    plain = {each: _plain(each) for each in known}
    words = re.findall(r"[a-z]+|\d+", name.lower())
    near = [each for each, text in plain.items() if words and all(word in text for word in words)]
    spelt = difflib.get_close_matches(_plain(name), list(plain.values()), n=3, cutoff=0.7)
    near = near or [each for each, text in plain.items() if text in spelt]
    return f"did you mean {' or '.join(near[:3])}? " if near else ""


def names_hint(name: str, known: Sequence[str], listed: str) -> str:
    """What to do about a name that is not known: the names that are near, else `listed` with all of them."""
    return did_you_mean(name, known).strip() or f"{listed}: {', '.join(known)}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
