"""A result without the names that it was measured on: hosts, users, paths, kernels, annotations become stable pseudonyms.

What a pseudonym is: `traceanalyzer.traces.capture.names.pseudonyms`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import polars as pl

from traceanalyzer.analysis.kept import Kept
from traceanalyzer.review import to_json
from traceanalyzer.review.file import decode_review
from traceanalyzer.traces.capture.names.pseudonyms import PATH, USER, pseudonym

_FREE_TEXT = ("metadata",)
"""Columns of `ranks` that hold whatever the job put there: emptied."""
_RANGE = re.compile(r'range "([^"]+)"')
_DESCRIPTION = re.compile(r'"pg_desc"\s*:\s*"([^"]+)"')
_SHORT = 4
"""Names shorter than this are replaced only where they are the whole text."""
_OURS = re.compile(r"^(?:ProfilerStep|train_step|step|default_pg|undefined|mesh_\w+)\b")
"""Words of torch and ours that tell nothing of a job."""


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
                self._pairs[name] = pseudonym(kind, name)
        long = sorted((name for name in self._pairs if len(name) >= _SHORT), key=len, reverse=True)
        self._inside = re.compile("|".join(map(re.escape, long))) if long else None

    def replaced(self, text: str) -> str:
        """A text with every name replaced."""
        if text in self._pairs:
            return self._pairs[text]
        if self._inside is not None:
            text = self._inside.sub(lambda found: self._pairs[found[0]], text)
        if "paths" in self._classes:
            text = PATH.sub(lambda found: pseudonym("paths", found[0]), text)
        if "users" in self._classes:
            text = USER.sub(lambda found: pseudonym("users", found[0]), text)
        return text


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
