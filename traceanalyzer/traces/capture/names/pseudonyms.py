"""Names replaced by stable pseudonyms: which classes of names there are, and what takes the place of one.

A pseudonym is a keyed hash of the name, so that what was made from one job can still be compared. Without a key of your own
(`TRACEANALYZER_REDACT_KEY`) a name that can be guessed can be checked against its pseudonym.
"""

from __future__ import annotations

import hashlib
import os
import re

from traceanalyzer.errors import UsageError

CLASSES = ("hosts", "users", "paths", "kernels", "annotations")
KEY = "TRACEANALYZER_REDACT_KEY"
USER = re.compile(r"(?<=/home/)[^/\s:\"']+|(?<=/Users/)[^/\s:\"']+|(?<=/users/)[^/\s:\"']+")
PATH = re.compile(r"(?<![\w/.:])/(?:[^/\s:\"'|;,]+/)+[^/\s:\"'|;,]*")
_CONSONANTS = "bcdfghjkmnpqrstvwxz"
"""Letters of which no word of a rule can come about."""


def classes_of(text: str | None) -> frozenset[str]:
    """Classes in a list such as `hosts,paths`; `all` is every one. Raises `UsageError`."""
    if text is None:
        return frozenset()
    names = {part.strip() for part in text.split(",") if part.strip()}
    if unknown := sorted(names - {*CLASSES, "all"}):
        raise UsageError(f"--redact '{unknown[0]}' is not a class of names", f"classes: all, {', '.join(CLASSES)}")
    return frozenset(CLASSES if "all" in names else names)


def pseudonym(kind: str, name: str) -> str:
    """What stands for a name of a class, for example `kernel-3f9a0c21d4`."""
    return f"{kind.removesuffix('s')}-{keyed_hash(name, 5)}"


def pseudonymous_word(word: str) -> str:
    """Consonants that stand for a word within a name: `xqkdmzbvr`."""
    number = int(keyed_hash(word.lower(), 5), 16)
    letters = ""
    for _ in range(8):
        number, at = divmod(number, len(_CONSONANTS))
        letters += _CONSONANTS[at]
    return f"x{letters}"


def keyed_hash(text: str, num_bytes: int) -> str:
    """Hexadecimal digits of a hash with the user's key."""
    key = os.environ.get(KEY, "").encode()[:64]
    return hashlib.blake2b(text.encode("utf-8", "replace"), key=key, digest_size=num_bytes).hexdigest()
