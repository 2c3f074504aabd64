"""`review.json` as a file: written in one way, read strictly.

What is not a review, is damaged or is of a newer version is refused in one line: nothing that was read by guess goes on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from traceanalyzer.errors import InputError, TraceAnalyzerError
from traceanalyzer.regular_file import read_regular
from traceanalyzer.review.result import SCHEMA_VERSION, Review

T = TypeVar("T")
REVIEW_FILE = "review.json"
MAX_BYTES = 1 << 30
_AGAIN = "make it again: traceanalyzer analyze TRACES --json review.json"


class _Version(msgspec.Struct):
    """What is read first, whatever else there is."""

    schema_version: int


def to_json(review: Review) -> bytes:
    """The review as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(review), indent=2) + b"\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema of `review.json`."""
    return msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Review)))


def schema_text() -> str:
    """The file `review.schema.json` of this package."""
    return json.dumps(json_schema(), indent=1) + "\n"


def read_review(path: Path | str) -> Review:
    """The review in a file. Raises `InputError` if it is none, is damaged, or is of another version."""
    try:
        content = read_regular(Path(path), MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(f"{path}: cannot be read: {reason}", "give a review.json or the folder of a result") from None
    return decode_review(content, str(path))


def decode_review(content: bytes, name: str) -> Review:
    """The review in the bytes of the file `name`. Raises `InputError`."""
    version = _decoded(content, _Version, name).schema_version
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{name}: a review of version {version}; this program reads version {SCHEMA_VERSION}",
            "read it with a newer traceanalyzer, or make it again with this one",
        )
    if version < SCHEMA_VERSION:
        raise InputError(f"{name}: a review of version {version}, which is no longer read", _AGAIN)
    return _decoded(content, Review, name)


def _decoded(content: bytes, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except TraceAnalyzerError as error:  # a model or hardware that cannot be
        reason = error.message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
    raise InputError(f"{name}: not a review, or a damaged one: {reason}", _AGAIN)
