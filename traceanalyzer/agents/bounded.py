"""An agent's query or condition in a process of its own, with a bound on time and memory: it is ended, the server goes on.

Polars cannot be interrupted in the middle of a join. The process is given the tables that the query names, and hands back the rows
asked for with how many there are.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

import msgspec
import polars as pl
from msgspec import Struct

from traceanalyzer.errors import UsageError
from traceanalyzer.queries.selection import Selected, Selection, select
from traceanalyzer.queries.sql import answer

MOST_SECONDS = 30.0
MOST_BYTES = 4 << 30
"""Of address space, the interpreter and libraries included."""
_REMEDY = "ask for less: filter before joining, aggregate, or name fewer steps and ranks"


class _Question(Struct, frozen=True):
    tables: dict[str, bytes]
    query: str
    limit: int | None
    most_bytes: int
    wanted: Selection | None = None
    """Of the only table, in place of a query."""


class _Answer(Struct, frozen=True):
    frame: bytes = b""
    num_rows: int = 0
    message: str = ""
    hint: str = ""


def answer_within(
    tables: Mapping[str, pl.DataFrame],
    query: str,
    limit: int,
    seconds: float = MOST_SECONDS,
    most_bytes: int = MOST_BYTES,
) -> Selected:
    """The answer to a query, as `queries.sql.answer` gives it. Raises `UsageError` also where it takes too much."""
    packed = {name: _packed(frame) for name, frame in tables.items()}
    return _asked(_Question(packed, query, limit, most_bytes), seconds)


def select_within(
    frame: pl.DataFrame,
    wanted: Selection,
    name: str,
    seconds: float = MOST_SECONDS,
    most_bytes: int = MOST_BYTES,
) -> Selected:
    """Rows of a table, as `queries.selection.select` gives them. Raises `UsageError` also where a condition takes too much."""
    if wanted.where is None:  # nothing that an agent wrote is evaluated
        return select(frame, wanted, name)
    return _asked(_Question({name: _packed(frame)}, "", wanted.limit, most_bytes, wanted), seconds)


def _asked(asked: _Question, seconds: float) -> Selected:
    most_bytes = asked.most_bytes
    try:
        done = subprocess.run(
            [sys.executable, "-m", "traceanalyzer.agents.bounded"],
            input=msgspec.msgpack.encode(asked),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"the query takes more than {seconds:g} seconds", _REMEDY) from None
    found = _Answer()
    with suppress(msgspec.MsgspecError):
        found = msgspec.msgpack.decode(done.stdout, type=_Answer)
    if found.message:
        raise UsageError(found.message, found.hint)
    if done.returncode or not found.frame:
        raise UsageError(f"the query takes more than {most_bytes >> 20:,} MiB of memory", _REMEDY)
    return Selected(pl.read_ipc(io.BytesIO(found.frame)), found.num_rows)


def _packed(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer)
    return buffer.getvalue()


def _bound(most_bytes: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # not on Windows, or a lower bound is there
        import resource  # noqa: PLC0415 - POSIX alone

        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))


def _answered(asked: _Question) -> _Answer:
    tables = {name: pl.read_ipc(io.BytesIO(content)) for name, content in asked.tables.items()}
    try:
        found = _found(asked, tables)
    except UsageError as error:
        return _Answer(message=error.message, hint=error.hint)
    return _Answer(frame=_packed(found.frame), num_rows=found.num_rows)


def _found(asked: _Question, tables: Mapping[str, pl.DataFrame]) -> Selected:
    if asked.wanted is None:
        return answer(tables, asked.query, asked.limit)
    ((name, frame),) = tables.items()
    return select(frame, asked.wanted, name)


def main() -> None:
    """Answer one question from standard input on standard output."""
    asked = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Question)
    _bound(asked.most_bytes)
    sys.stdout.buffer.write(msgspec.msgpack.encode(_answered(asked)))


if __name__ == "__main__":
    main()
