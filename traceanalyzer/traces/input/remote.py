"""Files on object stores and web servers, through fsspec: found by URL, read on where a connection broke.

Only `traces.input.discovery` and `traces.capture` come here, and only for a URL: fsspec and what it opens take a tenth of
a second to import.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from fsspec.core import url_to_fs  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType] - untyped

from traceanalyzer.errors import InputError

TRIES = 5
"""How often a read is tried before the file is given up."""
FIRST_PAUSE_S = 0.2
"""Before the second try; doubled with every further one."""
_ABSENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError)
"""What another try does not change."""
_AGAIN = "run it again: nothing was lost; of an ingest what was finished before is kept"

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Place:
    """A URL's file system and the path in it."""

    url: str
    system: Any
    path: str

    def below(self, name: str) -> Place:
        """The file or folder called `name` below this one."""
        return Place(f"{self.url.rstrip('/')}/{name}", self.system, f"{self.path.rstrip('/')}/{name}")


def place(url: str) -> Place:
    """The file system behind a URL. Raises `InputError` if nothing opens it or its server refuses."""
    try:
        system, path = cast("tuple[Any, str]", url_to_fs(url))
    except ImportError as error:
        raise InputError(
            f"{url}: {error}", "install what opens such URLs: pip install 'traceanalyzer-llm[s3]'"
        ) from None
    except Exception as error:  # noqa: BLE001 - every file system raises its own
        raise InputError(f"{url}: {type(error).__name__}: {error}", "check the URL and your access to it") from None
    return Place(url, system, path)


def files_at(url: str) -> list[str]:
    """URLs of the file, of those that match, or of all below the folder at `url`, sorted. Raises `InputError`."""
    at = place(url)

    def listed() -> list[str]:
        if any(c in at.path for c in "*?["):
            return cast("list[str]", at.system.glob(at.path))
        kind = _kind(at)
        if kind == "directory":
            return cast("list[str]", at.system.find(at.path))
        return [at.path] if kind else []

    return [cast("str", at.system.unstrip_protocol(path)) for path in sorted(_steadily(url, "listed", listed))]


def exists(at: Place) -> bool:
    """Whether there is a file. Raises `InputError` if the server does not answer."""
    return _steadily(at.url, "looked for", lambda: _kind(at)) == "file"


def _kind(at: Place) -> str | None:
    """`file`, `directory`, or None if nothing is. fsspec's `isfile` and its kin take a refusal for absence; `info` raises it."""
    if str(at.path).startswith("http") and at.system.isdir(at.path):
        return "directory"
    try:
        return cast("str", at.system.info(at.path)["type"])
    except FileNotFoundError:
        return None


def read_bytes(at: Place) -> bytes:
    """All of a file. Raises `InputError` if it is not there or cannot be read whole."""
    return _steadily(at.url, "read", lambda: cast("bytes", at.system.cat_file(at.path)))


def version_of(url: str) -> str:
    """What changes when the file does, as its store tells it; empty if it does not. Raises `InputError`."""
    at = place(url)
    details = cast("dict[str, Any]", _steadily(url, "looked at", lambda: at.system.info(at.path)))
    known = [
        str(details[name])
        for name in ("ETag", "etag", "generation", "LastModified", "mtime", "created")
        if details.get(name)
    ]
    return f"version:{known[0]} {details.get('size')}" if known else ""


def open_remote(url: str) -> BinaryIO:
    """Open a file for reading and moving; reads go on where a connection broke. Raises `InputError`."""
    return cast("BinaryIO", io.BufferedReader(Steady(place(url)), buffer_size=1 << 20))


class Steady(io.RawIOBase):
    """A remote file that is opened again, at the same byte, where reading it failed."""

    def __init__(self, at: Place) -> None:
        super().__init__()
        self._at = at
        self._position = 0
        self._version = ""
        self._file: Any = self._opened()

    def _opened(self) -> Any:  # noqa: ANN401 - a file of fsspec, which is untyped
        file = _steadily(self._at.url, "opened", lambda: self._at.system.open(self._at.path, "rb"))
        details = cast("dict[str, Any]", getattr(file, "details", None) or {})
        version = f"{details.get('ETag', '')} {details.get('size', '')} {details.get('LastModified', '')}"
        if self._version and version != self._version:
            raise InputError(f"{self._at.url}: changed while it was read", "give a file that nobody writes any more")
        self._version = version
        file.seek(self._position)
        return file

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer
        """Fill the buffer from the file; 0 at its end."""
        size = len(memoryview(buffer))

        def once() -> bytes:
            if self._file is None:
                self._file = self._opened()
            return cast("bytes", self._file.read(size))

        data = _steadily(self._at.url, f"read beyond byte {self._position:,}", once, self._broken)
        self._position += len(data)
        buffer[: len(data)] = data
        return len(data)

    def _broken(self) -> None:
        self._file = None

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move in the file."""
        self._position = int(self._file.seek(offset, whence))
        return self._position

    def tell(self) -> int:
        """Position in the file."""
        return self._position

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether the server gives parts of a file."""
        return bool(self._file.seekable())

    def close(self) -> None:
        """Close the file."""
        if not self.closed and getattr(self, "_file", None) is not None:
            self._file.close()
        super().close()


def _steadily(
    url: str, what: str, action: Callable[[], _Result], on_failure: Callable[[], None] = lambda: None
) -> _Result:
    """The action's result, tried again after a pause where a server or a connection failed."""
    pause = FIRST_PAUSE_S
    for tried in range(1, TRIES + 1):
        try:
            return action()
        except InputError:
            raise
        except _ABSENT as error:
            raise InputError(f"{url}: {error or type(error).__name__}", "check the URL and your access to it") from None
        except Exception as error:  # noqa: BLE001 - every file system raises its own
            if tried == TRIES:
                reason = f"{type(error).__name__}: {str(error)[:200]}"
                raise InputError(f"{url}: cannot be {what}, tried {TRIES} times: {reason}", _AGAIN) from None
            on_failure()
            time.sleep(pause)
            pause *= 2
    raise AssertionError
