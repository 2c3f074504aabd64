"""A SQLite file of unknown origin, opened so that reading it can do nothing but read plain tables.

SQLite treats the schema inside a file as input, and so do we: the file is opened read-only and as it stands (no journal is
replayed), views, triggers and virtual tables are refused where a table is expected, an authorizer allows `SELECT` on the
wanted tables alone, and no table may give more rows than the file has bytes for.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

MAGIC = b"SQLite format 3\x00"
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}
_CATALOGUE = {"sqlite_master", "sqlite_schema"}
_BATCH = 1 << 15
_MIN_ROW_BYTES = 4
"""A row takes at least its length, its id, a header and one value."""
_MAX_TABLES = 10_000
_VIRTUAL = re.compile(r"(?i)^\s*create\s+virtual\b")


class UnsafeFileError(Exception):
    """The file is damaged, or its schema is none that a plain export has."""


class PlainTables:
    """The wanted tables of an open file: their columns and rows, and nothing else."""

    def __init__(self, connection: sqlite3.Connection, num_bytes: int, columns: Mapping[str, Sequence[str]]) -> None:
        self._connection = connection
        self._most_rows = num_bytes // _MIN_ROW_BYTES
        self.columns = columns
        """Column names by table; only tables that are there."""

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[list[tuple[object, ...]]]:
        """Rows of `columns` in batches; a column that the table lacks is None. Raises `UnsafeFileError`."""
        there = set(self.columns[table])
        chosen = ", ".join(f'"{name}"' if name in there else "NULL" for name in columns)
        left = self._most_rows
        try:
            cursor = self._connection.execute(f'SELECT {chosen} FROM "{table}"')  # noqa: S608 - names are our own
            while batch := cursor.fetchmany(_BATCH):
                left -= len(batch)
                if left < 0:
                    raise UnsafeFileError(f"{table} holds more rows than the file has room for")
                yield batch
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise UnsafeFileError(f"{table}: {error}") from None


@contextmanager
def plain_tables(path: Path, wanted: Collection[str], *, longest: int) -> Generator[PlainTables]:
    """Open the file at `path` and find those of its tables that are `wanted`, upper and lower case as given.

    No text or blob may be longer than `longest` bytes. Raises `UnsafeFileError`.
    """
    try:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.text_factory = _text
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "query_only=ON", "mmap_size=0"):
                connection.execute(f"PRAGMA {pragma}")
            tables = _plain(connection, set(wanted))
            columns = {name: _columns(connection, name) for name in tables}
            connection.set_authorizer(_authorizer(set(tables)))
            yield PlainTables(connection, path.stat().st_size, columns)
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise UnsafeFileError(str(error)) from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _plain(connection: sqlite3.Connection, wanted: set[str]) -> list[str]:
    """Names of the wanted tables that are there. Raises `UnsafeFileError` if one is not a table."""
    found: list[str] = []
    cursor = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    for kind, name, table, sql in cursor.fetchmany(_MAX_TABLES):
        if kind == "trigger" and table in wanted:
            raise UnsafeFileError(f"a trigger stands on {table}")
        if name not in wanted:
            continue
        if kind != "table" or not isinstance(sql, str) or _VIRTUAL.match(sql):
            raise UnsafeFileError(f"{name} is a {'virtual table' if kind == 'table' else kind}, not a table")
        found.append(str(name))
    return found


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Columns that are stored; one that is computed (generated) is none."""
    rows = connection.execute(f'PRAGMA table_xinfo("{table}")').fetchall()
    return [str(name) for _, name, _, _, _, _, hidden in rows if not hidden]


def _authorizer(tables: set[str]):  # noqa: ANN202 - sqlite3 names no type for it
    def allow(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
        del second, database
        plain = action in _ALLOWED and trigger is None
        reads = action != sqlite3.SQLITE_READ or first in tables or first in _CATALOGUE
        return sqlite3.SQLITE_OK if plain and reads else sqlite3.SQLITE_DENY

    return allow
