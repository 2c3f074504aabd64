"""Compressed files to plain bytes: the codec is recognised by the first bytes, never by the name.

Damage ends a stream with what came before it instead of an error.
"""

from __future__ import annotations

import bz2
import codecs
import lzma
from collections.abc import Callable
from typing import BinaryIO, Protocol

import zstandard

from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.input.gzip_stream import MAGIC, GzipReader

_BLOCK = 1 << 11  # small, because two kilobytes of these codecs can hold many megabytes
_MEMORY = 128 << 20  # xz and zstd windows beyond this are refused
_MAX_NESTING = 4


class Reader(Protocol):
    """Bytes in order; empty at the end."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""
        ...


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


_MAGIC: tuple[tuple[bytes, str], ...] = (
    (MAGIC, "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)


def codec_of(head: bytes) -> str | None:
    """Name of the codec that data starting with `head` is compressed with; None for plain data."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def archive_of(head: bytes) -> str | None:
    """`zip` or `tar` if data starting with `head` (512 bytes suffice) is an archive."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return "tar" if head[257:262] == b"ustar" else None


def _zstd() -> _Decompressor:
    return zstandard.ZstdDecompressor(max_window_size=_MEMORY).decompressobj()


_NEW: dict[str, Callable[[], _Decompressor]] = {
    "zstd": _zstd,
    "xz": lambda: lzma.LZMADecompressor(memlimit=_MEMORY),
    "bzip2": bz2.BZ2Decompressor,
}
_ERRORS = (lzma.LZMAError, zstandard.ZstdError, OSError, EOFError, ValueError)


class Peeked:
    """A reader whose first bytes can be looked at."""

    __slots__ = ("_inner", "head")

    def __init__(self, inner: Reader, size: int = 1024) -> None:
        self._inner = inner
        self.head = b""
        while len(self.head) < size and (more := inner.read(size - len(self.head))):
            self.head += more

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        if not self.head:
            return self._inner.read(size)
        data, self.head = self.head[:size], self.head[size:]
        return data


class _Decompressed:
    """Plain bytes of a compressed stream of any number of members."""

    __slots__ = ("_codec", "_decompressor", "_inner", "_log", "_over", "_ready")

    def __init__(self, inner: Reader, codec: str, log: DefectLog) -> None:
        self._inner = inner
        self._codec = codec
        self._log = log
        self._decompressor = _NEW[codec]()
        self._ready = b""
        self._over = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        while not self._ready and not self._over:
            self._ready = self._more()
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _more(self) -> bytes:
        block = self._inner.read(_BLOCK)
        if not block:
            self._over = True
            if not self._decompressor.eof:
                self._log.add("codec.truncated", events=0, detail=self._codec)
            return b""
        parts: list[bytes] = []
        while block and not self._over:
            if self._decompressor.eof:
                block = self._next_member(block)
                if not block:
                    break
            parts.append(self._feed(block))
            block = self._decompressor.unused_data if self._decompressor.eof else b""
        return b"".join(parts)

    def _next_member(self, block: bytes) -> bytes:
        """Start another member if `block` begins one; padding and garbage end the stream."""
        rest = block.lstrip(b"\0")
        if not rest:
            return b""
        if codec_of(rest) != self._codec:
            self._log.add("codec.trailing_bytes", events=0, detail=f"after the {self._codec} stream")
            self._over = True
            return b""
        self._decompressor = _NEW[self._codec]()
        return rest

    def _feed(self, block: bytes) -> bytes:
        try:
            return self._decompressor.decompress(block)
        except _ERRORS as error:
            self._over = True
            checksum = "check" in str(error).lower() and "header" not in str(error).lower()
            self._log.add("codec.checksum" if checksum else "codec.corrupt", events=0, detail=f"{self._codec}: {error}")
            return b""


class _Transcoded:
    """UTF-16 to UTF-8."""

    __slots__ = ("_decoder", "_inner")

    def __init__(self, inner: Reader) -> None:
        self._inner = inner
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")

    def read(self, size: int) -> bytes:
        """About `size` bytes."""
        while block := self._inner.read(size):
            if text := self._decoder.decode(block):
                return text.encode("utf-8", "replace")
        return self._decoder.decode(b"", final=True).encode()


def open_plain(stream: BinaryIO | Reader, log: DefectLog, reopen: Callable[[], BinaryIO] | None = None) -> Peeked:
    """Peel codecs off `stream`, at most four deep, and convert UTF-16; what is left is plain data or an archive.

    `reopen` opens the same stream from its start, to get the last bytes out of one that breaks off.
    """
    peeked = Peeked(stream)
    for depth in range(_MAX_NESTING):
        codec = codec_of(peeked.head)
        if codec is None:
            break
        inner = (
            GzipReader(peeked, log, reopen if depth == 0 else None)
            if codec == "gzip"
            else _Decompressed(peeked, codec, log)
        )
        peeked = Peeked(inner)
    if peeked.head.startswith((b"\xff\xfe", b"\xfe\xff")):
        log.add("json.other_encoding", events=0)
        peeked = Peeked(_Transcoded(peeked))
    return peeked
