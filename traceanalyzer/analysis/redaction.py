"""A result without the names that it was measured on: hosts, users, paths, kernels, annotations become stable pseudonyms.

A pseudonym is a keyed hash of the name, so that two results of one job can still be compared. Without a key of your own
(`TRACEANALYZER_REDACT_KEY`) a name that can be guessed can be checked against its pseudonym.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import polars as pl

from traceanalyzer.analysis.kept import Kept
from traceanalyzer.errors import UsageError
from traceanalyzer.review import to_json
from traceanalyzer.review.file import decode_review

CLASSES = ("hosts", "users", "paths", "kernels", "annotations")
KEY = "TRACEANALYZER_REDACT_KEY"
_FREE_TEXT = ("metadata",)
"""Columns of `ranks` that hold whatever the job put there: emptied."""
_USER = re.compile(r"(?<=/home/)[^/\s:\"']+|(?<=/Users/)[^/\s:\"']+|(?<=/users/)[^/\s:\"']+")
_PATH = re.compile(r"(?<![\w/.:])/(?:[^/\s:\"'|;,]+/)+[^/\s:\"'|;,]*")
_RANGE = re.compile(r'range "([^"]+)"')
_DESCRIPTION = re.compile(r'"pg_desc"\s*:\s*"([^"]+)"')
_SHORT = 4
"""Names shorter than this are replaced only where they are the whole text."""
_OURS = re.compile(r"^(?:ProfilerStep|train_step|step|default_pg|undefined|mesh_\w+)\b")
"""Words of torch and ours that tell nothing of a job."""


def classes_of(text: str | None) -> frozenset[str]:
    """Classes in a list such as `hosts,paths`; `all` is every one. Raises `UsageError`."""
    if text is None:
        return frozenset()
    names = {part.strip() for part in text.split(",") if part.strip()}
    if unknown := sorted(names - {*CLASSES, "all"}):
        raise UsageError(f"--redact '{unknown[0]}' is not a class of names", f"classes: all, {', '.join(CLASSES)}")
    return frozenset(CLASSES if "all" in names else names)


def redacted(kept: Kept, classes: Collection[str]) -> Kept:
    """The result with every name of the chosen classes replaced, wherever it stands."""
    if not classes:
        return kept
    names = _Names(kept, classes)
    tables = {name: _redacted_table(frame, names) for name, frame in kept.tables.items()}
    review = msgspec.json.decode(to_json(kept.review))
    written = msgspec.json.encode(_walk(review, names.replaced))
    return Kept(decode_review(written, "the redacted review"), tables)


class _Names:
    """Originals and their pseudonyms, and the texts that they are replaced in."""

    def __init__(self, kept: Kept, classes: Collection[str]) -> None:
        self._pairs: dict[str, str] = {}
        self._classes = classes
        for kind, found in (
            ("kernels", _kernels(kept.tables)),
            ("annotations", _annotations(kept)),
            ("paths", _paths(kept)),
            ("hosts", _hosts(kept.tables)),
        ):
            for name in found if kind in classes else ():
                self._pairs[name] = _pseudonym(kind, name)
        long = sorted((name for name in self._pairs if len(name) >= _SHORT), key=len, reverse=True)
        self._inside = re.compile("|".join(map(re.escape, long))) if long else None

    def replaced(self, text: str) -> str:
        """A text with every name replaced."""
        if text in self._pairs:
            return self._pairs[text]
        if self._inside is not None:
            text = self._inside.sub(lambda found: self._pairs[found[0]], text)
        if "paths" in self._classes:
            text = _PATH.sub(lambda found: _pseudonym("paths", found[0]), text)
        if "users" in self._classes:
            text = _USER.sub(lambda found: _pseudonym("users", found[0]), text)
        return text


def _pseudonym(kind: str, name: str) -> str:
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), key=os.environ.get(KEY, "").encode()[:64], digest_size=5)
    return f"{kind.removesuffix('s')}-{digest.hexdigest()}"


def _texts(tables: Mapping[str, pl.DataFrame], places: Iterable[tuple[str, str]]) -> Iterator[str]:
    for table, column in places:
        if table in tables and column in tables[table].columns:
            yield from tables[table][column].cast(pl.String).drop_nulls().unique().to_list()


def _kernels(tables: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    places = (
        ("kernels", "name"),
        ("kernel_names", "name"),
        ("missing_kernels", "name"),
        ("roofline", "name"),
        ("culprits", "kernel"),
    )
    return (name for name in _texts(tables, places) if name.strip())


def _hosts(tables: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    return (name for name in _texts(tables, (("ranks", "host"),)) if name.strip())


def _paths(kept: Kept) -> Iterator[str]:
    files = [kept.review.source.path, *_texts(kept.tables, (("ranks", "file"), ("defects", "file")))]
    files += [defect.file for defect in kept.review.quality.defects]
    for file in files:
        for each in (file, Path(file).name, str(Path(file).parent)):
            if len(each) > 1:
                yield each


def _annotations(kept: Kept) -> Iterator[str]:
    described = "\n".join(_texts(kept.tables, (("ranks", "process_groups"),)))
    found = {*_DESCRIPTION.findall(described), *_RANGE.findall(to_json(kept.review).decode().replace('\\"', '"'))}
    found |= {name for name in _texts(kept.tables, (("collectives", "pg_name"),)) if not name.isdigit()}
    return (name for name in sorted(found) if not _OURS.match(name))


def _redacted_table(frame: pl.DataFrame, names: _Names) -> pl.DataFrame:
    for column, dtype in frame.schema.items():
        if column in _FREE_TEXT:
            frame = frame.with_columns(pl.lit("{}").cast(dtype).alias(column))
        elif isinstance(dtype, pl.String | pl.Categorical):
            texts = frame[column].cast(pl.String).drop_nulls().unique()
            new = pl.Series([names.replaced(text) for text in texts], dtype=pl.String)
            if not texts.equals(new):
                frame = frame.with_columns(pl.col(column).cast(pl.String).replace(texts, new).cast(dtype))
    return frame


def _walk(value: Any, replaced: Callable[[str], str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return replaced(value)
    if isinstance(value, list):
        return [_walk(each, replaced) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _walk(each, replaced) for key, each in cast("dict[str, Any]", value).items()}
    return value
