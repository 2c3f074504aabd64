"""Captures without the names of a job: every name is replaced before it is written.

Rules tell what a kernel or range is by words of public libraries in its name. Those words stay, and with them what the
analysis finds; every other word of three letters or more becomes a pseudonym, the same everywhere. Numbers stay.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast

import msgspec
import polars as pl

from traceanalyzer.errors import OutputError
from traceanalyzer.traces.capture.names.pseudonyms import KEY, PATH, USER, keyed_hash, pseudonym, pseudonymous_word
from traceanalyzer.traces.capture.names.public_words import pieces, public_words
from traceanalyzer.traces.defect_codes import CODES
from traceanalyzer.traces.kineto.facts import FileFacts

_WORD = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|[^\W\d_]+")
_ADDRESS = re.compile(r"(?<!\d)\d{1,3}(?:[.\-_]\d{1,3}){3}(?!\d)")
_SHORT = 3
"""Fewer letters than this stay: `F` and `B` of an action, `nn` of a matrix product."""
_INSIDE = 4
"""Letters that a public word must have to be found within a longer one."""
_TEXTS = ("name", "process", "thread", "args")


class Redaction(msgspec.Struct, frozen=True, kw_only=True):
    """What is replaced in a capture."""

    classes: tuple[str, ...]
    """Of `traceanalyzer.traces.capture.names.pseudonyms.CLASSES`."""
    key: str
    """A hash of the user's key: an ingest with another one would give other pseudonyms."""

    @classmethod
    def of(cls, classes: frozenset[str]) -> Redaction | None:
        """None for no class."""
        return cls(classes=tuple(sorted(classes)), key=keyed_hash("key", 4)) if classes else None

    def frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A frame of `ROW_SCHEMA` with its names replaced; those of its host are replaced when that is known."""
        is_kernel = pl.col("category").cast(pl.String).is_in(["kernel", "gpu_memcpy", "gpu_memset"])
        chosen = {"kernels", "annotations"} & set(self.classes)
        if len(chosen) == 1:
            of_kernels = frame.select(is_kernel.fill_null(value=False)).to_series()
            names = replaced(frame["name"], self._text)
            mine = of_kernels if chosen == {"kernels"} else ~of_kernels
            kept = frame.with_columns(pl.when(mine).then(names).otherwise("name").alias("name"))
            return kept.with_columns(replaced(kept["args"], self._text))
        return frame.with_columns(replaced(frame[column], self._text) for column in _TEXTS)

    def without_host(self, frame: pl.DataFrame, host: str | None) -> pl.DataFrame:
        """The frame with the name of a host replaced wherever it stands."""
        names = self._hosts(host)
        if not names:
            return frame
        return frame.with_columns(replaced(frame[column], lambda text: _without(text, names)) for column in _TEXTS)

    def facts(self, facts: FileFacts, rank: int | None = None) -> FileFacts:
        """Facts with their names replaced; `rank` is one that a rank map gives the file."""
        file = self.file(facts.file, facts.host)
        return dataclasses.replace(
            facts,
            file=file,
            run_folder=None if facts.run_folder is None else pseudonym("paths", facts.run_folder),
            digest=keyed_hash(facts.digest, 16),
            recorded_rank=facts.recorded_rank if rank is None else rank,
            host=pseudonym("hosts", facts.host) if facts.host and "hosts" in self.classes else facts.host,
            backend=facts.backend and self._text(facts.backend),
            main_process=facts.main_process and self._process(facts.main_process),
            process_ranks={self._process(name): rank for name, rank in facts.process_ranks.items()},
            process_groups=self._groups(facts.process_groups),
            metadata="{}",
            defects=tuple(self.defect(row, file) for row in facts.defects),
        )

    def file(self, file: str, host: str | None = None) -> str:
        """A trace's path: its folder becomes a pseudonym but for the last, whose words and numbers may tell the rank.

        So it is for `hosts` alone too: profilers put the host into the name.
        """
        if not {"paths", "hosts"} & set(self.classes):
            return file
        path = PurePosixPath(file)
        above = str(path.parent.parent)
        known = {**self._hosts(host), **{found: pseudonym("hosts", found) for found in _ADDRESS.findall(file)}}
        known |= {user: pseudonym("users", user) for user in USER.findall(file)}
        parts = [_apart(part, known, _words) for part in (path.parent.name, path.name) if part]
        return "/".join(([] if above in (".", "/") else [pseudonym("paths", above)]) + parts)

    def defect(self, row: Mapping[str, Any], file: str | None = None) -> dict[str, Any]:
        """A row of `DEFECTS` with the names in its detail replaced, and its file by `file`, which is one without names."""
        meaning = CODES[row["code"]].meaning if row["code"] in CODES else ""
        detail = str(row["message"]).removeprefix(meaning)
        message = meaning + _words(detail) if self.classes else row["message"]
        return {**row, "file": self.source(row["file"]) if file is None else file, "message": message}

    def failure(self, text: str, file: str) -> str:
        """Why a file could not be used."""
        return f"{self.source(file)}: {_words(text.removeprefix(file))}"

    def job(self, content: bytes) -> bytes:
        """The text of a `run.json` with its hosts and free texts replaced; nothing of one that is no JSON object."""
        try:
            job = msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            return b"{}"
        for each in cast("list[Any]", job["ranks"]) if isinstance(job.get("ranks"), list) else []:
            if isinstance(each, dict) and "host" in each and "hosts" in self.classes:
                each["host"] = pseudonym("hosts", str(cast("dict[str, Any]", each)["host"]))
        if isinstance(job.get("action_pattern"), str):
            job["action_pattern"] = self._text(job["action_pattern"])
        return msgspec.json.encode(job | {"extras": {}})

    def source(self, path: str) -> str:
        """A file as the manifest names it and as errors do: its host is not known yet, and may be in its name."""
        return pseudonym("paths", path) if {"paths", "hosts"} & set(self.classes) else path

    def _groups(self, text: str | None) -> str | None:
        return _words(text) if text and "annotations" in self.classes else text

    def _text(self, text: str) -> str:
        if {"kernels", "annotations"} & set(self.classes):
            return _words(text)
        if "paths" in self.classes:
            text = PATH.sub(lambda found: pseudonym("paths", found[0]), text)
        return USER.sub(lambda found: pseudonym("users", found[0]), text) if "users" in self.classes else text

    def _process(self, name: str) -> str:
        """As `frame` changes the column."""
        return name if len({"kernels", "annotations"} & set(self.classes)) == 1 else self._text(name)

    def _hosts(self, host: str | None) -> dict[str, str]:
        if not host or "hosts" not in self.classes:
            return {}
        short = host.partition(".")[0]
        return {name: pseudonym("hosts", name) for name in (host, short) if len(name) > _SHORT}


def replaced(column: pl.Series, change: Callable[[str], str]) -> pl.Series:
    """The column with every text changed; each different one once."""
    texts = column.cast(pl.String).drop_nulls().unique()
    new = pl.Series([change(text) for text in texts], dtype=pl.String)
    return column.cast(pl.String).replace(texts, new).cast(column.dtype).alias(column.name)


def _words(text: str) -> str:
    return _WORD.sub(lambda found: _word(found[0]), text)


@functools.lru_cache(1 << 16)
def _word(run: str) -> str:
    """Letters written together, with what is not public replaced."""
    if run.startswith("\\"):
        return "?" if run.startswith("\\u") and len(run) > 2 else run
    if len(run) < _SHORT or run.lower() in public_words():
        return run
    at, kept = 0, ""
    for found in _within().finditer(run.lower()):
        kept += _rest(run[at : found.start()]) + run[found.start() : found.end()]
        at = found.end()
    return kept + _rest(run[at:])


def _rest(letters: str) -> str:
    """Letters around the public words of a longer one, word for word."""
    return "".join(
        piece if len(piece) < _SHORT or piece.lower() in public_words() else pseudonymous_word(piece)
        for piece in pieces(letters)
    )


@functools.cache
def _within() -> re.Pattern[str]:
    long = sorted((word for word in public_words() if len(word) >= _INSIDE), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, long)))


def _without(text: str, names: Mapping[str, str]) -> str:
    for name, new in names.items():
        text = text.replace(name, new)
    return text


def _apart(text: str, names: Mapping[str, str], change: Callable[[str], str]) -> str:
    """The names in a text replaced, and what is between them changed."""
    if not names:
        return change(text)
    found = re.split("(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")", text)
    return "".join(names[part] if part in names else change(part) for part in found)


def same_redaction(
    folder: Path, before: Redaction | msgspec.UnsetType | None, asked: Redaction | None
) -> Redaction | None:
    """What is replaced in the capture `folder`; `before` is what its manifest says, None for a new one.

    Raises `OutputError` if it was made with other classes or another key.
    """
    earlier = None if isinstance(before, msgspec.UnsetType) else before
    if before is not None and earlier != asked:
        classes = "none" if earlier is None else ",".join(earlier.classes)
        raise OutputError(
            f"{folder}: was made with other pseudonyms (classes: {classes})",
            f"give the same --redact and {KEY}, or choose another --out",
        )
    return asked
