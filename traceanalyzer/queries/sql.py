"""SQL over all tables of a run, by Polars' own SQL: reading alone, and nothing but these tables."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.output import as_words
from traceanalyzer.queries.durations import with_durations
from traceanalyzer.queries.selection import Panic, Selected, one_line, refuse_files
from traceanalyzer.queries.sources import AS_IT_IS, Reading, tables_at
from traceanalyzer.schema import TABLES
from traceanalyzer.traces.input.discovery import Where

_READS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(select|with|from)\b", re.IGNORECASE | re.DOTALL)


def ask(path: Where, query: str, limit: int | None = None, reading: Reading = AS_IT_IS) -> Selected:
    """The answer to a query over the tables of what is at `path`; tables that it does not name are not read.

    Raises `UsageError` for a query that cannot be answered, `InputError` where nothing can be read.
    """
    check(query)
    return answer(tables_at(path, named_tables(query), reading), query, limit)


def answer(tables: Mapping[str, pl.DataFrame], query: str, limit: int | None = None) -> Selected:
    """The answer to a query over `tables`, each with its durations. Raises `UsageError`."""
    check(query)
    frames = {name: as_words(with_durations(frame)) for name, frame in tables.items()}
    try:
        found = pl.SQLContext(frames, register_globals=False).execute(query, eager=True)
    except (pl.exceptions.PolarsError, Panic, OSError, ValueError, TypeError) as error:
        raise UsageError(f"the query cannot be answered: {one_line(error)}", _remedy(frames)) from None
    return Selected(found if limit is None else found.head(limit), found.height)


def check(query: str) -> None:
    """Raises `UsageError` unless the query does nothing but read tables."""
    refuse_files(query, "a query")
    if _READS.match(query) is None:
        raise UsageError(
            "a query begins with SELECT or WITH",
            'for example "select rank, sum(duration_ms) from kernels group by rank"',
        )


def named_tables(query: str) -> list[str]:
    """Tables whose names stand in the query."""
    words = set(re.findall(r"\w+", query.lower()))
    return [name for name in TABLES if name in words]


def _remedy(frames: Mapping[str, pl.DataFrame]) -> str:
    if not frames:
        return f"tables: {', '.join(TABLES)}"
    return "; ".join(f"columns of {name}: {', '.join(frame.columns)}" for name, frame in frames.items())
