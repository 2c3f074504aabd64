"""Writing results: a file is written whole or not at all, and no cell of a CSV file can run as a formula."""

from __future__ import annotations

import errno
import os
import stat
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
    """A file to write piece by piece, which takes its place at `path` only when the block ends without an error.

    A link is written through: what it leads to is replaced, not the link. Raises `OSError`, also where a pipe, device or
    folder is at `path`.
    """
    path = _target(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
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


def write_private(path: Path, content: bytes | memoryview) -> None:
    """Write a file of our own folder, durable and readable by its owner only. Raises `OSError`."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_result(target: str | Path, content: bytes) -> None:
    """Write a result to a file, to a pipe or device, or to standard output for `-`. Raises `OutputError`."""
    if is_standard_output(target):
        if sys.stdout.isatty():
            content = printable(content.decode("utf-8", "replace")).encode()
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    write_streamed(Path(target), lambda file: file.write(content), "report.html")


def printable(text: str) -> str:
    """Text without anything that a terminal obeys or that turns its reading order: `?` in its place; line ends are kept.

    Escape sequences, carriage returns, C1 controls, bidirectional and zero-width marks are none that Python prints.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else " " if c == "\t" or (c.isspace() and c not in _BREAKS) else "?"
        for c in text
    )


def is_standard_output(target: str | Path) -> bool:
    """Whether a target is our own standard output, by any of its names."""
    return str(target) in _STANDARD_OUTPUT


def write_streamed(path: Path, write: Callable[[BinaryIO], object], example: str) -> None:
    """Let `write` fill the file `path` piece by piece; it is whole or not there at all. Raises `OutputError`.

    A pipe or device is written to as it stands: it is never replaced by a file.
    """
    try:
        if _takes_bytes(path):
            with _opened_stream(path) as stream:
                write(stream)
            return
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: not a regular file", f"give the path of a file, for example {example}")
        with whole_file(path) as file:
            write(file)
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError) as error:  # before Python 3.13 a loop of links is a RuntimeError
        raise OutputError(
            f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}", _ELSEWHERE
        ) from None


def check_writable(target: str | Path) -> None:
    """Raise `OutputError` if a result could not be written to a target: asked before minutes of work, not after.

    A regular file is tried for by making a temporary one beside it, which is removed at once.
    """
    path = Path(target)
    if is_standard_output(target):
        return
    try:
        if _takes_bytes(path):
            if not os.access(path, os.W_OK):
                raise OutputError(f"{path}: cannot be written: permission denied", _ELSEWHERE)
            return
        if path.is_dir():
            raise OutputError(f"{path}: is a folder", "give the path of a file")
        with tempfile.NamedTemporaryFile(prefix=".", suffix=".tmp", dir=_target(path).parent):
            pass
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(
            f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}", _ELSEWHERE
        ) from None


def _target(path: Path) -> Path:
    """Where a path leads. Raises `OSError` for links that lead in a circle."""
    if not path.is_symlink():
        return path
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return real


def _takes_bytes(path: Path) -> bool:
    """Whether a pipe or a device is at a path."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or str(path).startswith(_DESCRIPTORS)


def _opened_stream(path: Path) -> BinaryIO:
    """A pipe or device, opened for writing; a descriptor of our own is written where it stands."""
    number = str(path).rpartition("/")[2]
    if str(path).startswith(_DESCRIPTORS) and number.isdigit():
        return os.fdopen(os.dup(int(number)), "wb")
    if str(path) == "/dev/stderr":
        return os.fdopen(os.dup(2), "wb")
    return os.fdopen(os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)), "wb")


_BREAKS = "\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"
_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/", "/dev/stderr")
_STANDARD_OUTPUT = {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}
_ELSEWHERE = "choose a folder that exists, can be written to and has space left; nothing was left behind"


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
