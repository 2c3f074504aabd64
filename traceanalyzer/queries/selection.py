"""Rows of one table: chosen by an expression, columns by name, in an order, at most so many.

Expressions are those of Polars' SQL (`rank == 3 and duration_ms > 2`, `name like '%gemm%'`): they are parsed, never
evaluated as Python.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.options.reading import number_ranges
from traceanalyzer.output import as_words
from traceanalyzer.spelling import did_you_mean

_ORDER = re.compile(r"(?P<minus>-?)(?P<name>\w+)(?:\s+(?P<way>asc|desc))?", re.IGNORECASE)
_FILES = re.compile(
    r"(?:read|scan)_(?:csv|parquet|ipc|json|ndjson|delta|iceberg|avro|excel|database|lines)", re.IGNORECASE
)
_DETAILS = re.compile(r"; valid columns|Resolved plan until failure|: \w+\(\w+[ ({]|: \w+ \{ ")
"""Where a message of Polars begins to repeat what the user can see, or to show its own workings."""
_MOST_CHARACTERS = 20_000
Panic = pl.exceptions.PanicException


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is wanted of a table; None and empty: all of it, as it is."""

    where: str | None = None
    columns: tuple[str, ...] = ()
    sort: str | None = None
    """Names in order, each followed by `asc` or `desc`, or with a leading `-`: `duration_ms desc, rank`."""
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows that were chosen, and how many there are without the limit."""

    frame: pl.DataFrame
    num_rows: int


def select(frame: pl.DataFrame, wanted: Selection, name: str = "the table") -> Selected:
    """The rows and columns that are wanted. Raises `UsageError` naming the expression and the columns there are."""
    names = chosen_columns(frame, wanted.columns, name)
    if wanted.where is not None:
        frame = _where(frame, wanted.where, name)
    if wanted.sort is not None:
        frame = _sorted(frame, wanted.sort, name)
    cut = frame if wanted.limit is None else frame.head(wanted.limit)
    return Selected(cut.select(names) if names else cut, frame.height)


def of_ranks(frame: pl.DataFrame, ranks: str, name: str) -> pl.DataFrame:
    """Rows of the ranks in a list such as `0,4-7`. Raises `UsageError` if the table knows no ranks."""
    ranges = number_ranges("--ranks", ranks)
    if "rank" not in frame.columns:
        raise UsageError(f"the table {name} has no rank to choose by", "leave --ranks out")
    return frame.filter(pl.any_horizontal(pl.col("rank").is_between(first, last) for first, last in ranges))


def chosen_columns(frame: pl.DataFrame, names: Sequence[str], table: str) -> list[str]:
    """`names` without repeats. Raises `UsageError` for one that is not a column."""
    for name in names:
        if name not in frame.columns:
            raise UsageError(f"{table} has no column '{name}'", _remedy(frame, table, name))
    return list(dict.fromkeys(names))


def refuse_files(text: str, option: str) -> None:
    """Refuse an expression or a query that would open a file of its own, or is out of all proportion."""
    found = _FILES.search(text)
    if found is not None:
        raise UsageError(f"{option} may not read files: '{found[0]}'", "ask the tables of PATH alone")
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(f"{option} is longer than {_MOST_CHARACTERS:,} characters", "ask a shorter question")


def one_line(error: BaseException) -> str:
    """What Polars says, as one short line, without plans, lists of columns and syntax trees."""
    text = _DETAILS.split(" ".join(str(error).split()), maxsplit=1)[0]
    return text[:160].rstrip(".,:; ")


def _where(frame: pl.DataFrame, text: str, table: str) -> pl.DataFrame:
    refuse_files(text, "--where")
    try:
        condition = pl.sql_expr(text)
        words = as_words(frame)  # texts can be compared with patterns, categories cannot
        dtype = words.lazy().select(condition).collect_schema().dtypes()
        if dtype != [pl.Boolean]:
            raise UsageError(
                f"--where '{text}' is not a condition: it gives {dtype[0]}", "compare it with something: rank == 3"
            )
        kept = words.with_row_index("").filter(condition)[""]
        return frame[kept]
    except (pl.exceptions.PolarsError, Panic, ValueError, TypeError) as error:
        raise UsageError(
            f"--where '{text}': {one_line(error)}", _remedy(frame, table, _missing(error, frame, text))
        ) from None


def _missing(error: BaseException, frame: pl.DataFrame, text: str) -> str:
    """The name that is not a column; a text in double quotes is taken for one."""
    if not isinstance(error, pl.exceptions.ColumnNotFoundError):
        return ""
    found = re.search(r'"([^"]*)"', str(error))
    name = found[1] if found else ""
    return f'"{name}"' if f'"{name}"' in text and name not in frame.columns else name


def _remedy(frame: pl.DataFrame, table: str, missing: str = "") -> str:
    meant = did_you_mean(missing, frame.columns)
    if missing.startswith('"'):
        meant = f"write texts in single quotes: '{missing.strip(chr(34))}'; "
    return f"{meant}columns of {table}: {', '.join(frame.columns)}"


def _sorted(frame: pl.DataFrame, text: str, table: str) -> pl.DataFrame:
    names, descending = list[str](), list[bool]()
    for part in text.split(","):
        match = _ORDER.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"--sort '{text}' is not a list of columns", "write --sort 'duration_ms desc, rank'")
        names.append(match["name"])
        descending.append(bool(match["minus"]) != ((match["way"] or "").lower() == "desc"))
    chosen_columns(frame, names, table)
    try:
        return frame.sort(names, descending=descending, nulls_last=True, maintain_order=True)
    except (pl.exceptions.PolarsError, Panic) as error:
        raise UsageError(f"--sort '{text}': {one_line(error)}", "sort by columns of numbers or texts") from None
