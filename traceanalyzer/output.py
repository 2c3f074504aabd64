"""Writing results: a file is written whole or not at all, and no cell of a CSV file can run as a formula."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from traceanalyzer.errors import OutputError

if TYPE_CHECKING:
    import polars as pl

_FORMULA = r"^[=+\-@\t\r]"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, readable by its owner only. Raises `OSError`; leaves nothing."""
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Generator[BinaryIO]:
    """A file to write piece by piece, which takes its place at `path` only when the block ends without an error."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_result(target: str | Path, content: bytes) -> None:
    """Write a result to a file, or to standard output for `-`. Raises `OutputError`."""
    if target == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    write_streamed(Path(target), lambda file: file.write(content), "report.html")


def write_streamed(path: Path, write: Callable[[BinaryIO], object], example: str) -> None:
    """Let `write` fill the file `path` piece by piece; it is whole or not there at all. Raises `OutputError`."""
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: not a regular file", f"give the path of a file, for example {example}")
    try:
        with whole_file(path) as file:
            write(file)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error}",
            "choose a folder that exists, can be written to and has space left; nothing was left behind",
        ) from None


def flat(table: pl.DataFrame) -> pl.DataFrame:
    """The table with every list as text, `[1 2]`, and every category as text."""
    import polars as pl  # noqa: PLC0415 - help of a command must not wait for it

    lists = [
        pl.concat_str(pl.lit("["), pl.col(name).cast(pl.List(pl.String)).list.join(" "), pl.lit("]")).alias(name)
        for name, dtype in table.schema.items()
        if dtype.is_nested()
    ]
    return as_words(table.with_columns(lists))


def as_words(table: pl.DataFrame) -> pl.DataFrame:
    """The table with every category as text."""
    import polars as pl  # noqa: PLC0415 - see above

    names = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)]
    return table.with_columns(pl.col(names).cast(pl.String))


def csv_text(table: pl.DataFrame) -> str:
    """The table as CSV. Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    import polars as pl  # noqa: PLC0415 - see above

    text = pl.col(pl.String)
    return (
        flat(table)
        .with_columns(pl.when(text.str.contains(_FORMULA)).then("'" + text).otherwise(text).name.keep())
        .write_csv()
    )
