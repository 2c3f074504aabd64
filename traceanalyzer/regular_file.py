"""The one way in: every file that is read is a regular file, of bounded size, and lies where it was looked for.

A pipe would be waited for and a device read for ever; a link in a folder that was handed over may lead to any file of the
reader. All functions raise `OSError` whose `strerror` says what is wrong, so that callers name the file and the remedy.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

MOST_BYTES = 1 << 30
"""Of a file that is held in memory as a whole, unless its reader says less."""


class RefusedFileError(OSError):
    """The path leads to something that is not read."""


def open_regular(path: Path | str) -> BufferedReader:
    """Open a regular file for reading, never waiting for the other end of a pipe. Raises `OSError`."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except ValueError as error:  # a null byte in the name
        raise RefusedFileError(errno.EINVAL, str(error), str(path)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise RefusedFileError(errno.EINVAL, "not a regular file; pipes, devices and folders are not read", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path | str, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file of at most `most` bytes. Raises `OSError`.

    What is read counts, not the size that the system states: a file may grow, and files of /proc state none.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise RefusedFileError(errno.EFBIG, f"holds more than {most:,} bytes", str(path))
    return content


def read_text(path: Path | str, most: int = MOST_BYTES) -> str:
    """The UTF-8 text of a regular file, without a byte-order mark. Raises `OSError`, `UnicodeDecodeError`."""
    return read_regular(path, most).decode("utf-8-sig")


def lies_within(path: Path, folder: Path) -> bool:
    """Whether a path, links resolved, is below a folder."""
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # Python 3.11 and 3.12 raise RuntimeError for a loop of links
        return False


def regular_below(folder: Path, pattern: str) -> Iterator[tuple[Path, bool]]:
    """Paths in `folder` that match a pattern, sorted, each with whether it may be read.

    It may if it is a regular file, and no link leads out of the folder.
    """
    for path in sorted(folder.glob(pattern)):
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except (OSError, ValueError):
            regular = False
        yield path, regular and lies_within(path, folder)


def shown(path: Path | str) -> str:
    """A path as text that every output can hold: a byte that is not UTF-8 becomes U+FFFD and its two digits."""
    return "".join(f"\ufffd{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in str(path))
